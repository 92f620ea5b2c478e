# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What may be said of a stream of commands by someone who knows only the limits, not the loop that made them.

Nothing of ``control`` is used here: a fault in the loop's own arithmetic must not hide itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

PERIOD_NS = 25_000_000
IDLE, FOLLOW, EMERGENCY_STOP, TAKEOVER = 0, 1, 5, 6
"""Modes, as ControlCommand numbers them."""
LISTENING_TICKS = 24
"""A loop that was just started rests for half a second, in which it may not have heard yet who asks it to stop."""
_CUT_SHORT = 1 | 16
"""Clamps of the workspace and of the tracking distance: where either ends a motion, it may end at once."""
_LENGTH, _ANGLE = 1e-6, 1e-5
"""Rounding: metres and radians. Angles come of an arc cosine near 1."""
_EDGE = 1e-4
"""Metres: rounding at the edge of the workspace, of an arm that stands there."""
_BRAKED = 0.01
"""Metres by which an arm that was on its way to the edge when its controller died may have come to rest outside: it is
braked, and not bent aside. A loop that is started again holds it where it stands, and leads it in from there."""


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """What no command may pass. Lengths in metres, angles in radians, both a tick; ages in milliseconds."""

    translation: float
    rotation: float
    translation_change: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    gripper_width: float
    tracking: float
    age_ms: float


