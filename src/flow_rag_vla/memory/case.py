"""One remembered failure, and how alike two failures are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK, invalid_actions
from flow_rag_vla.core.failure import Evidence, FailureType

Array = NDArray[np.float32]

CORRECTION_SOURCES = ("", "rule", "expert", "later_success", "human", "search")
"""Who may have said what to do instead; "" when nothing is known."""

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


@dataclass(frozen=True, slots=True, eq=False)
class FailureCase:
    """A failure as the robot met it, and what is known to do instead.

    embedding: (D,) float32, unit length
    failed_actions: (H, 7) float32, the chunk followed at onset, units of ActionChunk
    correction: (H, 7) float32 or None, what to do instead
    proprioception: (P,) float32, policy units; (0,) if the robot's state was not known
    uses, successes: episodes that a case shaped, and those of them that succeeded
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
    def horizon(self) -> int:
        """Rows of the failed chunk."""
        return int(self.failed_actions.shape[0])

    @property
    def credit(self) -> float:
        """Chance that using it helps, see :func:`credit`."""
        return credit(self.uses, self.successes)


def credit(uses: int, successes: int) -> float:
    """Posterior mean chance that a use helps, under a uniform Beta(1, 1) prior: (successes + 1) / (uses + 2)."""
    return (successes + 1) / (uses + 2)


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


def _failure_type(value: int) -> FailureType:
    try:
        return FailureType(value)
    except ValueError:
        known = ", ".join(f"{int(item)} {item.name.lower()}" for item in FailureType)
        raise CaseError(f"failure_type is {value}, expected one of {known}") from None
