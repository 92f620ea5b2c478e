# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Moves values toward goals inside limits of speed and acceleration, always able to stop in time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fastest(way: Array, speed: Array, acceleration: Array, period_s: float) -> Array:
    """Speeds (N,), at most ``speed``, from which a stop in steps of one period ends after just so much way (N,)."""
    # From n + f steps, f below 1, a stop takes n (n + 1) / 2 + f (n + 1) units of way, this step among them.
    distance = way / (acceleration * period_s**2)
    whole = np.floor((np.sqrt(1.0 + 8.0 * distance) - 1.0) / 2.0)
    steps = whole + (distance - whole * (whole + 1.0) / 2.0) / (whole + 1.0)
    return np.minimum(np.minimum(steps * acceleration * period_s, way / period_s), speed)


_SLOWER = 6
"""How many times within one step the speeds are lowered, at most, until they keep the share."""


class Tracker:
    """Values (N,) with a velocity each. At every step each comes nearer to its goal as fast as its limits allow.

    A value never runs past a goal at which it could have stopped: the speed is the one from which a stop in steps of
    one period just ends there. Goals inside position limits thus keep the values inside.
    """

    def __init__(self, start: Array, speed: Array, acceleration: Array, period_s: float) -> None:
        self.value = np.array(start, dtype=np.float64)
        self.velocity = np.zeros_like(self.value)
        self._speed, self._acceleration, self._period = speed, acceleration, period_s

    def step(self, goal: Array | None, elapsed_s: float, share: Callable[[Array], float] | None = None) -> Array:
        """Values one step later; without a goal they come to rest.

        Time that passed beyond one period does not count: a late step is no licence for a long one.

        share: what the values move together may be slower than each of them by itself: gives, for speeds (N,), the
            share of them that is allowed, above 0 and at most 1
        """
        period, acceleration = self._period, self._acceleration
        elapsed = min(max(elapsed_s, 0.0), period)
        change = acceleration * elapsed
        low, high = self.velocity - change, self.velocity + change
        if goal is None:
            wanted = np.zeros_like(self.value)
        else:
            away = goal - self.value
            wanted = np.sign(away) * fastest(np.abs(away), self._speed, acceleration, period)
            if share is not None:
                wanted = wanted * share(wanted)
        self.velocity = np.clip(wanted, low, high)
        if share is not None and goal is not None:
            # Each value brakes within its own limit, so that what they move together may be too fast for some steps
            # more. Then all brake harder, each at most as hard as it can.
            for _ in range(_SLOWER):
                part = share(self.velocity)
                if part >= 1.0:
                    break
                wanted = wanted * min(part, 0.8)
                self.velocity = np.clip(wanted, low, high)
        self.value = self.value + self.velocity * elapsed
        return self.value

    def limit(self, low: Array, high: Array) -> None:
        """Keep the values inside, whatever rounding did."""
        inside = np.clip(self.value, low, high)
        self.velocity = np.where(inside == self.value, self.velocity, 0.0)
        self.value = inside

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves."""
        return bool((np.abs(self.velocity) < 1e-9).all())
