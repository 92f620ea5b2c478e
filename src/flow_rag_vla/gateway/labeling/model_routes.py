# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the models see in one picture: found, cut out, and on demand registered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from pydantic import Field

from flow_rag_vla.gateway.access import Labeller, Viewer
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.box_masks import masks_in_boxes
from flow_rag_vla.gateway.labeling.box_vectors import vector_in_box
from flow_rag_vla.gateway.labeling.labels import Labels, batch_key, kept_upload
from flow_rag_vla.gateway.labeling.paging import IdempotencyKey
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.uploads import decoded
from flow_rag_vla.gateway.labeling.views import base64_png, found_fields, search_given
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline import LabelingPipeline, LabelRequest
from flow_rag_vla.labeling.pipeline.request import parse_synonyms
from flow_rag_vla.labeling.pipeline.tiles import check_tiles, parse_tiling
from flow_rag_vla.labeling.registration import embedder_of, register_once, request_key
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import Embedder

Classes = Annotated[
    list[Annotated[str, Field(max_length=4000)]],
    Form(
        max_length=100,
        description="words for what is looked for, comma between or sent one by one; none: all that is known",
    ),
]
Synonyms = Annotated[
    list[Annotated[str, Field(max_length=4000)]],
    Form(max_length=100, description="category=word,word: other words to look for, found under the category's name"),
]
Tiles = Annotated[
    str, Form(max_length=20, description="WIDTHxHEIGHT in pixels: also look in tiles of this size, for small things")
]
Confidence = Annotated[float, Form(ge=0.0, le=1.0, allow_inf_nan=False, description="least score that is kept")]
Upload = Annotated[UploadFile, File(description="JPEG, PNG, WebP or BMP")]


