# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the registry, and its answers, as values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.values import Attribute, LabelledObject, ReviewState


@dataclass(frozen=True, slots=True)
class ObjectFilter:
    """Which objects are meant; empty fields mean any. Fields are joined with AND, the values of one field with OR.

    min_score, max_score: inclusive; captured_*_ns, created_*_ns: from inclusive, until exclusive, 0 for open. What is
    of an unknown time is neither before nor after one
    min_area, max_area: of the box, square pixels, inclusive
    attributes: each name must have this value; validated: True for ACCEPTED and RELABELLED, False for the others
    """

    project: str = ""
    categories: tuple[str, ...] = ()
    source_ids: tuple[str, ...] = ()
    image_ids: tuple[str, ...] = ()
    track_ids: tuple[str, ...] = ()
    episodes: tuple[str, ...] = ()
    states: tuple[ReviewState, ...] = ()
    validated: bool | None = None
    validated_by: str = ""
    models: tuple[str, ...] = ()
    score_kinds: tuple[ScoreKind, ...] = ()
    min_score: float | None = None
    max_score: float | None = None
    captured_from_ns: int = 0
    captured_until_ns: int = 0
    created_from_ns: int = 0
    created_until_ns: int = 0
    has_mask: bool | None = None
    has_embedding: bool | None = None
    min_area: float | None = None
    max_area: float | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def parse_attributes(entries: Iterable[str]) -> dict[str, Attribute]:
    """``name=value`` entries as the attributes of a filter.

    A value that reads as a number, true or false is that; in double quotes it stays a text.

    Raises:
        InvalidInputError: an entry of another form, or a name twice: an object has one value of each.
    """
    found: dict[str, Attribute] = {}
    for entry in entries:
        name, separator, text = entry.partition("=")
        if not (name and separator) or name in found:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE,
                f"{entry[:80]!r} says nothing of an attribute, or says it again",
                "give name=value, such as look=3 or pose=open, each name once",
            )
        found[name] = _plain_value(text)
    return found


def attribute_terms(attributes: Mapping[str, Attribute]) -> list[str]:
    """Attributes as the ``name=value`` entries that ``parse_attributes`` reads back."""
    return [f"{name}={_plain_text(value)}" for name, value in attributes.items()]


def _plain_text(value: Attribute) -> str:
    if isinstance(value, str) and _plain_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _plain_value(text: str) -> Attribute:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # NaN and Infinity, which Python takes for JSON, are words here.
    if isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return text


class Order(str, Enum):
    """How a listing is sorted; of equals the older object first, or the newer where newest come first.

    By quality, objects without one come last; it has no index, so each object that passes is looked at.
    """

    NEWEST = "newest"
    OLDEST = "oldest"
    LOWEST_SCORE = "lowest_score"
    HIGHEST_SCORE = "highest_score"
    LOWEST_QUALITY = "lowest_quality"
    HIGHEST_QUALITY = "highest_quality"


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects of a listing; cursor: give it to get the next ones, "" after the last."""

    objects: tuple[LabelledObject, ...]
    cursor: str = ""


class Way(str, Enum):
    """How a similarity search came to its answer."""

    EXACT_ALL = "exact_all"
    """Every vector was compared."""
    EXACT_FILTERED = "exact_filtered"
    """Every vector that passed the filter was compared."""
    APPROXIMATE = "approximate"
    """The index proposed candidates, which were then compared exactly."""
    NOTHING = "nothing"
    """Nothing passed the filter."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How a search was answered.

    index: kind of the index; matching: vectors that passed the filter; compared: vectors compared exactly
    generation: last change that the index had seen; reason: why this way, in words
    """

    way: Way
    index: str
    matching: int
    compared: int
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Similar:
    """An object with its cosine similarity to the query, 1 for the same direction."""

    similarity: float
    object: LabelledObject


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The most similar objects, most similar first."""

    hits: tuple[Similar, ...]
    answered: Answered


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of live objects; mapping keys are names. ``validated_share``: 0 to 1, of all objects."""

    objects: int
    sources: int
    images: int
    tracks: int
    with_mask: int
    with_embedding: int
    by_category: Mapping[str, int]
    by_state: Mapping[str, int]
    by_model: Mapping[str, int]
    mean_score: float
    validated_share: float
