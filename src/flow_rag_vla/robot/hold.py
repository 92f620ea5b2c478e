# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Why an arm is held instead of following."""

from __future__ import annotations

from enum import Enum


class Hold(Enum):
    """Why the arm is held instead of following."""

    NO_JOINT_STATES = "no joint state arrived yet"
    JOINT_STATES_STALE = "joint states stopped"
    JOINT_STATES_INVALID = "a joint state makes no sense"
    JOINTS_OUTSIDE_LIMITS = "a joint is outside its limits"
    NO_COMMAND = "no command arrives"
    COMMAND_INVALID = "a command makes no sense"
    EMERGENCY_STOP = "the emergency stop is latched"
    OUTSIDE_WORKSPACE = "the target is outside the workspace"
    JUMP = "the target is too far to reach in time"
    UNREACHABLE = "no joint angles inside the limits reach the target"
    NOT_TRACKING = "the arm does not go where it is told"
    OTHER_COMMANDS = "somebody else commands the arm"


Problem = tuple[Hold, str]
"""A reason to hold, and the same with its values, for people."""

BLIND = (Hold.NO_JOINT_STATES, Hold.JOINT_STATES_STALE, Hold.JOINT_STATES_INVALID)
"""Holds in which nobody knows where the arm is."""

TARGETS = (Hold.OUTSIDE_WORKSPACE, Hold.JUMP, Hold.UNREACHABLE, Hold.COMMAND_INVALID)
"""Holds for what a controller asks for, which its next command may end."""