def model_routes(labels: Labels) -> APIRouter:
    """The routes that run models."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)

    @router.get("/models")
    def models(_person: Viewer) -> schemas.Models:
        """What labels pictures here."""
        problem = labels.models.problem()
        if problem:
            return schemas.Models(ready=False, name="", revision="", vocabulary=[], problem=problem)
        return labels.models.run(_described)

    @router.post("/detect")
    def detect(
        image: Upload,
        _person: Labeller,
        classes: Classes = [],  # noqa: B006
        confidence: Confidence = 0.5,
        synonyms: Synonyms = [],  # noqa: B006
        tiles: Tiles = "",
    ) -> schemas.Found:
        """Boxes, labels and scores of what is in a picture."""
        pixels = decoded(image.file.read()).pixels
        request = request_of(classes, confidence, synonyms, tiles)
        found, seconds = labels.models.run(lambda pipeline: _labelled(pipeline, pixels, request, masks=False))
        return schemas.Found(**found_fields(found, seconds))

    @router.post("/detect_and_segment")
    def detect_and_segment(
        image: Upload,
        _person: Labeller,
        classes: Classes = [],  # noqa: B006
        confidence: Confidence = 0.5,
        synonyms: Synonyms = [],  # noqa: B006
        tiles: Tiles = "",
    ) -> schemas.FoundWithMasks:
        """The same, with a mask of each."""
        pixels = decoded(image.file.read()).pixels
        request = request_of(classes, confidence, synonyms, tiles)
        found, seconds = labels.models.run(lambda pipeline: _labelled(pipeline, pixels, request, masks=True))
        masks = [] if found.masks is None else [base64_png(mask) for mask in found.masks]
        return schemas.FoundWithMasks(masks=masks, **found_fields(found, seconds))

    @router.post("/segment")
    def segment(
        image: Upload,
        _person: Labeller,
        boxes: Annotated[str, Form(max_length=20_000, description="JSON: [[left, top, right, bottom], ...] in pixels")],
    ) -> schemas.Segmented:
        """A mask for each box, in the order of the boxes."""
        pixels = decoded(image.file.read()).pixels
        asked = _boxes(boxes, pixels)
        found, seconds = labels.models.run(lambda pipeline: masks_in_boxes(pipeline, pixels, asked))
        assert found.masks is not None
        return schemas.Segmented(
            width=asked.width,
            height=asked.height,
            masks=[base64_png(mask) if mask.any() else None for mask in found.masks],
            seconds=seconds,
        )

    @router.post("/auto_label", status_code=201)
    def auto_label(
        image: Upload,
        person: Labeller,
        classes: Classes = [],  # noqa: B006
        confidence: Confidence = 0.5,
        synonyms: Synonyms = [],  # noqa: B006
        tiles: Tiles = "",
        project: Annotated[str, Form(min_length=1, max_length=schemas.LONGEST_WORD)] = "default",
        idempotency_key: IdempotencyKey = None,
    ) -> schemas.AutoLabelled:
        """Find, cut out, embed and register what is in a picture.

        What is registered of the same picture already is not stored a second time, with an Idempotency-Key or without.
        """
        picture, request = decoded(image.file.read()), request_of(classes, confidence, synonyms, tiles)
        found, seconds, embedder = labels.models.run(
            lambda pipeline: _labelled_for_good(pipeline, picture.pixels, request)
        )
        source, kept = kept_upload(labels.registry, picture, project)
        done = register_once(
            labels.registry,
            kept,
            project,
            found,
            who=person.name,
            embedder=embedder,
            key=batch_key(person, idempotency_key),
            # What a key promises is the request: what of it was new is found by what was there.
            content=request_key(kept, kept.digest, found, request),
        )
        return schemas.AutoLabelled(
            masks_count=0 if found.masks is None else sum(bool(mask.any()) for mask in found.masks),
            source_id=source.source_id,
            image_id=kept.image_id,
            object_ids=list(done.object_ids),
            merged=done.labelled + done.known - done.before,
            repeated=done.repeated,
            **found_fields(found, seconds),
        )

    @router.post("/objects/search/image")
    def search_image(
        image: Upload,
        _person: Labeller,
        bbox: Annotated[
            str, Form(max_length=200, description="JSON: [left, top, right, bottom] in pixels; empty: all of it")
        ] = "",
        top_k: Annotated[int, Form(ge=1, le=500)] = 10,
        category: Annotated[str, Form(max_length=schemas.LONGEST_WORD, description="empty: any")] = "",
        project: Annotated[str, Form(max_length=schemas.LONGEST_WORD, description="empty: any")] = "",
    ) -> schemas.SearchGiven:
        """The objects that look most like what is in a picture, or in a box of it."""
        pixels = decoded(image.file.read()).pixels
        height, width = pixels.shape[:2]
        asked = _boxes(f"[{bbox or [0, 0, width, height]}]", pixels)
        if len(asked) != 1:
            raise _invalid_boxes(f"bbox holds {len(asked)} boxes")
        vector, embedder = labels.models.run(lambda pipeline: vector_in_box(pipeline, pixels, asked, not bbox))
        where = ObjectFilter(project=project, categories=(category,) if category else ())
        return search_given(labels.registry.search(vector, embedder, k=top_k, where=where))

    return router


def _described(pipeline: LabelingPipeline) -> schemas.Models:
    words = list(pipeline.detector.vocabulary)
    return schemas.Models(ready=True, name=pipeline.name, revision=pipeline.revision, vocabulary=words, problem="")


def request_of(
    classes: Sequence[str], confidence: float, synonyms: Sequence[str] = (), tiles: str = ""
) -> LabelRequest:
    """What is asked of the models; each text may hold several words with commas between.

    Raises:
        PromptError: a word between two commas is empty, or synonyms are of another form.
        SettingError: tiles are of another form, or too small.
    """
    words = [word.strip() for text in classes if text.strip() for word in text.split(",")]
    return LabelRequest(
        tuple(words), confidence, synonyms=parse_synonyms(synonyms), tiling=parse_tiling(tiles) if tiles else None
    )


def _labelled(
    pipeline: LabelingPipeline, pixels: Any, request: LabelRequest, *, masks: bool
) -> tuple[Detections, float]:
    height, width = pixels.shape[:2]
    check_tiles(width, height, request.tiling)
    # A pipeline without its later stages costs no models: they are the same objects.
    used = pipeline if masks else LabelingPipeline(pipeline.detector)
    done = used.label([pixels], request)[0]
    return done.detections, done.times.total


def _labelled_for_good(
    pipeline: LabelingPipeline, pixels: Any, request: LabelRequest
) -> tuple[Detections, float, Embedder | None]:
    found, seconds = _labelled(pipeline, pixels, request, masks=True)
    return found, seconds, embedder_of(pipeline, found)


def _boxes(text: str, pixels: Any) -> Detections:
    """The boxes as what a person found.

    Raises:
        GatewayError: 422 ``invalid_boxes`` or what is wrong with one of them.
    """
    height, width = pixels.shape[:2]
    try:
        sent = json.loads(text)
        boxes = np.asarray(sent, np.float32)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _invalid_boxes(f"boxes: {error}") from None
    if not isinstance(sent, list) or boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) > schemas.MOST_BOXES:
        raise _invalid_boxes(f"boxes have the shape {boxes.shape}")
    count = len(boxes)
    try:
        return Detections(
            width, height, boxes, np.ones(count, np.float32), ("box",) * count, ScoreKind.HUMAN, Origin("person")
        )
    except ValueError as error:
        raise _invalid_boxes(str(error)) from None


def _invalid_boxes(message: str) -> GatewayError:
    remedy = f"send 1 to {schemas.MOST_BOXES} boxes inside the picture: [[left, top, right, bottom], ...] in pixels"
    return GatewayError(422, "invalid_boxes", message, remedy)
