# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One remembered failure, and how alike two failures are."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK, invalid_actions
from flow_rag_vla.core.correction import FARTHEST_SHIFT
from flow_rag_vla.core.failure import Evidence, FailureType

Array = NDArray[np.float32]

CORRECTION_SOURCES = ("", "rule", "language_model", "search", "later_success", "expert", "human")
"""Who may have said what to do instead, least trusted first; "" when nothing is known.

``language_model`` is given only to a correction that was checked: in simulation, or by a person.
"""

CHANGES = ("edited", "learned", "retired", "restored", "imported", "merged")
"""What may have happened to a case after it was made."""

SITUATION = "situation"
"""Where an encoder is named: the vectors are situation keys. Equals ``policy.situation.NAME``."""

UNIT_TOLERANCE = 1e-2
"""How far from 1 the length of an embedding may be: float32 sums and other encoders' rounding stay well inside."""

MAX_HORIZON = 65_535
"""Rows that fit the message field."""

ACTION_SCALE: Array = np.array([MAX_TRANSLATION_PER_TICK] * 3 + [MAX_ROTATION_PER_TICK] * 3 + [1.0], dtype=np.float32)
"""(7,) float32: the largest step of each column of an action; distances between chunks are counted in it."""


class CaseError(ValueError):
    """A failure case that makes no sense; the text names field, value and remedy."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Cases are looked up, compared and pruned among those of one group."""

    task: str
    phase: str
    failure_type: FailureType

    def __str__(self) -> str:
        return f"{self.task or 'any task'}/{self.phase or 'any phase'}/{self.failure_type.name.lower()}"


@dataclass(frozen=True, slots=True)
class EncoderStamp:
    """Whose embeddings a store or an index holds."""

    encoder: str
    revision: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.encoder}@{self.revision} ({self.dimension} numbers)"


@dataclass(frozen=True, slots=True)
class OriginCredit:
    """What one robot knows of a case's worth: episodes that it shaped there, and those of them that succeeded."""

    origin: str
    uses: int
    successes: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.uses:
            raise CaseError(f"credit of {self.origin!r}: {self.successes} successes of {self.uses} uses; fix the file")


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of a case. stamp_ns: Unix epoch; change: one of ``CHANGES``; origin: robot that made it."""

    stamp_ns: int
    change: str
    origin: str = ""
    detail: str = ""
    after_use: int = 0
    """Number of the last logged use at that moment: an order that no clock disturbs. Means nothing elsewhere."""

    def __post_init__(self) -> None:
        if self.change not in CHANGES:
            raise CaseError(f"revision says {self.change!r}, expected one of {', '.join(CHANGES)}")


@dataclass(frozen=True, slots=True, eq=False)
class FailureCase:
    """A failure as the robot met it, and what is known to do instead.

    embedding: (D,) float32, unit length
    failed_actions: (H, 7) float32, the chunk followed at onset, units of ActionChunk
    correction: (H, 7) float32 or None, what to do instead
    proprioception: (P,) float32, policy units; (0,) if the robot's state was not known
    misreading: (3,) float32 or None, metres along the base's axes: so much farther the target was than the policy read
        it; None if nobody knows
    uses, successes: episodes that a case shaped, and those of them that succeeded, on all robots together
    credits: the shares of that by robot, where they are known; what they leave is that of ``origin``
    calibration_id: of the retrieval calibration in force when it was made; "" if none was
    history: changes since it was made, oldest first
    case_id: 0 until it is stored; created_ns: nanoseconds since the Unix epoch

    Raises:
        CaseError: for anything that could not be searched, replayed or credited. Arrays become read-only.
    """

    failure_type: FailureType
    task: str
    phase: str
    encoder: str
    encoder_revision: str
    embedding: Array
    failed_actions: Array
    correction: Array | None = None
    correction_source: str = ""
    proprioception: Array = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    evidence: tuple[Evidence, ...] = ()
    note: str = ""
    uses: int = 0
    successes: int = 0
    retired: bool = False
    retired_reason: str = ""
    origin: str = ""
    created_ns: int = 0
    case_id: int = 0
    calibration_id: str = ""
    credits: tuple[OriginCredit, ...] = ()
    history: tuple[Revision, ...] = ()
    misreading: Array | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "failure_type", _failure_type(self.failure_type))
        set_field(self, "embedding", unit_embedding(self.embedding))
        set_field(self, "failed_actions", _chunk(self.failed_actions, "failed_actions"))
        set_field(self, "proprioception", _vector(self.proprioception, "proprioception"))
        if self.correction is not None:
            correction = _chunk(self.correction, "correction")
            if correction.shape != self.failed_actions.shape:
                raise CaseError(
                    f"correction has {correction.shape[0]} rows, failed_actions {self.failed_actions.shape[0]}; "
                    "give one row for each row that failed"
                )
            set_field(self, "correction", correction)
        if self.misreading is not None:
            set_field(self, "misreading", _misreading(self.misreading))
        if self.correction_source not in CORRECTION_SOURCES:
            known = ", ".join(repr(source) for source in CORRECTION_SOURCES)
            raise CaseError(f"correction_source is {self.correction_source!r}, expected one of {known}")
        if (self.correction is None) != (self.correction_source == ""):
            raise CaseError(
                f"correction_source is {self.correction_source!r} but a correction is "
                f"{'missing' if self.correction is None else 'there'}; give both or neither"
            )
        if not 0 <= self.successes <= self.uses:
            raise CaseError(f"successes is {self.successes} of {self.uses} uses; expected 0 to uses")
        shared = sum(item.uses for item in self.credits), sum(item.successes for item in self.credits)
        if len({item.origin for item in self.credits}) != len(self.credits):
            raise CaseError("credits name a robot twice; give each robot one share")
        if not (shared[0] <= self.uses and 0 <= self.successes - shared[1] <= self.uses - shared[0]):
            raise CaseError(
                f"credits add up to {shared[1]} successes of {shared[0]} uses, the case has {self.successes} of "
                f"{self.uses}; the shares may not exceed the whole"
            )
        if not self.encoder:
            raise CaseError("encoder is empty; name the encoder that made the embedding, it must match at a search")
        for item in self.evidence:
            if not math.isfinite(item.value) or not math.isfinite(item.threshold):
                raise CaseError(f"evidence {item.name!r} is {item.value} against {item.threshold}, expected finite")

    @property
    def group(self) -> GroupKey:
        """The cases that this one is compared with."""
        return GroupKey(self.task, self.phase, self.failure_type)

    @property
    def stamp(self) -> EncoderStamp:
        """Whose embedding this is."""
        return EncoderStamp(self.encoder, self.encoder_revision, int(self.embedding.shape[0]))

    @property
    def uid(self) -> str:
        """32 hex digits of the situation and of what failed in it, the same on every robot and after every edit."""
        digest = hashlib.sha256()
        for text in (self.task, self.phase, self.encoder, self.encoder_revision):
            digest.update(len(text.encode()).to_bytes(4, "little") + text.encode())
        for values in (self.embedding, self.failed_actions, self.proprioception):
            digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()[:32]

    @property
    def shares(self) -> tuple[OriginCredit, ...]:
        """Uses and successes by robot, the origin's own among them; they add up to the whole."""
        found = {item.origin: item for item in self.credits}
        left_uses = self.uses - sum(item.uses for item in self.credits)
        left = self.successes - sum(item.successes for item in self.credits)
        if left_uses:
            own = found.get(self.origin, OriginCredit(self.origin, 0, 0))
            found[self.origin] = OriginCredit(self.origin, own.uses + left_uses, own.successes + left)
        return tuple(found[name] for name in sorted(found))

    @property
    def horizon(self) -> int:
        """Rows of the failed chunk."""
        return int(self.failed_actions.shape[0])

    @property
    def credit(self) -> float:
        """Chance that using it helps, see :func:`credit`."""
        return credit(self.uses, self.successes)


