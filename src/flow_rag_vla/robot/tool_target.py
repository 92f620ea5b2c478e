# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The pose that a tool is told, led toward a goal inside the tool's own limits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.robot.profile import RobotProfile
from flow_rag_vla.robot.tracker import Tracker, fastest

Array = NDArray[np.float64]


class ToolTarget:
    """A pose with a velocity. Positions (3,) in metres, orientations (4,) unit quaternions x y z w, base frame."""

    def __init__(self, profile: RobotProfile, position: Array, orientation: Array) -> None:
        """Stand still at a pose."""
        self._profile = profile
        self._period = 1.0 / profile.command_rate
        # An axis gets its share of the tool's limits, so that a diagonal keeps them too.
        share = 1.0 / math.sqrt(3.0)
        speed, acceleration = np.full(3, share * profile.tool_speed), np.full(3, share * profile.tool_acceleration)
        self._place = Tracker(position, speed, acceleration, self._period)
        self.orientation = orientation
        self.turning = np.zeros(3)
        """(3,) rad/s, base axes: how fast it turns."""

    @property
    def position(self) -> Array:
        """(3,) metres."""
        return self._place.value

    @property
    def velocity(self) -> Array:
        """(3,) metres per second."""
        return self._place.velocity

    @property
    def at_rest(self) -> bool:
        """Whether it neither moves nor turns."""
        return self._place.at_rest and not self.turning.any()

    def put(self, position: Array, orientation: Array) -> None:
        """Stand at another pose from now on; for a target at rest."""
        self._place.value, self.orientation = position.copy(), orientation

    def step(self, goal: tuple[Array, Array] | None, elapsed_s: float) -> None:
        """Go on toward a goal, position and orientation, for so long; without one, come to rest."""
        self._place.step(None if goal is None else goal[0], elapsed_s)
        self._turn(None if goal is None else goal[1], elapsed_s)

    def far(self, position: Array, orientation: Array) -> float:
        """How far a pose is from this one, as a share of what is in reach in time; see ``in_reach``."""
        return in_reach(
            self._profile, np.concatenate([position - self.position, turn_between(self.orientation, orientation)])
        )

    def _turn(self, goal: Array | None, elapsed_s: float) -> None:
        """Turn toward an orientation inside the limits, or come to rest without one."""
        profile, elapsed = self._profile, min(max(elapsed_s, 0.0), self._period)
        # It gathers its speed in the time in which the tool does.
        acceleration = profile.turn_speed * profile.tool_acceleration / profile.tool_speed
        wanted = np.zeros(3)
        if goal is not None:
            away = turn_between(self.orientation, goal)
            angle = float(np.linalg.norm(away))
            if angle > 1e-9:
                limits = np.array([profile.turn_speed]), np.array([acceleration])
                wanted = away * (fastest(np.array([angle]), *limits, self._period)[0] / angle)
        self.turning = self.turning + shortened(wanted - self.turning, acceleration * elapsed)
        turned = quaternion_multiply(quaternion_from_rotation_vector(self.turning * elapsed), self.orientation)
        self.orientation = turned / np.linalg.norm(turned)


def in_reach(profile: RobotProfile, motion: Array) -> float:
    """Share that a motion (6,), metres and radians, has of what the tool does in ``reach_time`` at its limits."""
    return max(
        float(np.linalg.norm(motion[:3])) / (profile.tool_speed * profile.reach_time),
        float(np.linalg.norm(motion[3:])) / (profile.turn_speed * profile.reach_time),
    )


def turn_between(one: Array, other: Array) -> Array:
    """Rotation vector (3,), radians, that leads from one orientation (4,) x y z w to another, the shorter way."""
    return rotation_vector_from_quaternion(quaternion_multiply(other, quaternion_conjugate(one)))


def shortened(vector: Array, longest: float) -> Array:
    """The vector, or one of its direction and the longest length allowed."""
    return vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))
