# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the registry stores and gives back, as values.

All times are UTC nanoseconds since 1970, all ids 32 hex digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Origin, ScoreKind

Vector: TypeAlias = NDArray[np.float32]
"""(D,) float32 of unit length."""
Mask: TypeAlias = NDArray[np.bool_]
"""(height, width) bool, the size of the image."""
Box: TypeAlias = tuple[float, float, float, float]
"""Four numbers as a BoxConvention says; the registry gives back LTRB always."""
Attribute: TypeAlias = str | int | float | bool

DEFAULT_PROJECT = "default"


class BoxConvention(str, Enum):
    """How the four numbers of a box are meant. Pixels count from the image's top left corner."""

    LTRB = "ltrb"
    """left, top, right, bottom; right and bottom are exclusive: right - left is the width."""
    LTRB_INCLUSIVE = "ltrb_inclusive"
    """The same, but right and bottom name the last pixel inside."""
    XYWH = "xywh"
    """left, top, width, height (COCO)."""
    CXCYWH_NORMALISED = "cxcywh_normalised"
    """centre x, centre y, width, height as shares of the image's width and height, 0 to 1 (YOLO)."""


class ReviewState(str, Enum):
    """What people said of an object. ``ACCEPTED`` and ``RELABELLED`` count as validated."""

    UNREVIEWED = "unreviewed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RELABELLED = "relabelled"

    @property
    def validated(self) -> bool:
        """Whether a person stands behind the label."""
        return self in (ReviewState.ACCEPTED, ReviewState.RELABELLED)


class SourceKind(str, Enum):
    """Where images come from."""

    IMAGE = "image"
    FOLDER = "folder"
    VIDEO = "video"
    BAG = "bag"
    SIMULATION = "simulation"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Embedder:
    """Who made a vector: vectors of different embedders are never compared.

    name: of the model; revision: of its weights and preprocessing; dimension: numbers in a vector
    """

    name: str
    revision: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.name}@{self.revision} ({self.dimension} numbers)"


@dataclass(frozen=True, slots=True)
class Project:
    """A set of sources with a vocabulary of its own; closed: only its own categories may be registered."""

    name: str
    closed_vocabulary: bool = False
    description: str = ""
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class Category:
    """A class of objects in a project; synonyms are taken for it when objects are registered."""

    name: str
    project: str = DEFAULT_PROJECT
    synonyms: tuple[str, ...] = ()
    objects: int = 0
    """Live objects of it; only counted by ``Registry.categories(counted=True)``."""


@dataclass(frozen=True, slots=True)
class SourceDraft:
    """A source to be registered.

    path: folder, file or URL, without ``..``; episode: id of the robot's episode, "" for none
    licence: SPDX id or text, for dataset cards
    """

    kind: SourceKind
    path: str
    project: str = DEFAULT_PROJECT
    episode: str = ""
    width: int = 0
    height: int = 0
    captured_ns: int = 0
    licence: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source(SourceDraft):
    """A registered source."""

    source_id: str = ""
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class ImageDraft:
    """One image, or one frame of a video or bag, to be registered.

    name: path relative to the source (POSIX, without ``..``), or the topic of a bag; unique with ``frame`` in a source
    width, height: pixels; frame: index in the source, from 0; stamp_ns: time of capture, 0 unknown
    digest: SHA-256 of the file in hex, "" unknown
    """

    name: str
    width: int
    height: int
    frame: int = 0
    stamp_ns: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Image(ImageDraft):
    """A registered image."""

    image_id: str = ""
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class ObjectDraft:
    """One object to be registered.

    box: as ``convention`` says; score: 0 to 1, of kind ``score_kind``; mask: see Mask, or None
    embedding: see Vector, with its embedder, or both None; track: name of its track within the source, "" for none
    quality: 0 to 1, or None; attributes: up to 64 names with plain values
    """

    image_id: str
    category: str
    box: Box
    score: float
    score_kind: ScoreKind
    origin: Origin
    convention: BoxConvention = BoxConvention.LTRB
    mask: Mask | None = None
    embedding: Vector | None = None
    embedder: Embedder | None = None
    track: str = ""
    quality: float | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """An object as the registry holds it.

    box: LTRB in pixels; convention: how it was given; area: of the box, square pixels
    version: 1 and up, counts changes
    mask_path: relative to the folder of masks, "" for none; embedder: None where there is no embedding
    deleted: it has a tombstone: only ``get`` and ``history`` still show it, and an undo brings it back
    """

    object_id: str
    project: str
    category: str
    image_id: str
    source_id: str
    box: Box
    convention: BoxConvention
    area: float
    score: float
    score_kind: ScoreKind
    origin: Origin
    state: ReviewState
    validated_by: str
    validated_ns: int
    quality: float | None
    mask_path: str
    embedder: Embedder | None
    track_id: str
    attributes: Mapping[str, Attribute]
    stamp_ns: int
    frame: int
    created_ns: int
    updated_ns: int
    version: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What to change of an object; None leaves a field as it is.

    A new box without a new mask drops the mask, as it no longer describes the box. ``state`` other than UNREVIEWED
    records who changed it as ``validated_by``. ``attributes`` replaces all; ``track_id`` "" takes it off its track.
    """

    category: str | None = None
    box: Box | None = None
    convention: BoxConvention = BoxConvention.LTRB
    mask: Mask | None = None
    state: ReviewState | None = None
    score: float | None = None
    score_kind: ScoreKind | None = None
    quality: float | None = None
    track_id: str | None = None
    attributes: Mapping[str, Attribute] | None = None


@dataclass(frozen=True, slots=True)
class LabelDraft:
    """What a further model says of an object that is registered.

    box: LTRB in pixels; score: 0 to 1, of kind ``score_kind``
    """

    object_id: str
    category: str
    box: Box
    score: float
    score_kind: ScoreKind
    origin: Origin


@dataclass(frozen=True, slots=True)
class ObjectLabel(LabelDraft):
    """A further label as the registry holds it: an object has at most one of each model, revision and word.

    change_id: of the change by which it stands, which an undo takes back
    """

    who: str = ""
    created_ns: int = 0
    change_id: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch: its objects in the order given; repeated: it had been registered before under its key."""

    object_ids: tuple[str, ...]
    repeated: bool = False


class ChangeKind(str, Enum):
    """What was done to an object."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    EMBEDDED = "embedded"
    LABELLED = "labelled"
    """A further model's label came; the object itself stayed as it is."""
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the history, which only grows. ``change_id`` rises in the order of commits.

    before, after: the changed fields as plain values; both empty for CREATED and EMBEDDED. Of a further label
        ``label`` is its number, beside what it says; the side on which it is not there is empty
    undoes: the change that this one took back, 0 for none; undone: whether it was itself taken back
    """

    change_id: int
    object_id: str
    kind: ChangeKind
    who: str
    stamp_ns: int
    before: Mapping[str, object]
    after: Mapping[str, object]
    undoes: int = 0
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Track:
    """One thing through the frames of a source.

    object_ids: its live objects in the order of time (stamp, then frame, then age)
    start_frame, end_frame: of the first and last; start_ns, end_ns: their times of capture, 0 unknown
    mean_score: 0 to 1; categories: every category that its objects have, the most frequent first
    """

    track_id: str
    source_id: str
    name: str
    object_ids: tuple[str, ...]
    start_frame: int
    end_frame: int
    start_ns: int
    end_ns: int
    mean_score: float
    categories: tuple[str, ...]
