# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A dataset of labelled pictures as one value: what curation, training, evaluation and every format share.

Boxes are left, top, right, bottom in pixels from the picture's top left corner; right and bottom are exclusive, so that
right - left is the width. Times are UTC nanoseconds since 1970, 0 unknown. A value that exists is sound: what makes no
sense is refused when it is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.detections import Origin, ScoreKind

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom; see the module."""
Ring: TypeAlias = tuple[float, ...]
"""x, y, x, y, ... in pixels, at least three points; the last one is joined to the first."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SLACK = 1e-3
"""Pixels by which a box or a point may stand over the edge: conversions round. Who makes the value cuts it off."""
_LEAST_RING = 6
NOBODY = Origin("")
"""Of an annotation whose origin was not noted."""


class Split(str, Enum):
    """What a picture is for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One labelled thing in a picture.

    annotation_id: unique in its dataset; of the registry's object where it came from there
    box: see the module; rle: its mask as run lengths, column by column, beginning with those outside (COCO), or empty
    polygons: its outline as drawn, or empty; where rings overlap, they cut each other out (even-odd). Either, not both
    confidence: 0 to 1, of kind ``score_kind``; validated: a person stands behind it; validated_by: who
    track: which thing it is through the frames of a source, "" for none; origin: who said so
    version: of the registry's object at that time, 0: not from a registry
    """

    annotation_id: str
    category: str
    box: Box
    rle: tuple[int, ...] = ()
    polygons: tuple[Ring, ...] = ()
    confidence: float = 1.0
    score_kind: ScoreKind = ScoreKind.HUMAN
    validated: bool = False
    validated_by: str = ""
    track: str = ""
    origin: Origin = NOBODY
    version: int = 0

    @property
    def area(self) -> float:
        """Square pixels: of the mask's run lengths, else of the box."""
        if self.rle:
            return float(sum(self.rle[1::2]))
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One picture with its annotations.

    image_id: unique in its dataset, letters, digits, ``_.-``; file: its name in the dataset's folder of images
    width, height: pixels; sha256: of the file, 64 hex digits, "" unknown
    source_id, source: the registry's source and its path; episode: of the robot, "" none; frame: in the source
    stamp_ns: when it was taken; licence: SPDX id or text, "" unknown

    Raises:
        DatasetError: naming the field, its value and the remedy.
    """

    image_id: str
    file: str
    width: int
    height: int
    split: Split = Split.TRAIN
    sha256: str = ""
    source_id: str = ""
    source: str = ""
    episode: str = ""
    frame: int = 0
    stamp_ns: int = 0
    licence: str = ""
    annotations: tuple[Annotation, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.image_id):
            raise DatasetError(f"image_id {self.image_id[:80]!r}: use up to 100 letters, digits and '_.-'")
        check_file(self.file, self.image_id)
        if self.width <= 0 or self.height <= 0:
            raise DatasetError(f"image {self.image_id} is {self.width} x {self.height} pixels: it has no area")
        for annotation in self.annotations:
            _check_annotation(annotation, self)


@dataclass(frozen=True, slots=True)
class LabelDataset:
    """A version of a dataset.

    name: letters, digits, ``_.-``; version: 1 and up, 0: not stored yet; categories: in the order of their numbers
    items: pictures with their annotations; provenance: plain JSON: filter, ratios, seed, registry, who, formats read
    images: folder of the files that items name; not compared

    Raises:
        DatasetError: an id or file twice, an annotation of a category that is not listed, or a name that is none.
    """

    name: str
    categories: tuple[str, ...]
    items: tuple[DatasetItem, ...]
    version: int = 0
    created_ns: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    images: Path = field(default=Path(), compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        known = set(self.categories)
        if len(known) != len(self.categories) or not all(name.strip() for name in known):
            raise DatasetError(f"categories {list(self.categories)[:20]}: each needs a name of its own")
        _check_unique("image_id", (item.image_id for item in self.items))
        # A file system may not tell capitals from small letters.
        _check_unique("file", (item.file.lower() for item in self.items))
        _check_unique("annotation_id", (one.annotation_id for item in self.items for one in item.annotations))
        for item in self.items:
            for annotation in item.annotations:
                if annotation.category not in known:
                    raise DatasetError(
                        f"{_place(annotation, item)}: there is no category {annotation.category[:80]!r}; known: "
                        f"{', '.join(self.categories[:50]) or 'none'}",
                        "unknown_category",
                    )

    def of_split(self, split: Split) -> tuple[DatasetItem, ...]:
        """The pictures of a split, in their order."""
        return tuple(item for item in self.items if item.split is split)

    def image_path(self, item: DatasetItem) -> Path:
        """Where a picture's file is."""
        return self.images / item.file

    @property
    def label(self) -> str:
        """``name@vN``."""
        return f"{self.name}@v{self.version}"

    @property
    def annotation_count(self) -> int:
        """Annotations in all pictures."""
        return sum(len(item.annotations) for item in self.items)