def credit(uses: int, successes: int, weight: float = 2.0) -> float:
    """Posterior mean chance that a use helps, under a Beta(weight / 2, weight / 2) prior; the default is uniform.

    (successes + weight / 2) / (uses + weight); see :mod:`flow_rag_vla.memory.credit` for when a case retires.
    """
    return (successes + weight / 2.0) / (uses + weight)


def action_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Root mean square difference of two chunks (H, 7) over their common rows, each column in its largest step.

    0 is the same motion, 1 about a full step apart in every column. Infinite if there is no common row.
    """
    rows = min(first.shape[0], second.shape[0])
    if rows == 0:
        return math.inf
    difference = (first[:rows] - second[:rows]) / ACTION_SCALE
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


def unit_embedding(values: Any) -> Array:
    """Read-only (D,) float32 of length one, made exactly so.

    Raises:
        CaseError: if it is empty, not finite, or its length is not 1 within 1e-2.
    """
    vector = np.array(values, dtype=np.float32)
    if vector.ndim != 1 or vector.size == 0:
        raise CaseError(f"embedding has shape {vector.shape}, expected (D,) with D of at least 1")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not math.isfinite(length):
        raise CaseError(f"embedding[{int(np.argmin(np.isfinite(vector)))}] is not finite; check the encoder")
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise CaseError(f"embedding has length {length:.4f}, expected 1; divide it by its length")
    if abs(length - 1.0) > 1e-6:
        # Not always: a vector that was stored must come back bit for bit.
        vector = (vector / length).astype(np.float32)
    vector.setflags(write=False)
    return vector


def _chunk(values: Any, name: str) -> Array:
    rows = np.array(values, dtype=np.float32)
    problem = invalid_actions(rows)
    if problem is not None:
        raise CaseError(f"{name}: {problem}")
    if rows.shape[0] > MAX_HORIZON:
        raise CaseError(f"{name} has {rows.shape[0]} rows, expected at most {MAX_HORIZON}")
    rows.setflags(write=False)
    return rows


def _vector(values: Any, name: str) -> Array:
    vector = np.array(values, dtype=np.float32)
    if vector.ndim != 1:
        raise CaseError(f"{name} has shape {vector.shape}, expected one dimension")
    if not np.isfinite(vector).all():
        raise CaseError(f"{name}[{int(np.argmin(np.isfinite(vector)))}] is not finite")
    vector.setflags(write=False)
    return vector


def _misreading(values: Any) -> Array:
    vector = _vector(values, "misreading")
    if vector.shape != (3,):
        raise CaseError(f"misreading has shape {vector.shape}, expected (3,): metres along the base's axes")
    if float(np.linalg.norm(vector)) > FARTHEST_SHIFT:
        raise CaseError(
            f"misreading {vector.tolist()} is longer than {FARTHEST_SHIFT} m; leave it out, what was read so far "
            "off was another thing"
        )
    vector.setflags(write=False)
    return vector


def _failure_type(value: int) -> FailureType:
    try:
        return FailureType(value)
    except ValueError:
        known = ", ".join(f"{int(item)} {item.name.lower()}" for item in FailureType)
        raise CaseError(f"failure_type is {value}, expected one of {known}") from None
