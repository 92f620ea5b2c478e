# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers that tell a failure from a success, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuleThresholds:
    """Defaults stand clear of what success episodes of the simulator show; ``failure/README.md`` lists both.

    Forces in newtons, lengths in metres, angles in radians, times in seconds.
    """

    grasp_empty_width: float = 0.012
    grasp_hold_effort: float = 2.0
    grasp_settle_time: float = 0.15
    grasp_confirm_time: float = 0.05
    """How long settled fingers must stay empty."""
    grasp_abandon_time: float = 0.15
    """A hand that was told to close for less than this made no attempt."""
    drop_min_hold: float = 0.5
    """A hold that ends sooner, and with which nothing moved, was none: losing it is a grasp failure."""
    drop_min_carry: float = 0.15
    """Nor was one with which something moved and that ends sooner than this."""
    carry_distance: float = 0.015
    """Something has moved with the hand that went so far while it held it firmly."""
    collision_force_free: float = 15.0
    """While reaching and after release."""
    collision_force_contact: float = 30.0
    """While grasping, carrying and placing."""
    collision_force_pull: float = 60.0
    """In tasks that move furniture."""
    collision_time: float = 0.05
    misalignment_distance: float = 0.03
    misalignment_angle: float = 0.25
    misalignment_time: float = 0.4
    timeout_reach: float = 8.0
    timeout_grasp: float = 4.0
    timeout_transport: float = 8.0
    timeout_release: float = 4.0
    stall_distance: float = 0.01
    stall_time: float = 4.0
    rearm_time: float = 0.5
    """How long a situation must have ended before the same rule may speak again."""
    merge_time: float = 1.0
    """Collision and misalignment this near in time are one failure: the first that was seen is told."""
