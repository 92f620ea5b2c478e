# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a person did while they had the robot, and what of it corrects a failure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.memory.case import Array, CaseError, FailureCase
from flow_rag_vla.memory.lesson import Situation

LONGEST = 4096
"""Commands kept of one takeover: 100 s, longer than any task's time limit."""

MISSED = 2
"""Commands in a row that may be lost on the way and are taken to repeat the one before."""

NEAR_NS = 1_000_000_000
"""A takeover that begins this soon after the onset finds the robot in its situation still."""


SAME_MOMENT = 0.25
"""Share of the way from the threshold to 1 by which two similarities may differ and mean the same."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """One takeover. ticks, stamps_ns: (N,) int64; actions: (N, 7) float32 as executed, units of ActionChunk."""

    person: str
    ticks: NDArray[np.int64]
    stamps_ns: NDArray[np.int64]
    actions: Array

    @property
    def start_ns(self) -> int:
        """Stamp of its first command."""
        return int(self.stamps_ns[0])

    @property
    def end_ns(self) -> int:
        """Stamp of its last command."""
        return int(self.stamps_ns[-1])


class TakeoverRecorder:
    """Collects the commands of the takeover under way. Not thread-safe."""

    def __init__(self) -> None:
        self._person = ""
        self._rows: list[tuple[int, int, Array]] = []

    @property
    def running(self) -> bool:
        """Whether a person has the robot."""
        return bool(self._rows)

    @property
    def start_ns(self) -> int:
        """Stamp of the first command; 0 if none is under way."""
        return self._rows[0][1] if self._rows else 0

    def add(self, person: str, tick: int, stamp_ns: int, action: Array) -> None:
        """Take a command in; one that comes late or twice is left out."""
        if not np.isfinite(action).all() or action.shape != (ACTION_DIM,):
            return
        if self._rows and (tick <= self._rows[-1][0] or stamp_ns < self._rows[-1][1]):
            if stamp_ns >= self._rows[0][1]:
                return
            # The clock was set back, or another controller counts anew: what was before belongs to another time.
            self._rows.clear()
        self._person = self._person if self._rows and not person else person
        if len(self._rows) < LONGEST:
            self._rows.append((tick, stamp_ns, np.array(action, dtype=np.float32)))

    def finish(self) -> Takeover | None:
        """The takeover that has just ended; None if there was none."""
        if not self._rows:
            return None
        rows, self._rows = self._rows, []
        return Takeover(
            self._person,
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] for row in rows], dtype=np.int64),
            np.stack([row[2] for row in rows]),
        )


def correction_of(
    takeover: Takeover,
    case: FailureCase,
    onset_ns: int,
    seen: Sequence[tuple[int, Array]],
    threshold: float,
) -> Array:
    """What the person did from the situation of a failure on, (H, 7) float32 with the rows of the failed chunk.

    The situation is the moment of the takeover whose embedding is most similar to the case's, if it passes the
    threshold, or the first one that is nearly as similar; a takeover within a second of the onset stands in it from
    its first command. A takeover that ends within the chunk is followed by rest, as the robot was.

    Args:
        takeover: what was done.
        case: of the failure.
        onset_ns: when the failure began.
        seen: stamps and (D,) embeddings of the case's encoder during the takeover.
        threshold: cosine similarity from which two situations are the same.

    Raises:
        CaseError: if nothing of it speaks for that situation, saying why.
    """
    alike = [(stamp_ns, float(values @ case.embedding)) for stamp_ns, values in seen]
    best = max((similarity for _, similarity in alike), default=None)
    if best is not None and best >= threshold:
        # A scene that rests looks the same for a while: what counts is what was done from the first such moment on.
        near = best - SAME_MOMENT * (1.0 - threshold)
        first = min(stamp_ns for stamp_ns, similarity in alike if similarity >= max(near, threshold))
        start = int(np.searchsorted(takeover.stamps_ns, first))
    elif abs(takeover.start_ns - onset_ns) <= NEAR_NS:
        start = 0
    else:
        found = "nothing was seen" if best is None else f"the most alike moment is at {best:.3f}, gate {threshold:.3f}"
        raise CaseError(
            f"the takeover never stood in the situation of the failure ({found}); bring the robot back to where it "
            "went wrong and do it from there"
        )
    return _rows_from(takeover, start, case.horizon)


def done_in(takeover: Takeover, situations: Iterable[Situation]) -> list[Situation]:
    """The situations of a takeover, each with what the person did from there on.

    Those towards the end, from where less than half a chunk was done, say nothing and are left out.
    """
    found = []
    for item in situations:
        if not takeover.start_ns <= item.stamp_ns <= takeover.end_ns:
            continue
        start = int(np.searchsorted(takeover.stamps_ns, item.stamp_ns))
        with suppress(CaseError):
            found.append(replace(item, right=_rows_from(takeover, start, len(item.planned))))
    return found


def _rows_from(takeover: Takeover, start: int, horizon: int) -> Array:
    """(horizon, 7): what was done from a row on, then rest.

    Raises:
        CaseError: if that is less than half of it.
    """
    rows = _consecutive(takeover, start, horizon)
    if len(rows) < (horizon + 1) // 2:
        raise CaseError(
            f"the takeover has {len(rows)} commands in a row from the situation of the failure on, expected at least "
            f"{(horizon + 1) // 2} of {horizon}; keep the robot longer"
        )
    if len(rows) < horizon:
        rest = np.zeros((horizon - len(rows), ACTION_DIM), dtype=np.float32)
        rest[:, 6] = rows[-1, 6]
        rows = np.concatenate([rows, rest])
    return rows


def _consecutive(takeover: Takeover, start: int, count: int) -> Array:
    """At most ``count`` actions of consecutive ticks from a row on; up to MISSED lost ones repeat the one before."""
    rows: list[Array] = []
    for row in range(start, len(takeover.ticks)):
        missing = int(takeover.ticks[row] - takeover.ticks[row - 1]) - 1 if row > start else 0
        if missing > MISSED or len(rows) >= count:
            break
        rows.extend([takeover.actions[row - 1]] * missing)
        rows.append(takeover.actions[row])
    return np.array(rows[:count], dtype=np.float32).reshape(-1, ACTION_DIM)
