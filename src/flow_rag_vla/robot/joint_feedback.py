# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is believed of the joint states that an arm's driver sends, and why it is held while they are not believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.robot.hold import Hold, Problem
from flow_rag_vla.robot.profile import RobotProfile

Array = NDArray[np.float64]

_GOOD_IN_A_ROW = 3
"""Joint states in a row that make them believable, at first and after a silence: a driver's first may be what it began
with, not what it measured."""
_MEASURED_MARGIN = 0.02
"""Radians by which a measured joint may be outside its limits: calibration and noise. Half of it ends the hold."""

SETTLED_NS = 500_000_000
"""For how long nothing else must have been seen before the arm moves again after joint states that made no sense, or
after it did not go where it was told. Without that, what is wrong now and then would move the arm in starts and stops.
"""

_NOTHING = np.zeros(0)


class JointFeedback:
    """The newest joint positions that make sense. Times are integer nanoseconds of a steady clock."""

    def __init__(self, profile: RobotProfile) -> None:
        self._profile, self._names = profile, profile.joint_names
        self._low, self._high = profile.limits("low"), profile.limits("high")
        self._speed = profile.limits("velocity")
        self.measured: Array | None = None
        """(J,) radians: the newest joint state that made sense."""
        self._measured_ns = 0
        self._sample: tuple[Array, int] | None = None
        """The newest joint state, believed or not, and when it came."""
        self._bad_sample = self._others = ""
        self._good_samples = 0
        self._bad_ns = 0
        self._beyond_limits = False

    def sense(self, names: Sequence[str], positions: Sequence[float], now_ns: int) -> Array | None:
        """Take a joint state in any order of names; (J,) radians in the profile's, or None if it is not believed.

        One that names none of the arm's joints is another driver's and passed over, and the first two are not believed
        yet. After one that makes no sense, or that is further from the one before than the arm can have gone, none is
        believed until some in a row make sense, and nothing else comes for half a second.
        """
        if names and set(names).isdisjoint(self._names):
            # Another driver's on the same topic: a gripper, a mobile base.
            self._others = f"; what comes names {', '.join(names)}: correct the profile's joint names"
            return None
        if self._sample is not None and now_ns - self._sample[1] > self._profile.state_timeout * 1e9:
            self._good_samples = 0
        values, problem = self._positions(names, positions)
        problem = problem or self._leap(values, now_ns)
        if problem:
            self._bad_sample, self._good_samples, self._bad_ns = problem, 0, now_ns
            return None
        self._good_samples += 1
        if self._good_samples < _GOOD_IN_A_ROW or (self._bad_sample and now_ns - self._bad_ns < SETTLED_NS):
            return None
        self._bad_sample = ""
        self.measured, self._measured_ns = values, now_ns
        return values

    def problem(self, now_ns: int) -> Problem | None:
        """Why the arm cannot be moved for want of joint states that are believed, fresh and inside the limits."""
        profile = self._profile
        if self._bad_sample:
            return Hold.JOINT_STATES_INVALID, self._bad_sample
        if self.measured is None:
            few = f"; fewer than {_GOOD_IN_A_ROW} came within {profile.state_timeout:g} s of each other"
            seen = self._others if self._sample is None else few
            return Hold.NO_JOINT_STATES, f"expected on {profile.joint_states!r}{seen}"
        age = (now_ns - self._measured_ns) / 1e9
        if age > profile.state_timeout:
            return Hold.JOINT_STATES_STALE, f"the last is {age:.3f} s old, limit {profile.state_timeout:g} s"
        outside = np.maximum(self._low - self.measured, self.measured - self._high)
        worst = int(outside.argmax())
        self._beyond_limits = bool(outside[worst] > (0.5 if self._beyond_limits else 1.0) * _MEASURED_MARGIN)
        if self._beyond_limits:
            return Hold.JOINTS_OUTSIDE_LIMITS, (
                f"{self._names[worst]} is at {self.measured[worst]:.3f} rad, limits {self._low[worst]:g} to "
                f"{self._high[worst]:g}; move it back by hand or with the maker's tools"
            )
        return None

    def _positions(self, names: Sequence[str], positions: Sequence[float]) -> tuple[Array, str]:
        """(J,) radians in the profile's order, and what is wrong with them; empty if nothing is."""
        if len(positions) < len(names) or len(set(names)) != len(names):
            return _NOTHING, f"{len(positions)} positions for the names {list(names)}"
        places = {name: index for index, name in enumerate(names)}
        missing = [name for name in self._names if name not in places]
        if missing:
            return _NOTHING, f"{', '.join(missing)} missing from {list(names)}; correct the profile's joint names"
        values = np.array([positions[places[name]] for name in self._names], dtype=np.float64)
        if not np.isfinite(values).all():
            return values, f"joint positions {values.round(4).tolist()} are not all finite; check the driver"
        return values, ""

    def _leap(self, values: Array, now_ns: int) -> str:
        """How positions (J,), radians, are further from the sample before than the arm can have gone; empty if not."""
        before, self._sample = self._sample, (values, now_ns)
        if before is None:
            return ""
        # Numbers of a driver gone wild may be further apart than any number: infinitely far says the same.
        with np.errstate(over="ignore"):
            away = np.abs(values - before[0])
        # Samples may come bunched, so a little more than what the speed allows is let pass: a lag of that size would be
        # held for anyway.
        beyond = away - self._speed * ((now_ns - before[1]) / 1e9) - self._profile.tracking
        worst = int(beyond.argmax())
        if beyond[worst] <= 0.0:
            return ""
        return (
            f"{self._names[worst]} leapt by {away[worst]:.3f} rad in {(now_ns - before[1]) / 1e6:.0f} ms; look at its "
            "encoder, or whether two drivers publish the same topic"
        )
