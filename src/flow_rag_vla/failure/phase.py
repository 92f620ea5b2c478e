# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which stretch of a manipulation the robot is in, told from its own gripper and tool."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.grip import Grip, GripLimits, GripTracker

PUSH_TASKS = frozenset({"push"})
"""Tasks done with the hand as it is: nothing is grasped; being low takes the place of the hold."""


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """How far the tool goes before a phase counts as entered or left."""

    transport_distance: float = 0.015
    """Metres from where the hold began; a held object farther than this is under way."""
    release_distance: float = 0.05
    """Metres from where the hand opened; farther than this the next approach has begun."""
    release_time: float = 1.5
    """Seconds after which an opened hand is approaching again, wherever it is."""
    push_height: float = 0.05
    """Metres above the table below which a hand that pushes is at work."""
    push_rise: float = 0.02
    """Metres above ``push_height`` at which the object is left alone."""


class PhaseTracker:
    """Follows the phase from sample to sample; pure: the same samples give the same phases."""

    def __init__(self, limits: PhaseLimits | None = None, grip_limits: GripLimits | None = None) -> None:
        self.limits = limits or PhaseLimits()
        self._tracker = GripTracker(grip_limits)
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self._tracker.reset()
        self._phase = Phase.IDLE
        self._since_ns = 0
        self._anchor: NDArray[np.float64] | None = None
        self._stamp_ns = 0
        self._grip: Grip | None = None

    @property
    def phase(self) -> Phase:
        """The present phase; IDLE before the first sample."""
        return self._phase

    @property
    def since_ns(self) -> int:
        """Stamp at which the present phase began."""
        return self._since_ns

    @property
    def grip(self) -> Grip | None:
        """The hand at the last sample; None before the first."""
        return self._grip

    def update(self, state: RobotState, gripper_command: float, task: str) -> Phase:
        """Take one sample in and give the phase.

        A stamp before the last one is a jump of the clock and begins anew.

        Args:
            state: what the robot senses.
            gripper_command: commanded opening, 0 (closed) to 1 (open), as in an action; NaN before the first command.
            task: name of the task, or "" when none runs: the phase is then IDLE.
        """
        if state.stamp_ns < self._stamp_ns:
            self.reset()
        self._stamp_ns = state.stamp_ns
        before = self._grip
        grip = self._tracker.update(state.stamp_ns, state.gripper_width, state.gripper_effort, gripper_command)
        self._grip = grip
        if not task:
            phase = Phase.IDLE
        elif task in PUSH_TASKS:
            phase = self._pushing(state)
        else:
            phase = self._grasping(state, grip, before)
        if phase is not self._phase:
            self._phase, self._since_ns = phase, state.stamp_ns
        return phase

    def _grasping(self, state: RobotState, grip: Grip, before: Grip | None) -> Phase:
        phase = self._phase
        if not grip.closing:
            if phase is Phase.TRANSPORT and before is not None and before.holding:
                self._anchor = state.position.copy()
                return Phase.RELEASE
            if phase is Phase.RELEASE and not self._left(state):
                return phase
            self._anchor = None
            return Phase.REACH
        if grip.holding and (before is None or not before.holding):
            self._anchor = state.position.copy()
        if phase is Phase.TRANSPORT:
            return phase
        carried = grip.holding and self._distance(state) > self.limits.transport_distance
        return Phase.TRANSPORT if carried else Phase.GRASP

    def _left(self, state: RobotState) -> bool:
        waited = (state.stamp_ns - self._since_ns) * 1e-9
        return waited > self.limits.release_time or self._distance(state) > self.limits.release_distance

    def _pushing(self, state: RobotState) -> Phase:
        # Height tells more than force: at 40 Hz the hand's own inertia (9 N) hides the 1 N of a sliding object.
        height, limits = float(state.position[2]), self.limits
        if height < limits.push_height:
            return Phase.TRANSPORT
        if self._phase is Phase.TRANSPORT:
            if height < limits.push_height + limits.push_rise:
                return Phase.TRANSPORT
            self._anchor = state.position.copy()
            return Phase.RELEASE
        if self._phase is Phase.RELEASE and not self._left(state):
            return Phase.RELEASE
        return Phase.REACH

    def _distance(self, state: RobotState) -> float:
        if self._anchor is None:
            return 0.0
        x, y, z = (float(value) for value in state.position - self._anchor)
        return math.sqrt(x * x + y * y + z * z)
