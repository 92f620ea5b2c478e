# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is sent and answered below /api/labeling. Times are UTC nanoseconds since 1970, boxes pixels unless said.

A field that is not declared here is refused. Who did something is never part of a body: the token says it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.registry.values import BoxConvention, ReviewState, SourceKind

MOST_OBJECTS = 500
"""Objects registered, or put on a track, by one request."""
MOST_NUMBERS = 8192
"""Numbers of a vector."""
MOST_BOXES = 200
LONGEST_WORD = 200
LONGEST_PATH = 1000

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Area = Annotated[float, Field(ge=0.0, allow_inf_nan=False, description="of the box, square pixels")]
Word = Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Nanoseconds = Annotated[int, Field(ge=0, lt=1 << 62)]
ChangeNumber = Annotated[int, Field(ge=1, lt=1 << 62)]
Count = Annotated[int, Field(ge=0, lt=1 << 31)]
BoxNumbers = Annotated[list[Number], Field(min_length=4, max_length=4)]
Plain = str | int | float | bool
Attributes = Annotated[dict[str, Plain], Field(max_length=64)]


class Sent(BaseModel):
    """A body: nothing undeclared, no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Given(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


class Refusal(Given):
    """Every answer of 400 and above."""

    code: str
    message: str
    remedy: str


class Me(Given):
    """Whose token it is."""

    name: str
    role: str
    may_review: bool


# Models on one picture.


class Found(Given):
    """What is in a picture; the lists go together. boxes: left, top, right, bottom, right and bottom exclusive."""

    width: int
    height: int
    boxes: list[list[float]]
    labels: list[str]
    scores: list[float]
    score_kind: ScoreKind
    model: str
    revision: str
    seconds: float


class Segmented(Given):
    """Masks as base64 of PNG files of the picture's size, 0 or 255; none: nothing is in that box."""

    width: int
    height: int
    masks: list[str | None]
    seconds: float


class FoundWithMasks(Found):
    """What is in a picture, with its masks (see Segmented)."""

    masks: list[str]


class AutoLabelled(Found):
    """What is in a picture, and under which ids it is now registered."""

    masks_count: int
    source_id: str
    image_id: str
    object_ids: list[str]
    merged: int = Field(description="how many of them had been registered before: they are not stored again")
    repeated: bool = Field(description="the Idempotency-Key was known: nothing was stored a second time")


class Models(Given):
    """What labels pictures here."""

    ready: bool
    name: str
    revision: str
    vocabulary: list[str] = Field(description="empty: any words will do")
    problem: str


# Sources and pictures.


class SourceSent(Sent):
    """A picture, folder, video or bag on the server's machine. An image is measured; its own size is taken."""

    source_type: SourceKind
    file_path: Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]
    width: Annotated[int, Field(ge=0, le=65_536)] = 0
    height: Annotated[int, Field(ge=0, le=65_536)] = 0
    project: Word = "default"
    episode: Annotated[str, Field(max_length=LONGEST_WORD)] = ""
    captured_ns: Nanoseconds = 0
    licence: Annotated[str, Field(max_length=LONGEST_WORD)] = ""


class SourceChangeSent(Sent):
    """What is to be different of a source; what is left out stays. licence: SPDX id or text, for dataset cards."""

    licence: Annotated[str, Field(max_length=LONGEST_WORD)] | None = None
    captured_ns: Nanoseconds | None = None


class SourceGiven(Given):
    """A registered source."""

    source_id: str
    source_type: SourceKind
    file_path: str
    width: int
    height: int
    project: str
    episode: str
    captured_ns: int
    licence: str
    created_ns: int


class SourceMade(SourceGiven):
    """A registered source; image_id: its one picture, empty for a folder, video or bag."""

    image_id: str


class SourcePage(Given):
    """Some sources."""

    items: list[SourceGiven]
    next_cursor: str = Field(description="empty: this was the last page")


class PictureGiven(Given):
    """A picture or frame; its pixels are at ``images/{id}/picture``."""

    image_id: str
    source_id: str
    name: str
    frame: int
    stamp_ns: int
    width: int
    height: int


