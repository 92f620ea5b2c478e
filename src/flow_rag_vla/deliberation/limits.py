# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot may do, as far as a plan is concerned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.action import CONTROL_RATE_HZ
from flow_rag_vla.robot.profile import RobotProfile
from flow_rag_vla.sim.tasks import TASK_RULES

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class RobotLimits:
    """Where a robot's tool may be, how fast it may go, how wide its hand opens. Metres, metres a second.

    commanded_speed: the fastest that the controller ever commands
    """

    name: str
    workspace_low: Point
    workspace_high: Point
    tool_speed: float
    commanded_speed: float
    gripper_opening: float
    has_gripper: bool = True

    def outside(self, position: Point, margin: float = 0.0) -> float:
        """Metres by which a place lies outside the workspace less a margin across; 0 inside.

        The margin is kept to the sides and in front. Above and below it is none: things lie on the table.
        """
        beyond = 0.0
        for axis, value in enumerate(position):
            kept = margin if axis < 2 else 0.0
            low, high = self.workspace_low[axis] + kept, self.workspace_high[axis] - kept
            # Where a thing lies may be lower than where the tool stops above the table.
            if axis == 2:
                low = min(low, -0.02)
            beyond = max(beyond, low - value, value - high)
        return beyond


def simulated_limits() -> RobotLimits:
    """Of the simulated arm: the controller's own."""
    limits = MotionLimits()
    speed = limits.translation * CONTROL_RATE_HZ
    return RobotLimits("simulated arm", limits.workspace_low, limits.workspace_high, speed, speed, limits.gripper_width)


def profile_limits(profile: RobotProfile) -> RobotLimits:
    """Of an arm: where its own workspace and the controller's overlap.

    Raises:
        ValueError: if they do not.
    """
    simulated = simulated_limits()
    low = tuple(max(one, other) for one, other in zip(profile.workspace_low, simulated.workspace_low, strict=True))
    high = tuple(min(one, other) for one, other in zip(profile.workspace_high, simulated.workspace_high, strict=True))
    if any(below >= above for below, above in zip(low, high, strict=True)):
        raise ValueError(
            f"{profile.file}: workspace {list(profile.workspace_low)} to {list(profile.workspace_high)} lies outside "
            f"the controller's, {list(simulated.workspace_low)} to {list(simulated.workspace_high)}"
        )
    return RobotLimits(
        profile.name,
        (low[0], low[1], low[2]),
        (high[0], high[1], high[2]),
        profile.tool_speed,
        simulated.commanded_speed,
        profile.gripper.width_open,
        profile.gripper.kind != "none",
    )


def time_limit(task: str) -> float:
    """Seconds that a task may take."""
    return TASK_RULES[task].time_limit_s


def distance(one: Point, other: Point) -> float:
    """Metres between two places."""
    return math.dist(one, other)
