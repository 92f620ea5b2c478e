# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The way back to where an episode began, from what a robot knows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, GRIPPER, TRANSLATION, YAW
from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.sim.expert import paced_step

HOME_TICKS = 120
"""Ticks that the way back to a start may take."""

_HOME_REACHED, _OPEN_TICKS = 0.015, 10


def homeward(state: RobotState, home: RobotState, ticks: int) -> NDArray[np.float32]:
    """(7,) float32: the way back to a start pose, from what a robot knows: open the hand, rise, then across."""
    action = np.zeros(ACTION_DIM)
    action[GRIPPER] = 1.0
    if ticks >= _OPEN_TICKS:
        goal = np.array(home.position, dtype=float)
        if state.position[2] < home.position[2] - 0.03:
            goal[:2] = state.position[:2]
        action[TRANSLATION] = paced_step(goal - state.position)
        turn = math.remainder(float(yaw_of(home.orientation)) - float(yaw_of(state.orientation)), 2 * math.pi)
        action[YAW] = min(max(0.2 * turn, -0.05), 0.05)
    return action.astype(np.float32)


def is_home(state: RobotState, home: RobotState) -> bool:
    """Whether the tool is back at a start pose."""
    return float(np.linalg.norm(state.position - home.position)) < _HOME_REACHED
