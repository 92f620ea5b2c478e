# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the robot does when there is nothing valid to follow: hold, decelerate, stop, each with a reason.

HOLD        zero motion is asked for: the target comes to rest within the acceleration limit (two ticks from full speed)
            and stays. A late chunk costs no more than the pause; following goes on from the same target.
DECELERATE  the gap was no hiccup: the target is led, evenly over the time set, to where the tool is measured to be, so
            that the arm stops pressing toward a plan that nobody renews.
STOP        the target rests there. Left only when a chunk *and* a state have arrived since the stop.
EMERGENCY   latched by a person: the target comes to rest as in HOLD, after a moment it lets go as in DECELERATE, and it
            stays until the latch is reset, which leads to STOP.
IDLE        no episode: the target rests.
TAKEOVER    a person is followed instead of a chunk; one who falls silent is held for like a chunk that ran dry.

A mode never falls back to a milder one except to FOLLOW. The gripper keeps its last commanded opening in all of them:
an object is not dropped because a network stalled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Mode(IntEnum):
    """Values equal ControlCommand.MODE_*."""

    IDLE = 0
    FOLLOW = 1
    HOLD = 2
    DECELERATE = 3
    STOP = 4
    EMERGENCY_STOP = 5
    TAKEOVER = 6


class Reason(IntEnum):
    """Values equal ControlCommand.REASON_*."""

    NONE = 0
    NO_CHUNK = 1
    CHUNK_EXHAUSTED = 2
    CHUNK_TOO_OLD = 3
    STATE_MISSING = 4
    STATE_TOO_OLD = 5
    INVALID_ACTION = 6
    MEMORY_HOLD = 7
    EMERGENCY_STOP = 8
    EPISODE_INACTIVE = 9
    CLOCK_JUMP = 10
    TAKEOVER = 11
    TAKEOVER_LOST = 12


STARVED = frozenset(
    {Reason.NO_CHUNK, Reason.CHUNK_EXHAUSTED, Reason.CHUNK_TOO_OLD, Reason.INVALID_ACTION, Reason.CLOCK_JUMP}
)
"""Reasons that mean: for want of a chunk."""

EMERGENCY_REST_NS = 100_000_000
"""After this the target has come to rest at any permitted speed and the arm has nearly caught up with it."""

EMERGENCY_RELEASE_NS = 200_000_000
"""Time over which an emergency stop then lets go of what the arm presses against."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How long to hold, and then how long to decelerate, in nanoseconds since following ended."""

    hold_ns: int
    decelerate_ns: int


@dataclass(frozen=True, slots=True)
class LadderTimes:
    """The steps for want of a chunk, and for reasons that ask for others."""

    default: Steps = Steps(300_000_000, 500_000_000)
    by_reason: Mapping[Reason, Steps] = field(default_factory=dict)

    def steps(self, reason: Reason) -> Steps:
        """The steps for a reason."""
        return self.by_reason.get(reason, self.default)


class SafetyLadder:
    """Chooses the mode of each tick from the reason not to follow, if any. All times are on the steady clock."""

    def __init__(self, times: LadderTimes | None = None) -> None:
        self.times = times or LadderTimes()
        self.mode = Mode.IDLE
        self._left_follow_ns: int | None = None
        self._stopped_ns = 0
        self._emergency_ns: int | None = None
        self._release_end_ns = 0

    @property
    def emergency(self) -> bool:
        """Whether the emergency stop is latched."""
        return self._emergency_ns is not None

    def emergency_stop(self, steady_ns: int) -> None:
        """Latch the emergency stop; a second one changes nothing."""
        if self._emergency_ns is None:
            self._emergency_ns = steady_ns

    def reset_emergency_stop(self, steady_ns: int) -> None:
        """Release the latch: the robot is stopped until a fresh chunk and a fresh state arrive."""
        if self._emergency_ns is not None:
            self._emergency_ns = None
            self.mode, self._stopped_ns = Mode.STOP, steady_ns

    def stop(self, steady_ns: int) -> None:
        """Stop at once, without the steps before; a latched emergency stop stays that."""
        if self._emergency_ns is not None:
            self.mode = Mode.EMERGENCY_STOP
        else:
            self.mode, self._stopped_ns = Mode.STOP, steady_ns

    def clock_jumped(self, steady_ns: int) -> None:
        """Count every time from now on: on simulated time the steady clock itself may have run backwards."""
        if self._left_follow_ns is not None:
            self._left_follow_ns = steady_ns
        if self._emergency_ns is not None:
            self._emergency_ns = steady_ns
        self._stopped_ns = min(self._stopped_ns, steady_ns)

    def step(
        self,
        reason: Reason,
        steady_ns: int,
        chunk_arrival_ns: int | None,
        state_arrival_ns: int | None,
        following: Mode = Mode.FOLLOW,
    ) -> Mode:
        """Give the mode of the tick at ``steady_ns``.

        reason: why the chunk cannot be followed, NONE if it can; EPISODE_INACTIVE if there is nothing to do
        chunk_arrival_ns, state_arrival_ns: when those held now came; None if there is none
        following: the mode when there is something to follow; TAKEOVER for a person, whose request is then the chunk
        """
        if self._emergency_ns is not None:
            self.mode = Mode.EMERGENCY_STOP
            self._release_end_ns = self._emergency_ns + EMERGENCY_REST_NS + EMERGENCY_RELEASE_NS
        elif reason is Reason.EPISODE_INACTIVE:
            self.mode, self._left_follow_ns = Mode.IDLE, None
        elif reason is Reason.NONE and not self._kept_stopped(chunk_arrival_ns, state_arrival_ns):
            self.mode, self._left_follow_ns = following, None
        elif self.mode is not Mode.STOP:
            self._descend(reason, steady_ns)
        return self.mode

    def release_ticks(self, steady_ns: int, tick_ns: int) -> int | None:
        """Ticks left, this one included, in which the target is led to the measured tool; None when it just rests."""
        if self.mode is Mode.EMERGENCY_STOP:
            if self._emergency_ns is None or steady_ns - self._emergency_ns < EMERGENCY_REST_NS:
                return None
        elif self.mode is not Mode.DECELERATE:
            return None
        left_ns = self._release_end_ns - steady_ns
        return max(1, -(-left_ns // tick_ns)) if left_ns > 0 else None

    def _kept_stopped(self, chunk_arrival_ns: int | None, state_arrival_ns: int | None) -> bool:
        if self.mode is not Mode.STOP:
            return False
        return any(arrival is None or arrival < self._stopped_ns for arrival in (chunk_arrival_ns, state_arrival_ns))

    def _descend(self, reason: Reason, steady_ns: int) -> None:
        if self._left_follow_ns is None:
            self._left_follow_ns = steady_ns
        steps = self.times.steps(reason)
        elapsed = steady_ns - self._left_follow_ns
        if elapsed >= steps.hold_ns + steps.decelerate_ns:
            wanted = Mode.STOP
        elif elapsed >= steps.hold_ns:
            wanted = Mode.DECELERATE
        else:
            wanted = Mode.HOLD
        before = self.mode if self.mode in (Mode.HOLD, Mode.DECELERATE) else Mode.HOLD
        self.mode = max(before, wanted)
        if self.mode is Mode.DECELERATE:
            self._release_end_ns = self._left_follow_ns + steps.hold_ns + steps.decelerate_ns
        elif self.mode is Mode.STOP:
            self._stopped_ns = steady_ns
