# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Detections and registered objects as messages, and back. What makes no sense raises MessageError."""

from __future__ import annotations

import array
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.registry.queries import Statistics, attribute_terms
from flow_rag_vla.labeling.registry.values import Box, LabelledObject, ReviewState
from flow_rag_vla.labeling.video.bags import SCORE_CODES, detection_fields
from flow_rag_vla.nodes.conversions import floats
from flow_rag_vla.nodes.stamps import to_stamp
from flow_rag_vla_interfaces import msg, srv

MOST_DETECTIONS = 1000
"""In one message."""

STATUS: Mapping[ReviewState, int] = {
    ReviewState.UNREVIEWED: msg.LabelledObject.STATUS_UNREVIEWED,
    ReviewState.ACCEPTED: msg.LabelledObject.STATUS_ACCEPTED,
    ReviewState.REJECTED: msg.LabelledObject.STATUS_REJECTED,
    ReviewState.RELABELLED: msg.LabelledObject.STATUS_RELABELLED,
}
_STATES = {status: state for state, status in STATUS.items()}
SCORE_KINDS: Mapping[int, ScoreKind] = {code: kind for kind, code in SCORE_CODES.items()}


def detections_message(found: Detections, header: Header, ids: Sequence[str] = ()) -> msg.DetectionArray:
    """What was found, with the stamp and frame of its picture."""
    items = []
    for fields in detection_fields(found, ids):
        mask = array.array("B")
        mask.frombytes(np.asarray(fields.pop("mask"), np.uint8).tobytes())
        embedding = floats(fields.pop("embedding"))
        items.append(msg.Detection(**fields, mask=mask, embedding=embedding))
    return msg.DetectionArray(
        header=header,
        width=found.width,
        height=found.height,
        model=found.origin.model,
        revision=found.origin.revision,
        prompt=found.origin.prompt,
        threshold=float(found.origin.threshold),
        detections=items,
    )


def detections_of(message: msg.DetectionArray) -> Detections:
    """What a message says was found.

    Raises:
        MessageError: sizes, boxes, scores, masks or embeddings that make no sense; names the row and its value.
    """
    items = message.detections
    if len(items) > MOST_DETECTIONS:
        raise MessageError(f"{len(items)} detections in one message, at most {MOST_DETECTIONS} are taken")
    boxes = np.array(
        [
            (
                item.center_x - item.size_x / 2,
                item.center_y - item.size_y / 2,
                item.center_x + item.size_x / 2,
                item.center_y + item.size_y / 2,
            )
            for item in items
        ],
        np.float32,
    ).reshape(-1, 4)
    # Centre and size were rounded to float32: an edge may stand over the picture by a hair.
    limits = np.asarray([message.width, message.height] * 2, np.float32)
    near = (boxes > -1e-2) & (boxes < limits + 1e-2)
    boxes = np.where(near, np.clip(boxes, 0.0, limits), boxes)
    kinds = {item.score_kind for item in items}
    if len(kinds) > 1:
        raise MessageError(f"scores of the kinds {sorted(kinds)} in one message; send one message a kind")
    kind = kinds.pop() if kinds else SCORE_CODES[ScoreKind.HUMAN]
    if kind not in SCORE_KINDS:
        raise MessageError(f"score_kind is {kind}, expected one of {sorted(SCORE_KINDS)}")
    try:
        found = Detections(
            int(message.width),
            int(message.height),
            boxes,
            np.array([item.score for item in items], np.float32),
            tuple(str(item.class_id) for item in items),
            SCORE_KINDS[kind],
            Origin(message.model, message.revision, message.prompt, float(message.threshold)),
            embeddings=_embeddings(items),
        )
        masks = _masks(items, found)
        return found if masks is None else Detections(
            found.width, found.height, found.boxes, found.scores, found.labels, found.score_kind, found.origin,
            masks, found.embeddings,
        )  # fmt: skip
    except ValueError as error:
        raise MessageError(str(error)) from None


