# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a format has no words for, as further fields beside its own: others pass over them, we read them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.dataset import Annotation, Box, DatasetItem, Split
from flow_rag_vla.labeling.detections import Origin, ScoreKind

_ITEM_TEXTS = ("sha256", "source_id", "source", "episode", "licence")


def item_details(item: DatasetItem) -> dict[str, Any]:
    """Of a picture, without its file, size and annotations."""
    return {
        "uid": item.image_id,
        "split": item.split.value,
        "sha256": item.sha256,
        "source_id": item.source_id,
        "source": item.source,
        "episode": item.episode,
        "frame": item.frame,
        "stamp_ns": item.stamp_ns,
        "licence": item.licence,
    }


def item_fields(row: Mapping[str, Any], place: str, image_id: str, split: Split) -> dict[str, Any]:
    """Fields of a DatasetItem; what is not there takes its default, or what is given here.

    Raises:
        DatasetError: ``dataset_corrupt``.
    """
    texts = {name: parsing.text(row.get(name, ""), f"{place}, {name}") for name in _ITEM_TEXTS}
    return {
        "image_id": parsing.text(row.get("uid") or image_id, f"{place}, uid"),
        "split": split_of(row["split"], place) if "split" in row else split,
        "frame": parsing.whole(row.get("frame", 0), f"{place}, frame"),
        "stamp_ns": parsing.whole(row.get("stamp_ns", 0), f"{place}, stamp_ns"),
        **texts,
    }


def split_of(value: Any, place: str) -> Split:
    """A split by its name.

    Raises:
        DatasetError: ``dataset_corrupt``.
    """
    try:
        return Split(value)
    except ValueError as error:
        raise parsing.corrupt(place, f"split {value!r} is none of {', '.join(one.value for one in Split)}") from error


def annotation_details(annotation: Annotation) -> dict[str, Any]:
    """Of an annotation, without its category and outline. ``edges`` is the box, left, top, right, bottom."""
    return {
        "uid": annotation.annotation_id,
        "edges": list(annotation.box),
        "score": annotation.confidence,
        "score_kind": annotation.score_kind.value,
        "validated": annotation.validated,
        "validated_by": annotation.validated_by,
        "track": annotation.track,
        "origin": {
            "model": annotation.origin.model,
            "revision": annotation.origin.revision,
            "prompt": annotation.origin.prompt,
            "threshold": annotation.origin.threshold,
        },
        "version": annotation.version,
    }


def annotation_fields(row: Mapping[str, Any], place: str, annotation_id: str) -> dict[str, Any]:
    """Fields of an Annotation, without category, box and outline; what is not there takes its default.

    Raises:
        DatasetError: ``dataset_corrupt``.
    """
    kind = parsing.text(row.get("score_kind", ScoreKind.HUMAN.value), f"{place}, score_kind")
    if kind not in {known.value for known in ScoreKind}:
        raise parsing.corrupt(place, f"score_kind {kind!r} is none of {', '.join(known.value for known in ScoreKind)}")
    said = parsing.mapping(row.get("origin", {}), f"{place}, origin")
    origin = Origin(
        parsing.text(said.get("model", ""), f"{place}, model"),
        parsing.text(said.get("revision", ""), f"{place}, revision"),
        parsing.text(said.get("prompt", ""), f"{place}, prompt"),
        parsing.number(said.get("threshold", 0.0), f"{place}, threshold"),
    )
    return {
        "annotation_id": parsing.text(row.get("uid") or annotation_id, f"{place}, uid"),
        "confidence": parsing.number(row.get("score", 1.0), f"{place}, score"),
        "score_kind": ScoreKind(kind),
        "validated": parsing.flag(row.get("validated", False), f"{place}, validated"),
        "validated_by": parsing.text(row.get("validated_by", ""), f"{place}, validated_by"),
        "track": parsing.text(row.get("track", ""), f"{place}, track"),
        "origin": origin,
        "version": parsing.whole(row.get("version", 0), f"{place}, version"),
    }


def edges_or(row: Mapping[str, Any], drawn: Box, place: str, tolerance: float = 1e-6) -> Box:
    """The box in the further fields, which is exact, if it is the one that was drawn; else somebody redrew it."""
    if "edges" not in row:
        return drawn
    numbers = [parsing.number(one, f"{place}, edges") for one in parsing.sequence(row["edges"], f"{place}, edges")]
    if len(numbers) != 4 or any(abs(one - other) > tolerance for one, other in zip(numbers, drawn, strict=True)):
        return drawn
    return numbers[0], numbers[1], numbers[2], numbers[3]
