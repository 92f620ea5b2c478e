"""Sources and their pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Path, Query, Response, UploadFile

from flow_rag_vla.gateway.access import Labeller, Viewer
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.labels import Labels, kept_upload
from flow_rag_vla.gateway.labeling.paging import USUAL_PAGE, Cursor, Limit
from flow_rag_vla.gateway.labeling.pictures import encoded
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.uploads import decoded
from flow_rag_vla.gateway.labeling.views import picture_given, source_given, source_made
from flow_rag_vla.labeling.pipeline.images import read_image
from flow_rag_vla.labeling.registry.values import ImageDraft, SourceDraft, SourceKind

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
        single = sent.source_type in (SourceKind.IMAGE, SourceKind.UPLOAD)
        if single:
            height, width = read_image(path).shape[:2]
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