@dataclass(frozen=True, slots=True)
class CommandSample:
    """One command as it was heard.

    sent_ns: when it left, received_ns: when it came; both on the steady clock of who heard it
    position: (x, y, z) metres; orientation: x y z w, length 0 where no target was named
    """

    sent_ns: int
    received_ns: int
    tick: int
    mode: int
    reason: int
    reason_text: str
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float]
    gripper_width: float
    clamps: int
    chunk_id: int
    age_ms: float


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be, with the values."""

    kind: str
    at_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of more than two periods in which no command left."""

    start_ns: int
    end_ns: int

    @property
    def ms(self) -> float:
        """Its length in milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6


class CommandWatch:
    """Takes commands in the order in which they came."""

    def __init__(self, limits: CommandLimits) -> None:
        self.limits = limits
        self.commands = 0
        self.restarts = 0
        """How often the count of ticks began anew: another controller process."""
        self.lost = 0
        """Ticks that were not heard."""
        self.modes: Counter[int] = Counter()
        self._last: CommandSample | None = None
        self._step: tuple[float, float, float] | None = None
        self._stop_ns: int | None = None
        self._after_stop = 0
        self._latched = False
        self._outside = 0.0
        """Metres by which the arm may still be outside the workspace, since a loop began there."""

        self._aimed = False
        """Whether the process that sends has named a target yet: it names none before it knows where the arm is."""

        self._obeying_ns: int | None = None
        """When the first of the commands that obey an emergency stop left, while they do."""

        self.stop_delays_ms: list[float] = []
        """From each emergency stop to the first command that obeyed it."""

    def stop_asked(self, at_ns: int) -> None:
        """An emergency stop was published at this steady time."""
        if self._stop_ns is None:
            self._stop_ns, self._after_stop, self._latched = at_ns, 0, False
            # What was heard of the stop may come later than what was done about it.
            if self._obeying_ns is not None and self._obeying_ns >= at_ns:
                self._latched = True
                self.stop_delays_ms.append((self._obeying_ns - at_ns) / 1e6)

    def stop_released(self) -> None:
        """The emergency stop was released."""
        self._stop_ns = None

    def take(self, sample: CommandSample) -> tuple[list[Violation], Gap | None]:
        """What is wrong with this command, and the gap before it if there was one."""
        self.commands += 1
        self.modes[sample.mode] += 1
        last = self._last
        if last is not None and sample.tick < last.tick:
            self._aimed = False
        found = [*self._alone(sample), *self._stopped(sample)]
        gap: Gap | None = None
        if last is not None:
            found += self._after(last, sample)
            if sample.sent_ns - last.sent_ns > 2 * PERIOD_NS:
                gap = Gap(last.sent_ns, sample.sent_ns)
        self._last = sample
        return [Violation(kind, sample.received_ns, text) for kind, text in found], gap

    def _alone(self, sample: CommandSample) -> list[tuple[str, str]]:
        found, limits = [], self.limits
        name = f"tick {sample.tick}"
        length = math.sqrt(sum(value * value for value in sample.orientation))
        numbers = (*sample.position, *sample.orientation, sample.gripper_width, sample.age_ms)
        if not all(map(math.isfinite, numbers)):
            return [("not finite", f"{name}: {numbers}")]
        if sample.mode not in (FOLLOW, TAKEOVER) and (not sample.reason or not sample.reason_text):
            found.append(("no reason", f"{name}: mode {sample.mode} without a reason"))
        if sample.mode == FOLLOW:
            if sample.age_ms > limits.age_ms + PERIOD_NS / 1e6:
                found.append(("too old", f"{name}: observation {sample.age_ms:.0f} ms old, limit {limits.age_ms:.0f}"))
            if not sample.chunk_id:
                found.append(("no origin", f"{name}: follows no chunk"))
        if length == 0.0:
            if sample.mode == FOLLOW:
                found.append(("no target", f"{name}: follows without a target"))
            return found
        if abs(length - 1.0) > 1e-3:
            found.append(("quaternion", f"{name}: length {length:.4f}"))
        found += self._workspace(sample)
        if not -_LENGTH <= sample.gripper_width <= limits.gripper_width + _LENGTH:
            found.append(("gripper", f"{name}: {sample.gripper_width:.4f} m, limit {limits.gripper_width:g}"))
        return found

    def _workspace(self, sample: CommandSample) -> list[tuple[str, str]]:
        """Inside; or, of a loop that began with the arm outside, never farther out than the command before."""
        limits = self.limits
        axes = list(zip(sample.position, limits.low, limits.high, "xyz", strict=True))
        outside = max(max(low - value, value - high, 0.0) for value, low, high, _ in axes)
        if not self._aimed:
            self._outside = _BRAKED if sample.mode not in (FOLLOW, TAKEOVER) else 0.0
        self._aimed = True
        allowed = self._outside + _EDGE
        self._outside = min(self._outside, outside)
        return [
            ("workspace", f"tick {sample.tick}: {axis} {value:.6f} m, limits {low:g} to {high:g}")
            for value, low, high, axis in axes
            if not low - allowed <= value <= high + allowed
        ]

    def _after(self, last: CommandSample, sample: CommandSample) -> list[tuple[str, str]]:
        limits, name = self.limits, f"tick {sample.tick}"
        step, self._step = self._step, None
        known = any(last.orientation) and any(sample.orientation)
        moved = _difference(last.position, sample.position)
        length = _length(moved)
        if sample.tick < last.tick:
            self.restarts += 1
            # Another process begins where the tool is measured, which a target may be this far ahead of. Its first
            # commands may not have been heard, but each of them moves no farther than a command may.
            if known and length > limits.tracking + limits.translation * max(sample.tick, 1) + _LENGTH:
                return [("restart", f"{name}: {length:.4f} m from the last target of the process before")]
            return []
        ticks = sample.tick - last.tick
        if ticks == 0:
            return [("repeated", f"{name} came twice")]
        self.lost += ticks - 1
        if not known:
            return []
        found = []
        jumped = length > ticks * limits.translation + _LENGTH
        if jumped:
            found.append(("velocity", f"{name}: {length:.5f} m in {ticks} ticks, limit {limits.translation:g} a tick"))
        turned = _angle(last.orientation, sample.orientation)
        if turned > ticks * limits.rotation + _ANGLE:
            found.append(("rotation", f"{name}: {turned:.4f} rad in {ticks} ticks, limit {limits.rotation:g} a tick"))
        if ticks > 1:
            return found
        # A jump is named once: that the next step is a usual one again is no second one.
        self._step = None if jumped else moved
        if step is not None and not sample.clamps & _CUT_SHORT:
            change = _length(_difference(step, moved))
            if change > limits.translation_change + _LENGTH:
                limit = limits.translation_change
                found.append(("acceleration", f"{name}: the step changed by {change:.5f} m, limit {limit:g}"))
        return found

    def _stopped(self, sample: CommandSample) -> list[tuple[str, str]]:
        rests = sample.mode == IDLE and sample.tick < LISTENING_TICKS
        obeys = rests or sample.mode == EMERGENCY_STOP
        if not obeys:
            self._obeying_ns = None
        elif self._obeying_ns is None:
            self._obeying_ns = sample.sent_ns
        asked = self._stop_ns
        if asked is None or sample.sent_ns < asked:
            return []
        if obeys:
            if not self._latched:
                self.stop_delays_ms.append((sample.sent_ns - asked) / 1e6)
            self._latched = True
            return []
        self._after_stop += 1
        if self._latched:
            return [("not latched", f"tick {sample.tick}: mode {sample.mode} although the stop was not released")]
        # One tick may have begun before the message arrived; the one after it leaves more than a period after the stop.
        if sample.sent_ns - asked > PERIOD_NS and self._after_stop > 1:
            late = (sample.sent_ns - asked) / 1e6
            return [("emergency stop", f"tick {sample.tick}: not stopped {late:.0f} ms after it was asked for")]
        return []


def _difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    return other[0] - one[0], other[1] - one[1], other[2] - one[2]


def _length(vector: Sequence[float]) -> float:
    return math.hypot(*vector)


def _angle(one: Sequence[float], other: Sequence[float]) -> float:
    dot = abs(sum(a * b for a, b in zip(one, other, strict=True)))
    return 2.0 * math.acos(min(1.0, dot))
