# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Sources and their pictures."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, File, Form, Path, Query, Response, UploadFile

from flow_rag_vla.gateway.access import Labeller, Reviewer, Viewer
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.labels import Labels, kept_upload
from flow_rag_vla.gateway.labeling.paging import USUAL_PAGE, Cursor, Limit
from flow_rag_vla.gateway.labeling.pictures import encoded
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.uploads import decoded
from flow_rag_vla.gateway.labeling.views import picture_given, source_given, source_made
from flow_rag_vla.labeling.datasets.folders import file_digest
from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.pipeline.images import read_image
from flow_rag_vla.labeling.registry.values import ImageDraft, Source, SourceDraft, SourceKind

_SINGLE = (SourceKind.IMAGE, SourceKind.UPLOAD)
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="32 hex digits")]


def source_routes(labels: Labels) -> APIRouter:
    """The routes below ``sources`` and ``images``."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    registry, places = labels.registry, labels.places

    @router.post("/sources", status_code=201)
    def register(sent: schemas.SourceSent, _person: Labeller) -> schemas.SourceMade:
        """Register a picture, folder, video or bag below a folder that the server shows. Twice gives the same one."""
        path = labels.pictures.allowed(sent.file_path)
        width, height = sent.width, sent.height
        single = sent.source_type in _SINGLE
        if single:
            height, width = read_image(path).shape[:2]
        else:
            _check_kind(path, sent.source_type)
        source = registry.add_source(
            SourceDraft(
                kind=sent.source_type,
                path=str(path),
                project=sent.project,
                episode=sent.episode,
                width=width,
                height=height,
                captured_ns=sent.captured_ns,
                licence=sent.licence,
            )
        )
        image_id = ""
        if single:
            draft = ImageDraft(path.name, width, height, stamp_ns=sent.captured_ns)
            image_id = registry.add_images(source.source_id, [draft])[0].image_id
        return source_made(source, image_id, places)

    @router.post("/sources/upload", status_code=201)
    def upload(
        image: Annotated[UploadFile, File()],
        _person: Labeller,
        project: Annotated[str, Form(min_length=1, max_length=schemas.LONGEST_WORD)] = "default",
    ) -> schemas.SourceMade:
        """Send a picture and register it. The same picture twice gives the same source."""
        source, made = kept_upload(registry, decoded(image.file.read()), project)
        return source_made(source, made.image_id, places)

    @router.get("/sources")
    def find(
        _person: Viewer,
        project: Annotated[str, Query(max_length=schemas.LONGEST_WORD)] = "",
        limit: Limit = USUAL_PAGE,
        cursor: Cursor = "",
    ) -> schemas.SourcePage:
        """A page of sources, in the order in which they were registered."""
        found = registry.sources(project, limit=limit + 1, after=cursor)
        items = [source_given(item, places) for item in found[:limit]]
        return schemas.SourcePage(items=items, next_cursor=items[-1].source_id if len(found) > limit else "")

    @router.get("/sources/{source_id}")
    def get(source_id: Id, _person: Viewer) -> schemas.SourceGiven:
        """One source."""
        return source_given(registry.source(source_id), places)

    @router.patch("/sources/{source_id}")
    def describe(source_id: Id, sent: schemas.SourceChangeSent, _person: Reviewer) -> schemas.SourceGiven:
        """Say under which licence a source stands, or when it was taken."""
        made = registry.describe_source(source_id, licence=sent.licence, captured_ns=sent.captured_ns)
        return source_given(made, places)

    @router.post("/sources/{source_id}/images", status_code=201)
    def add_images(source_id: Id, sent: schemas.PicturesSent, _person: Labeller) -> schemas.PictureList:
        """Say which pictures of a folder, or frames of a video or bag, there are. The same one twice gives that one."""
        source = registry.source(source_id)
        made = registry.add_images(source_id, [_draft(labels, source, item) for item in sent.images])
        return schemas.PictureList(items=[picture_given(item) for item in made])

    @router.get("/sources/{source_id}/images")
    def find_images(
        source_id: Id, _person: Viewer, limit: Limit = USUAL_PAGE, cursor: Cursor = ""
    ) -> schemas.PicturePage:
        """A page of a source's pictures, by frame."""
        found = registry.images(source_id, limit=limit + 1, after=cursor)
        items = [picture_given(item) for item in found[:limit]]
        return schemas.PicturePage(items=items, next_cursor=items[-1].image_id if len(found) > limit else "")

    @router.get("/images/{image_id}")
    def get_image(image_id: Id, _person: Viewer) -> schemas.PictureGiven:
        """What is known of one picture."""
        return picture_given(registry.image(image_id))

    @router.get(
        "/images/{image_id}/picture",
        response_class=Response,
        responses={200: {"content": {"image/png": {}, "image/jpeg": {}}, "description": "The picture."}},
    )
    def get_picture(image_id: Id, _person: Viewer) -> Response:
        """The picture itself: a PNG file, JPEG where it is large."""
        source, image = labels.picture_of(image_id)
        data, kind = encoded(labels.pictures.pixels(source, image))
        return Response(data, media_type=kind)

    return router


def _check_kind(path: FilePath, kind: SourceKind) -> None:
    """Refuse a folder, video or bag that is not there: nothing could ever be shown of it."""
    found = {SourceKind.FOLDER: path.is_dir(), SourceKind.VIDEO: path.is_file()}.get(kind, path.exists())
    if not found:
        raise SourceError(f"there is no {kind.value} {path}: copy it there first")


def _draft(labels: Labels, source: Source, sent: schemas.PictureSent) -> ImageDraft:
    """A picture or frame as the registry takes it; a file is measured, a frame has the size of its source unless said.

    Raises:
        GatewayError: 422 ``one_picture``, ``name_needed``, ``size_needed`` or ``unsafe_path``.
        ImageError: a file that is no picture.
    """
    if source.kind in _SINGLE:
        message = f"source {source.source_id} is one picture, which it has already"
        raise GatewayError(422, "one_picture", message, "see its image_id")
    name = sent.name or (FilePath(source.path).name if source.kind is SourceKind.VIDEO else "")
    if not name:
        wanted = "the file's path within the folder" if source.kind is SourceKind.FOLDER else "the topic of the bag"
        raise GatewayError(422, "name_needed", f"a picture of a {source.kind.value} has no name", f"send {wanted}")
    if source.kind is SourceKind.FOLDER:
        file = labels.pictures.allowed(str(FilePath(source.path) / name))
        height, width = read_image(file).shape[:2]
        return ImageDraft(name, width, height, sent.frame, sent.stamp_ns, file_digest(file))
    width, height = sent.width or source.width, sent.height or source.height
    if not (width and height):
        message = f"neither the frame nor source {source.source_id} says how large it is"
        raise GatewayError(422, "size_needed", message, "send width and height")
    return ImageDraft(name.strip("/"), width, height, sent.frame, sent.stamp_ns)