class PictureSent(Sent):
    """A picture of a folder, or a frame of a video or bag.

    name: path within the folder, or topic of the bag; width and height: 0 for those of the source; files are measured.
    """

    name: Annotated[str, Field(max_length=LONGEST_PATH)] = ""
    frame: Count = 0
    stamp_ns: Nanoseconds = Field(0, description="time of a frame: by it the frame is found again in its video or bag")
    width: Annotated[int, Field(ge=0, le=65_536)] = 0
    height: Annotated[int, Field(ge=0, le=65_536)] = 0


class PicturesSent(Sent):
    """Pictures of one source, all of them or none."""

    images: Annotated[list[PictureSent], Field(min_length=1, max_length=MOST_OBJECTS)]


class PictureList(Given):
    """Pictures in the order in which they were sent."""

    items: list[PictureGiven]


class PicturePage(Given):
    """Some pictures of a source."""

    items: list[PictureGiven]
    next_cursor: str = Field(description="empty: this was the last page")


# Objects.


class ObjectSent(Sent):
    """An object somebody saw. image_id may be left out where the source has one picture only."""

    category: Word
    bbox: BoxNumbers
    convention: BoxConvention = BoxConvention.LTRB
    confidence: Share = 1.0
    score_kind: ScoreKind = ScoreKind.HUMAN
    model: Annotated[str, Field(max_length=LONGEST_WORD)] = Field("", description="empty: the person of the token")
    revision: Annotated[str, Field(max_length=LONGEST_WORD)] = ""
    image_id: Identity | None = None
    mask: Annotated[str, Field(max_length=1 << 21)] | None = Field(None, description="base64 of a PNG of its size")
    embedding: Annotated[list[Number], Field(min_length=1, max_length=MOST_NUMBERS)] | None = None
    embedder: Word | None = Field(None, description="name@revision of who made the embedding")
    track: Annotated[str, Field(max_length=LONGEST_WORD)] = ""
    quality_score: Share | None = None
    attributes: Attributes = Field(default_factory=dict)


class OneObjectSent(ObjectSent):
    """One object with its source."""

    source_id: Identity


class BatchSent(Sent):
    """Objects of one source, all of them or none."""

    source_id: Identity
    objects: Annotated[list[ObjectSent], Field(min_length=1, max_length=MOST_OBJECTS)]


class BatchGiven(Given):
    """What became of a batch."""

    object_ids: list[str]
    repeated: bool = Field(description="the Idempotency-Key was known: nothing was stored a second time")


class ObjectGiven(Given):
    """An object as it is now. bbox: left, top, right, bottom. version: its ETag."""

    object_id: str
    version: int
    category: str
    bbox: list[float]
    area: float
    confidence: float
    score_kind: ScoreKind
    state: ReviewState
    is_validated: bool
    validated_by: str
    validated_ns: int
    quality_score: float | None
    has_mask: bool
    embedder: str
    model: str
    revision: str
    prompt: str
    threshold: float
    source_id: str
    image_id: str
    frame: int
    stamp_ns: int
    track_id: str
    project: str
    attributes: dict[str, Any]
    created_ns: int
    updated_ns: int
    deleted: bool


class ObjectPage(Given):
    """Some objects."""

    items: list[ObjectGiven]
    next_cursor: str = Field(description="empty: this was the last page")


class ObjectChangeSent(Sent):
    """What is to be different; what is left out stays. state and is_validated need a reviewer.

    Where a labeller changes category or box of what had been validated, it waits for a reviewer again.
    """

    category: Word | None = None
    bbox: BoxNumbers | None = None
    convention: BoxConvention = BoxConvention.LTRB
    state: ReviewState | None = None
    is_validated: bool | None = Field(None, description="true: state accepted; false: state unreviewed")
    quality_score: Share | None = None
    track_id: Identity | Literal[""] | None = Field(None, description="empty: off its track")
    attributes: Attributes | None = None


class VersionSent(Sent):
    """An object as somebody read it: what was changed since then is not changed again."""

    object_id: Identity
    version: Annotated[int, Field(ge=1, lt=1 << 31)]


