# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Domain values as answers."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.places import Places
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.registry.queries import SearchAnswer, Statistics
from flow_rag_vla.labeling.registry.values import (
    Category,
    Change,
    Image,
    LabelledObject,
    ObjectLabel,
    Source,
    Track,
)


def object_given(item: LabelledObject) -> schemas.ObjectGiven:
    """An object."""
    return schemas.ObjectGiven(
        object_id=item.object_id,
        version=item.version,
        category=item.category,
        bbox=[float(number) for number in item.box],
        area=item.area,
        confidence=item.score,
        score_kind=item.score_kind,
        state=item.state,
        is_validated=item.state.validated,
        validated_by=item.validated_by,
        validated_ns=item.validated_ns,
        quality_score=item.quality,
        has_mask=bool(item.mask_path),
        embedder="" if item.embedder is None else f"{item.embedder.name}@{item.embedder.revision}",
        model=item.origin.model,
        revision=item.origin.revision,
        prompt=item.origin.prompt,
        threshold=item.origin.threshold,
        source_id=item.source_id,
        image_id=item.image_id,
        frame=item.frame,
        stamp_ns=item.stamp_ns,
        track_id=item.track_id,
        project=item.project,
        attributes=dict(item.attributes),
        created_ns=item.created_ns,
        updated_ns=item.updated_ns,
        deleted=item.deleted,
    )


def source_given(source: Source, places: Places) -> schemas.SourceGiven:
    """A source."""
    return schemas.SourceGiven(**_source_fields(source, places))


def source_made(source: Source, image_id: str, places: Places) -> schemas.SourceMade:
    """A source with its one picture."""
    return schemas.SourceMade(**_source_fields(source, places), image_id=image_id)


def _source_fields(source: Source, places: Places) -> dict[str, Any]:
    return {
        "source_id": source.source_id,
        "source_type": source.kind,
        "file_path": places.shown(source.path),
        "width": source.width,
        "height": source.height,
        "project": source.project,
        "episode": source.episode,
        "captured_ns": source.captured_ns,
        "licence": source.licence,
        "created_ns": source.created_ns,
    }


def picture_given(image: Image) -> schemas.PictureGiven:
    """A picture."""
    return schemas.PictureGiven(
        image_id=image.image_id,
        source_id=image.source_id,
        name=image.name,
        frame=image.frame,
        stamp_ns=image.stamp_ns,
        width=image.width,
        height=image.height,
    )


def change_given(change: Change) -> schemas.ChangeGiven:
    """A line of history."""
    return schemas.ChangeGiven(
        change_id=change.change_id,
        kind=change.kind.value,
        who=change.who,
        stamp_ns=change.stamp_ns,
        before=dict(change.before),
        after=dict(change.after),
        undoes=change.undoes,
        undone=change.undone,
    )


def label_given(label: ObjectLabel) -> schemas.LabelGiven:
    """What a model said of an object."""
    return schemas.LabelGiven(
        category=label.category,
        bbox=list(label.box),
        confidence=label.score,
        score_kind=label.score_kind,
        model=label.origin.model,
        revision=label.origin.revision,
        prompt=label.origin.prompt,
        threshold=label.origin.threshold,
        who=label.who,
        created_ns=label.created_ns,
        change_id=label.change_id,
    )


def track_given(track: Track) -> schemas.TrackSummary:
    """A track without its objects."""
    return schemas.TrackSummary(
        track_id=track.track_id,
        source_id=track.source_id,
        name=track.name,
        categories=list(track.categories),
        length=len(track.object_ids),
        start_frame=track.start_frame,
        end_frame=track.end_frame,
        start_ns=track.start_ns,
        end_ns=track.end_ns,
        avg_confidence=track.mean_score,
    )


def search_given(answer: SearchAnswer) -> schemas.SearchGiven:
    """What a search found."""
    return schemas.SearchGiven(
        items=[schemas.SimilarGiven(similarity=hit.similarity, object=object_given(hit.object)) for hit in answer.hits],
        way=answer.answered.way.value,
        index=answer.answered.index,
        matching=answer.answered.matching,
        compared=answer.answered.compared,
    )


def statistics_given(counts: Statistics) -> schemas.StatisticsGiven:
    """Counts."""
    return schemas.StatisticsGiven(
        objects=counts.objects,
        sources=counts.sources,
        images=counts.images,
        tracks=counts.tracks,
        with_mask=counts.with_mask,
        with_embedding=counts.with_embedding,
        by_category=dict(counts.by_category),
        by_state=dict(counts.by_state),
        by_model=dict(counts.by_model),
        mean_confidence=counts.mean_score,
        validated_share=counts.validated_share,
    )


def category_given(category: Category) -> schemas.CategoryGiven:
    """A category."""
    return schemas.CategoryGiven(
        name=category.name, project=category.project, synonyms=list(category.synonyms), objects=category.objects
    )


def found_fields(found: Detections, seconds: float) -> dict[str, Any]:
    """The fields of schemas.Found."""
    return {
        "width": found.width,
        "height": found.height,
        "boxes": [[float(number) for number in box] for box in found.boxes],
        "labels": list(found.labels),
        "scores": [float(score) for score in found.scores],
        "score_kind": found.score_kind,
        "model": found.origin.model,
        "revision": found.origin.revision,
        "seconds": seconds,
    }


def png_of(mask: NDArray[np.bool_]) -> bytes:
    """PNG of a mask (H, W): one channel, 0 or 255."""
    buffer = io.BytesIO()
    Pillow.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def base64_png(mask: NDArray[np.bool_]) -> str:
    """The same in base64."""
    return base64.b64encode(png_of(mask)).decode()