def boxes_of(values: Sequence[float], width: int, height: int) -> Detections:
    """Rows of left, top, right, bottom in pixels, as what a person found in a picture.

    Raises:
        MessageError: they are none.
    """
    if len(values) % 4 or not 4 <= len(values) <= 4 * MOST_DETECTIONS:
        raise MessageError(f"boxes has {len(values)} numbers, expected 4 for each of 1 to {MOST_DETECTIONS} boxes")
    boxes = np.array(values, np.float32).reshape(-1, 4)
    count = len(boxes)
    scores = np.ones(count, np.float32)
    try:
        return Detections(width, height, boxes, scores, ("box",) * count, ScoreKind.HUMAN, Origin("person"))
    except ValueError as error:
        raise MessageError(str(error)) from None


def object_message(item: LabelledObject, similarity: float = math.nan) -> msg.LabelledObject:
    """A registered object."""
    return msg.LabelledObject(
        object_id=item.object_id,
        source_id=item.source_id,
        image_id=item.image_id,
        track_id=item.track_id,
        project=item.project,
        stamp=to_stamp(item.stamp_ns),
        category=item.category,
        box=[float(value) for value in item.box],
        has_mask=bool(item.mask_path),
        confidence=float(item.score),
        score_kind=SCORE_CODES[item.score_kind],
        model=item.origin.model,
        revision=item.origin.revision,
        status=STATUS[item.state],
        validated_by=item.validated_by,
        version=item.version,
        similarity=float(similarity),
        area=float(item.area),
        attributes=attribute_terms(item.attributes),
        quality=math.nan if item.quality is None else float(item.quality),
        embedder="" if item.embedder is None else f"{item.embedder.name}@{item.embedder.revision}",
        prompt=item.origin.prompt,
        threshold=float(item.origin.threshold),
        frame=item.frame,
        validated=to_stamp(item.validated_ns),
        created=to_stamp(item.created_ns),
        updated=to_stamp(item.updated_ns),
        deleted=item.deleted,
    )


def tell_statistics(counts: Statistics, response: srv.GetLabelStatistics.Response) -> None:
    """Write counts into an answer."""
    for name in ("sources", "images", "objects", "tracks", "with_mask", "with_embedding", "validated_share"):
        setattr(response, name, getattr(counts, name))
    for state in ReviewState:
        setattr(response, state.value, counts.by_state[state.value])
    response.mean_confidence = counts.mean_score
    response.categories, response.category_counts = list(counts.by_category), list(counts.by_category.values())
    response.models, response.model_counts = list(counts.by_model), list(counts.by_model.values())


def state_of(status: int) -> ReviewState:
    """The state that a ``STATUS_*`` names.

    Raises:
        MessageError: it names none.
    """
    if status not in _STATES:
        raise MessageError(f"status is {status}, expected one of {sorted(_STATES)}")
    return _STATES[status]


def box_of(values: Sequence[float]) -> Box:
    """Left, top, right, bottom."""
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom


def _embeddings(items: Sequence[msg.Detection]) -> NDArray[np.float32] | None:
    sizes = {len(item.embedding) for item in items}
    if sizes <= {0}:
        return None
    if len(sizes) > 1:
        raise MessageError(f"embeddings of {sorted(sizes)} numbers in one message, expected one size")
    return np.array([item.embedding for item in items], np.float32)


def _masks(items: Sequence[msg.Detection], found: Detections) -> NDArray[np.bool_] | None:
    if not any(len(item.mask) for item in items):
        return None
    masks = np.zeros((len(items), found.height, found.width), np.bool_)
    for row, (item, box) in enumerate(zip(items, found.boxes, strict=True)):
        if not len(item.mask):
            raise MessageError(f"detection {row} has no mask, others have; send masks for all or none")
        left, top = (int(np.floor(value)) for value in box[:2])
        right, bottom = (int(np.ceil(value)) for value in box[2:])
        masks[row, top:bottom, left:right] = _mask(bytes(item.mask), row, (right - left, bottom - top))
    return masks


def _mask(data: bytes, row: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != size:
                raise MessageError(f"mask {row} is {image.size} pixels, its box {size}")
            return np.asarray(image.convert("L")) > 127
    except MessageError:
        raise
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise MessageError(f"mask {row} is no PNG: {error}") from None
