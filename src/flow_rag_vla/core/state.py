# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot senses about itself, and the command it is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

GRIPPER_MAX_WIDTH = 0.08
"""Metres between the fingertips of an open Panda hand."""

FARTHEST = 100.0
"""Metres: a tool that is said to be farther from the base of its arm is not measured there."""


def _zeros(size: int) -> NDArray[np.float64]:
    return np.zeros(size)


@dataclass(frozen=True, slots=True)
class RobotState:
    """One sample of proprioception.

    position: (3,) float64, tool centre point in the base frame, metres
    orientation: (4,) float64, unit quaternion x y z w
    joint_positions, joint_velocities: (J,) float64, radians and radians per second
    gripper_width: metres; gripper_effort: newtons, positive squeezes
    wrench: (6,) float64, external force (N) and torque (N m) at the tool, base frame
    """

    stamp_ns: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    joint_positions: NDArray[np.float64] = field(default_factory=lambda: _zeros(7))
    joint_velocities: NDArray[np.float64] = field(default_factory=lambda: _zeros(7))
    gripper_width: float = GRIPPER_MAX_WIDTH
    gripper_effort: float = 0.0
    wrench: NDArray[np.float64] = field(default_factory=lambda: _zeros(6))


@dataclass(frozen=True, slots=True)
class CartesianTarget:
    """Where the tool should be at the next tick. Absolute, so that a repeated command is harmless.

    position: (3,) float64 metres; orientation: (4,) float64 unit quaternion x y z w; gripper_width: metres
    """

    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    gripper_width: float