def check_name(name: str) -> str:
    """The name of a dataset, if it may become a folder.

    Raises:
        DatasetError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise DatasetError(f"dataset name {name[:80]!r}: use up to 100 letters, digits and '_.-'")
    return name


def check_file(file: str, image_id: str) -> str:
    """The name of a picture's file, if it is a plain name.

    Raises:
        DatasetError: with the code ``unsafe_path``.
    """
    if not _FILE.fullmatch(file) or ".." in file:
        raise DatasetError(
            f"image {image_id[:80]}: file {file[:80]!r} is not a plain name of letters, digits and '_.-'", "unsafe_path"
        )
    return file


def _check_unique(what: str, values: Any) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise DatasetError(f"{what} {value[:80]!r} is there twice: each must be unique")
        seen.add(value)


def _place(annotation: Annotation, item: DatasetItem) -> str:
    return f"annotation {annotation.annotation_id[:80]} of image {item.image_id}"


def _check_annotation(annotation: Annotation, item: DatasetItem) -> None:
    box = annotation.box
    inside = _inside(box[0::2], item.width) and _inside(box[1::2], item.height)
    if not inside:
        raise DatasetError(
            f"{_place(annotation, item)}: box {list(box)} is not inside 0, 0, {item.width}, {item.height}",
            "box_outside_image",
        )
    if box[2] <= box[0] or box[3] <= box[1]:
        raise DatasetError(f"{_place(annotation, item)}: box {list(box)} has no area", "box_without_area")
    if not 0.0 <= annotation.confidence <= 1.0:
        raise DatasetError(f"{_place(annotation, item)}: confidence is {annotation.confidence}, expected 0 to 1")
    if not annotation.annotation_id or not annotation.category.strip():
        raise DatasetError(f"{_place(annotation, item)}: it needs an id and a category")
    if annotation.rle:
        sound = min(annotation.rle) >= 0 and sum(annotation.rle) == item.width * item.height
        if annotation.polygons or not sound or not any(annotation.rle[1::2]):
            raise DatasetError(
                f"{_place(annotation, item)}: the run lengths do not make a mask of {item.width} x {item.height} "
                "pixels with something in it, or there is an outline as well",
                "mask_invalid",
            )
    for ring in annotation.polygons:
        sound = len(ring) >= _LEAST_RING and len(ring) % 2 == 0
        if not sound or not _inside(ring[0::2], item.width) or not _inside(ring[1::2], item.height):
            raise DatasetError(
                f"{_place(annotation, item)}: an outline of {len(ring)} numbers is not three or more points inside "
                f"0, 0, {item.width}, {item.height}",
                "mask_invalid",
            )


def _inside(values: tuple[float, ...], limit: int) -> bool:
    return all(math.isfinite(value) and -_SLACK <= value <= limit + _SLACK for value in values)
