# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The newest believable robot state, and how old it is."""

from __future__ import annotations

from collections import Counter
from enum import Enum

import numpy as np

from flow_rag_vla.core.state import FARTHEST, RobotState


class StateRefusal(str, Enum):
    """Why a robot state was not taken."""

    INVALID = "invalid"
    FUTURE = "from the future"
    OLDER = "older than the one held"
    UNCONFIRMED = "displaced, not yet confirmed"


class Measurement:
    """Keeps one robot state: the newest.

    A tool that seems to have moved further than ``jump_m`` since the last sample is believed when the next sample shows
    it too: one wild sample changes nothing, a robot that was really moved (by hand, by a reset) is noticed one sample
    later.
    """

    def __init__(self, future_tolerance_ns: int, jump_m: float) -> None:
        self.future_tolerance_ns = future_tolerance_ns
        self.jump_m = jump_m
        self.trusting = False
        """Believe a displacement at once: somebody is known to move the robot."""
        self.state: RobotState | None = None
        self.arrival_steady_ns = 0
        self.displacements = 0
        """How often the robot was found elsewhere."""
        self.refused: Counter[StateRefusal] = Counter()
        self._age_on_arrival_ns = 0
        self._suspect: RobotState | None = None

    def clear(self) -> None:
        """Forget the state."""
        self.state = self._suspect = None

    def age_ns(self, steady_ns: int) -> int:
        """Age of the state, its growth measured on the steady clock."""
        return self._age_on_arrival_ns + steady_ns - self.arrival_steady_ns

    def offer(self, state: RobotState, now_ns: int, steady_ns: int) -> StateRefusal | None:
        """Take the state (None) or say why not."""
        refusal = self._refusal(state, now_ns)
        if refusal is not None:
            self.refused[refusal] += 1
            return refusal
        self.state, self._suspect = state, None
        self.arrival_steady_ns, self._age_on_arrival_ns = steady_ns, max(0, now_ns - state.stamp_ns)
        return None

    def _refusal(self, state: RobotState, now_ns: int) -> StateRefusal | None:
        if invalid_state(state) is not None:
            return StateRefusal.INVALID
        if state.stamp_ns > now_ns + self.future_tolerance_ns:
            return StateRefusal.FUTURE
        if self.state is None:
            return None
        if state.stamp_ns < self.state.stamp_ns:
            return StateRefusal.OLDER
        if _distance(state, self.state) <= self.jump_m:
            return None
        if self.trusting or (self._suspect is not None and _distance(state, self._suspect) <= self.jump_m):
            self.displacements += 1
            return None
        self._suspect = state
        return StateRefusal.UNCONFIRMED


def invalid_state(state: RobotState) -> str | None:
    """Say what is wrong with a state, or None.

    A pose of finite numbers, within ``FARTHEST`` of the base, and a quaternion of length 1 (to 1 %) is valid.
    """
    if state.position.shape != (3,) or state.orientation.shape != (4,):
        return f"pose has shapes {state.position.shape} and {state.orientation.shape}, expected (3,) and (4,)"
    # One comparison catches NaN, infinity and absurd numbers.
    if not bool((np.abs(state.position) < FARTHEST).all()):
        return f"position is {state.position.tolist()}, expected finite metres"
    norm = float(np.sqrt(np.dot(state.orientation, state.orientation)))
    if not abs(norm - 1.0) < 0.01:
        return f"quaternion has length {norm:.3f}, expected 1"
    if not 0.0 <= abs(state.gripper_width) < 100.0:
        return f"gripper width is {state.gripper_width}, expected finite metres"
    return None


def _distance(one: RobotState, other: RobotState) -> float:
    difference = one.position - other.position
    return float(np.sqrt(np.dot(difference, difference)))
