# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a bag tells of the decisions that were made: observations, chunks, corrections, commands, and what came when.

The tick records (``TickInputs``) say which messages each command was made of. A bag without them still plays: arrival
is then guessed from the times at which the recorder received the messages, and ``exact`` is False.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.loop import Command, Episode
from flow_rag_vla.control.pace import invalid_pace
from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import BagMessage

EPISODE, STATE, CHUNK, CORRECTION, EMERGENCY_STOP, EMERGENCY_STOP_RESET, TAKEOVER = range(7)
"""Values equal TickInputs.KIND_*."""

BY_SERVICE = 2
"""Key of an emergency stop that a service call asked for."""

HELD_UP_NS = 1_000_000_000
"""By how much a recorder on a loaded machine may be behind with one topic and not with another."""

RUNNING, RESETTING = 2, 1
"""Values equal EpisodeStatus.STATE_*."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One recorded embedding. values: (D,) float32 of unit length."""

    log_ns: int
    stamp_ns: int
    values: NDArray[np.float32]
    encoder: str
    revision: str


@dataclass(frozen=True, slots=True)
class Told:
    """One recorded answer of the memory: its message with the cases that came up, and its value (None if malformed)."""

    log_ns: int
    stamp_ns: int
    message: Any
    value: Correction | None


@dataclass(frozen=True, slots=True)
class Planned:
    """One recorded chunk (None if malformed, with the reason)."""

    log_ns: int
    stamp_ns: int
    value: ActionChunk | None
    problem: str = ""
    inference_ms: float = 0.0
    wait_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Status:
    """One recorded episode status."""

    log_ns: int
    stamp_ns: int
    state: int
    episode_id: int
    task: str
    variant: str
    instruction: str
    seed: int
    phase: str
    elapsed: float
    timeout: float
    outcome: str
    pace: float = 1.0

    @property
    def running(self) -> bool:
        """Whether the episode runs."""
        return self.state == RUNNING

    @property
    def episode(self) -> Episode:
        """What the control loop takes of it."""
        remaining = float(self.timeout - self.elapsed) if self.timeout > 0.0 else None
        return Episode(
            self.episode_id, self.running, self.state == RESETTING, self.task, self.stamp_ns, remaining, self.pace
        )


@dataclass(frozen=True, slots=True)
class Take:
    """One message that a tick took in. waited_ns: how long it lay in its queue, or how long before the tick it was."""

    kind: int
    key: int
    waited_ns: int
    value: Any
    """Status, RobotState, Planned, Told, bool (emergency stop), TakeoverRequest; None if it is not in the bag."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick: its command as recorded, and what it was made of."""

    log_ns: int
    command: Command
    steady_ns: int
    scheduled_ns: int | None
    takes: tuple[Take, ...]


@dataclass(frozen=True, slots=True)
class DecisionRecording:
    """Everything about decisions in one bag, each list in the order of reception.

    parameters: node to its parameters, as they were when recording began
    changes: (log_ns, node, parameters) set later
    exact: what each tick took in is on record, not guessed
    """

    path: Path
    problems: tuple[str, ...]
    exact: bool
    parameters: Mapping[str, Mapping[str, Any]]
    changes: tuple[tuple[int, str, Mapping[str, Any]], ...]
    statuses: tuple[Status, ...]
    states: tuple[tuple[int, RobotState], ...]
    embeddings: tuple[Seen, ...]
    corrections: tuple[Told, ...]
    chunks: tuple[Planned, ...]
    failures: tuple[BagMessage, ...]
    ticks: tuple[Tick, ...]
    by_stamp: ByStamp = field(repr=False)
    states_used: dict[int, RobotState | None] = field(default_factory=dict, repr=False)
    """By stamp of a chunk, once found out: the state that the policy went by; None if none gives the chunk."""

    @property
    def policy_revision(self) -> str:
        """Revision of the policy that made the first chunk; empty if there is none."""
        return next((item.value.provenance.policy_revision for item in self.chunks if item.value is not None), "")

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last command."""
        if len(self.ticks) < 2:
            return 0.0
        return (self.ticks[-1].command.stamp_ns - self.ticks[0].command.stamp_ns) * 1e-9

    def embedding(self, stamp: int) -> Seen | None:
        """The embedding of a stamp."""
        return self.by_stamp.embeddings.get(stamp)

    def state(self, stamp: int) -> RobotState | None:
        """The robot state of a stamp."""
        return self.by_stamp.states.get(stamp)

    def told(self, stamp: int) -> Told | None:
        """What the memory answered to the embedding of a stamp."""
        return self.by_stamp.corrections.get(stamp)

    def planned(self, stamp: int) -> Planned | None:
        """The chunk of a stamp."""
        return self.by_stamp.chunks.get(stamp)

    def status_at(self, log_ns: int) -> Status | None:
        """The newest episode status received until then."""
        place = bisect_right(self.by_stamp.status_logs, log_ns)
        return self.statuses[place - 1] if place else None

    def episode_so_far(self, log_ns: int) -> tuple[Status, ...]:
        """The first and the newest status, received until then, of the episode that stands then."""
        newest = self.status_at(log_ns)
        if newest is None:
            return ()
        first = next(
            item for item in self.statuses if (item.episode_id, item.state) == (newest.episode_id, newest.state)
        )
        return (first,) if first is newest else (first, newest)

    def running_at(self, log_ns: int) -> Status | None:
        """The newest status of a running episode received until then."""
        place = bisect_right(self.by_stamp.status_logs, log_ns)
        return next((item for item in reversed(self.statuses[max(0, place - 500) : place]) if item.running), None)

    def pace_at(self, log_ns: int) -> float:
        """Share of the speed of the episode that ran then; 1 without one."""
        status = self.running_at(log_ns)
        return 1.0 if status is None or invalid_pace(status.pace) is not None else status.pace

    def states_around(self, stamp: int, log_ns: int, reach_ns: int) -> list[RobotState]:
        """States within reach of a stamp that were received about then, the nearest first.

        Those that came a little later count too: a recorder that was held up takes what lies there topic by topic.
        """
        logs = self.by_stamp.state_logs
        first = max(0, bisect_right(logs, log_ns) - 40)
        found = [
            state
            for _, state in self.states[first : bisect_right(logs, log_ns + HELD_UP_NS)]
            if abs(state.stamp_ns - stamp) <= reach_ns
        ]
        return sorted(found, key=lambda state: abs(state.stamp_ns - stamp))

    def state_near(self, stamp: int, until_log_ns: int) -> RobotState | None:
        """The state whose stamp is nearest among those received until then: what the policy goes by."""
        best: RobotState | None = None
        place = bisect_right(self.by_stamp.state_logs, until_log_ns)
        # The policy keeps the last 40; what matters is among them.
        for _, state in self.states[max(0, place - 40) : place]:
            if best is None or abs(state.stamp_ns - stamp) < abs(best.stamp_ns - stamp):
                best = state
        return best


@dataclass(frozen=True, slots=True)
class ByStamp:
    """Where each thing is, by its stamp."""

    embeddings: Mapping[int, Seen]
    corrections: Mapping[int, Told]
    chunks: Mapping[int, Planned]
    states: Mapping[int, RobotState]
    status_logs: list[int]
    state_logs: list[int]


def timed_out(chunk: ActionChunk) -> bool:
    """Whether the policy sampled without an answer of the memory."""
    return chunk.provenance.correction is CorrectionMode.TIMEOUT