class ObjectsChangeSent(Sent):
    """The same change of several objects, such as those of a track: of all of them or of none. state needs a reviewer.

    Where a labeller changes the category of what had been validated, it waits for a reviewer again.
    """

    objects: Annotated[list[VersionSent], Field(min_length=1, max_length=MOST_OBJECTS)]
    category: Word | None = None
    state: ReviewState | None = None


class ChangesSent(Sent):
    """Changes to take back, all of them or none."""

    change_ids: Annotated[list[ChangeNumber], Field(min_length=1, max_length=MOST_OBJECTS)]


class ObjectsChanged(Given):
    """The objects as they are now, and what takes back what was done; an object that was so before has no change."""

    objects: list[ObjectGiven]
    change_ids: list[int]


class ChangeGiven(Given):
    """One line of an object's history."""

    change_id: int
    kind: str
    who: str
    stamp_ns: int
    before: dict[str, Any]
    after: dict[str, Any]
    undoes: int
    undone: bool


class HistoryGiven(Given):
    """All that was done to an object, oldest first."""

    items: list[ChangeGiven]


class LabelGiven(Given):
    """What a model said of an object. bbox: left, top, right, bottom; change_id: what an undo takes it back by."""

    category: str
    bbox: list[float]
    confidence: float
    score_kind: ScoreKind
    model: str
    revision: str
    prompt: str
    threshold: float
    who: str
    created_ns: int
    change_id: int


class LabelsGiven(Given):
    """first: what the object was registered as; items: what further models said of it, oldest first."""

    first: LabelGiven
    items: list[LabelGiven]


class EmbeddingSearchSent(Sent):
    """Which objects look like this vector."""

    embedding: Annotated[list[Number], Field(min_length=1, max_length=MOST_NUMBERS)]
    embedder: Word | None = Field(
        None, description="name@revision; left out: the one that all vectors of the project are of"
    )
    top_k: Annotated[int, Field(ge=1, le=500)] = 10
    category: Word | None = None
    project: Word | None = None
    is_validated: bool | None = None
    min_confidence: Share | None = None


class SimilarGiven(Given):
    """An object and its cosine similarity to what was asked for."""

    similarity: float
    object: ObjectGiven


class SearchGiven(Given):
    """The most similar first, and how they were found."""

    items: list[SimilarGiven]
    way: str = Field(description="exact_all, exact_filtered, approximate or nothing")
    index: str
    matching: int
    compared: int


# Tracks, statistics.


class TrackSent(Sent):
    """Objects of one source that are one thing over time."""

    source_id: Identity
    object_ids: Annotated[list[Identity], Field(min_length=1, max_length=MOST_OBJECTS)]
    name: Annotated[str, Field(max_length=LONGEST_WORD)] = Field("", description="empty: one is found")


class TrackSummary(Given):
    """One thing over time; categories: all that its objects have, the most frequent first."""

    track_id: str
    source_id: str
    name: str
    categories: list[str]
    length: int
    start_frame: int
    end_frame: int
    start_ns: int
    end_ns: int
    avg_confidence: float


class TrackGiven(TrackSummary):
    """The same with its objects, in the order of time."""

    objects: list[ObjectGiven]


class TrackPage(Given):
    """Some tracks of a source, by when they begin."""

    items: list[TrackSummary]
    next_cursor: str = Field(description="empty: this was the last page")


class StatisticsGiven(Given):
    """Counts of what is registered. validated_share: 0 to 1."""

    objects: int
    sources: int
    images: int
    tracks: int
    with_mask: int
    with_embedding: int
    by_category: dict[str, int]
    by_state: dict[str, int]
    by_model: dict[str, int]
    mean_confidence: float
    validated_share: float


class CategoryGiven(Given):
    """A class of objects."""

    name: str
    project: str
    synonyms: list[str]
    objects: int


class CategoryPage(Given):
    """Some categories, by name."""

    items: list[CategoryGiven]
    next_cursor: str = Field(description="empty: this was the last page")
