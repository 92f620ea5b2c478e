# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An arm to try the bridge on: joints that follow with a lag, limits and a watchdog of its own.

It shares no code with the bridge's limits, so what the bridge sends is judged by someone else.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.robot.profile import RobotProfile

Array = NDArray[np.float64]

_TOLERANCE = 1e-6


class MockArm:
    """First-order joints that never pass their limits, whatever they are told. Times in seconds of a steady clock.

    violations: commanded positions that were not finite, outside the limits, or further from the one before than the
    velocity limit allows in the time between them; such a command is not followed
    watchdog_stops: how often commands stopped coming while the arm was under way
    """

    def __init__(self, profile: RobotProfile, time_constant_s: float) -> None:
        self._profile, self._lag = profile, time_constant_s
        self._low, self._high = profile.limits("low"), profile.limits("high")
        self._speed = profile.limits("velocity")
        self.positions = profile.limits("home")
        self.velocities = np.zeros_like(self.positions)
        self.violations = 0
        self.watchdog_stops = 0
        self.commands = 0
        self._target: Array | None = None
        self._last: tuple[Array, float] | None = None
        self._credit = 0.0

    def command(self, joints: Array, now_s: float) -> bool:
        """Take commanded positions (J,), radians; whether they are followed."""
        self.commands += 1
        good = joints.shape == self.positions.shape and bool(np.isfinite(joints).all())
        if good:
            good = bool((joints >= self._low - _TOLERANCE).all() and (joints <= self._high + _TOLERANCE).all())
        if good and self._last is None:
            # A drive takes up a motion only from about where it is; how fast it goes there it limits itself.
            good = bool((np.abs(joints - self.positions) <= self._profile.tracking).all())
            self._credit = 0.0
        elif good and self._last is not None:
            before, then = self._last
            # Messages that were sent a period apart may arrive bunched, or one of them not at all: what counts is the
            # way in the time that passed, not the time between two arrivals.
            period = 1.0 / self._profile.command_rate
            self._credit = min(self._credit + now_s - then, self._profile.command_timeout)
            needed = float((np.abs(joints - before) / self._speed).max())
            good = needed <= max(self._credit, period) * 1.001 + _TOLERANCE
            if good:
                self._credit = max(self._credit - needed, 0.0)
        if not good:
            self.violations += 1
            return False
        self._target, self._last = joints.copy(), (joints.copy(), now_s)
        return True

    def advance(self, now_s: float, elapsed_s: float) -> None:
        """Let ``elapsed_s`` pass."""
        if self._last is not None and now_s - self._last[1] > self._profile.command_timeout:
            if self._target is not None:
                self.watchdog_stops += 1
            self._target, self._last = None, None
        if self._target is None:
            self.velocities = np.zeros_like(self.positions)
            return
        step = (self._target - self.positions) * (1.0 - math.exp(-elapsed_s / self._lag))
        step = np.clip(step, -self._speed * elapsed_s, self._speed * elapsed_s)
        self.positions = np.clip(self.positions + step, self._low, self._high)
        self.velocities = step / elapsed_s
