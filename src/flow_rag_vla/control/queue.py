# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The newest valid action chunk, and the row of it that a tick calls for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from flow_rag_vla.control.pace import Pace
from flow_rag_vla.core.action import ActionChunk, invalid_actions


class ChunkRefusal(str, Enum):
    """Why a chunk was not taken."""

    INVALID = "invalid"
    DUPLICATE = "duplicate"
    OLDER = "older than the one held"
    FUTURE = "from the future"
    TOO_OLD = "observation too old"
    EXHAUSTED = "exhausted on arrival"
    CLOCK_JUMP = "from before a clock jump"
    DISPLACED = "from before the robot was moved"
    TAKEOVER = "from before a person released the robot"
    OTHER_EPISODE = "from another episode"
    OTHER_TASK = "for another task"
    NO_EPISODE = "no episode is running"


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal, and a sentence that names value and remedy."""

    refusal: ChunkRefusal
    text: str


@dataclass(slots=True)
class HeldChunk:
    """The chunk followed at present.

    chunk: as it is executed, corrections included
    arrival_steady_ns: when it came; age_on_arrival_ns: how old its observation was then
    hold: the memory asks not to follow it
    """

    chunk: ActionChunk
    arrival_steady_ns: int
    age_on_arrival_ns: int
    hold: bool = False
    corrected: bool = False
    used: bool = False

    def age_ns(self, steady_ns: int) -> int:
        """Age of the observation, its growth measured on the steady clock."""
        return self.age_on_arrival_ns + steady_ns - self.arrival_steady_ns


class ChunkQueue:
    """Keeps one chunk: that of the newest observation.

    A chunk of a newer observation takes over from the present tick on. Rows are addressed by time, at the pace in
    force, so those that its own delay has used up are dropped, and rows that repeat what is already committed fall on
    the same ticks. Chunks that come twice or out of order change nothing.
    """

    def __init__(self, max_age_ns: int, future_tolerance_ns: int, pace: Pace | None = None) -> None:
        self.max_age_ns = max_age_ns
        self.future_tolerance_ns = future_tolerance_ns
        self._pace = pace or Pace()
        self.held: HeldChunk | None = None
        self.accepted = 0
        self.refused: Counter[ChunkRefusal] = Counter()
        self._not_before_ns: tuple[int, ChunkRefusal] | None = None
        self._task = ""
        self._open = False

    def open(self, task: str, not_before_ns: int) -> None:
        """Begin an episode: only observations from ``not_before_ns`` on count, and only for ``task`` if it is named."""
        self.held = None
        self._open, self._task = True, task
        self._not_before_ns = (not_before_ns, ChunkRefusal.OTHER_EPISODE)

    def close(self) -> None:
        """End an episode: what is held is dropped, and nothing is taken."""
        self.held = None
        self._open = False

    def drop(self, not_before_ns: int, why: ChunkRefusal = ChunkRefusal.CLOCK_JUMP) -> None:
        """Drop what is held, and refuse whatever was captured before ``not_before_ns``.

        Only a clock jump may lower that limit: after it the stamps from before mean nothing. A robot that was moved
        just as an episode began must not let chunks of the episode before it in.
        """
        self.held = None
        before = self._not_before_ns
        if why is ChunkRefusal.CLOCK_JUMP or before is None or not_before_ns > before[0]:
            self._not_before_ns = (not_before_ns, why)

    def offer(self, chunk: ActionChunk, now_ns: int, steady_ns: int) -> Refused | None:
        """Take the chunk (None) or say why not."""
        refused = self._refusal(chunk, now_ns)
        if refused is not None:
            self.refused[refused.refusal] += 1
            return refused
        self.held = HeldChunk(chunk, steady_ns, now_ns - chunk.stamp_ns)
        self.accepted += 1
        return None

    def row(self, scheduled_ns: int) -> float | None:
        """Where in the held chunk the tick scheduled then begins, in rows: a whole number at full pace.

        None without a chunk or when its rows are used up.
        """
        held = self.held
        if held is None:
            return None
        row = self._pace.rows(held.chunk.stamp_ns, scheduled_ns)
        return row if row < held.chunk.horizon else None

    @property
    def refusals(self) -> int:
        """How many chunks were refused."""
        return sum(self.refused.values())

    def _refusal(self, chunk: ActionChunk, now_ns: int) -> Refused | None:
        name, age_ns = f"chunk {chunk.chunk_id}", now_ns - chunk.stamp_ns
        problem = invalid_actions(chunk.actions)
        if problem is not None:
            return Refused(ChunkRefusal.INVALID, f"{name}: {problem}")
        if not self._open:
            return Refused(ChunkRefusal.NO_EPISODE, f"{name}: no episode is running")
        if age_ns < -self.future_tolerance_ns:
            return Refused(
                ChunkRefusal.FUTURE,
                f"{name} is stamped {-age_ns / 1e9:.3f} s in the future; the clocks of camera and controller disagree",
            )
        if self._not_before_ns is not None and chunk.stamp_ns < self._not_before_ns[0]:
            limit, why = self._not_before_ns
            return Refused(why, f"{name} is {why.value}: captured {(limit - chunk.stamp_ns) / 1e9:.3f} s before it")
        if self._task and chunk.task and chunk.task != self._task:
            text = f"{name} serves {chunk.task!r}, the episode's task is {self._task!r}"
            return Refused(ChunkRefusal.OTHER_TASK, text)
        if self.held is not None:
            newest = self.held.chunk
            if (chunk.stamp_ns, chunk.chunk_id) == (newest.stamp_ns, newest.chunk_id):
                return Refused(ChunkRefusal.DUPLICATE, f"{name} came twice")
            if (chunk.stamp_ns, chunk.chunk_id) < (newest.stamp_ns, newest.chunk_id):
                text = f"{name} is older than chunk {newest.chunk_id}, which is being followed"
                return Refused(ChunkRefusal.OLDER, text)
        if age_ns > self.max_age_ns:
            return Refused(
                ChunkRefusal.TOO_OLD,
                f"{name}: its observation is {age_ns / 1e6:.0f} ms old, allowed are {self.max_age_ns / 1e6:.0f} ms; "
                "speed up the policy or raise max_observation_age",
            )
        if self._pace.rows(chunk.stamp_ns, now_ns) >= chunk.horizon:
            return Refused(
                ChunkRefusal.EXHAUSTED,
                f"{name}: all {chunk.horizon} rows were over {(now_ns - chunk.end_ns) / 1e6:.0f} ms before it came; "
                "use a longer horizon or a faster policy",
            )
        return None
