# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the controller."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.parameters import parameter

_LIMITS = MotionLimits()

LOOP_PRIORITY = 20
"""Above every program of normal priority, below what the kernel gives to its own threads (50)."""

DECIDING_PRIORITY = 5
"""What the loop waits for, from picture to chunk: above every program of normal priority, below the loop."""


def deciding_priority() -> int:
    """The parameter by which encoder, memory and policy take ``DECIDING_PRIORITY``, the same for each."""
    declared: int = parameter(
        DECIDING_PRIORITY,
        "SCHED_FIFO priority while it is active, where the system permits it and one thread computes; 0 leaves the "
        "scheduler alone",
        minimum=0,
        maximum=98,
    )
    return declared


@dataclass(frozen=True, slots=True)
class ControllerParameters:
    """The 40 Hz loop: when a chunk or a state is too old, and how far any command may go."""

    max_observation_age: float = parameter(
        0.6,
        "Age of a chunk's observation above which its rows are no longer followed",
        unit="s",
        minimum=0.05,
        maximum=5.0,
        live=True,
    )
    max_state_age: float = parameter(
        0.25,
        "Age of the robot state above which nothing is followed",
        unit="s",
        minimum=0.03,
        maximum=2.0,
        live=True,
    )
    max_takeover_age: float = parameter(
        0.25,
        "Age of a person's request above which it is no longer followed; the robot then holds until the person is "
        "heard again or releases it",
        unit="s",
        minimum=0.03,
        maximum=2.0,
        live=True,
    )
    future_tolerance: float = parameter(
        0.05,
        "How far a stamp may lie ahead of the node's clock",
        unit="s",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    clock_jump: float = parameter(
        0.2,
        "Step of the node's clock against the steady one that counts as a jump; everything from before is dropped",
        unit="s",
        minimum=0.02,
        maximum=10.0,
        live=True,
    )
    state_jump: float = parameter(
        0.10,
        "Distance between two robot states that is believed only when a third confirms it",
        unit="m",
        minimum=0.02,
        maximum=1.0,
        live=True,
    )
    episode_grace: float = parameter(
        5.0,
        "How long an episode may run past its own limit before the loop takes it for ended",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )
    hold_time: float = parameter(
        0.3,
        "Without a valid chunk: how long the target rests before it decelerates",
        unit="s",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    decelerate_time: float = parameter(
        0.5,
        "How long the target then takes to meet the measured tool before the stop",
        unit="s",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    state_hold_time: float = parameter(
        0.0,
        "Like hold_time, when the robot state is missing or too old",
        unit="s",
        minimum=0.0,
        maximum=2.0,
        live=True,
    )
    state_decelerate_time: float = parameter(
        0.2,
        "Like decelerate_time, when the robot state is missing or too old",
        unit="s",
        minimum=0.0,
        maximum=2.0,
        live=True,
    )
    memory_hold_time: float = parameter(
        3.0,
        "Like hold_time, when the failure memory asks to hold",
        unit="s",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    correction_budget: float = parameter(
        3.0,
        "How much later than its chunk a correction may come and still act",
        unit="ms",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    blend_weight: float = parameter(
        0.3,
        "Share of the correction in a blend, the baseline (0.3 in the first design)",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    residual_translation: float = parameter(
        0.004,
        "Largest residual correction along each axis",
        unit="m per tick",
        minimum=0.0,
        maximum=0.012,
        live=True,
    )
    residual_rotation: float = parameter(
        0.02,
        "Largest residual correction about each axis",
        unit="rad per tick",
        minimum=0.0,
        maximum=0.06,
        live=True,
    )
    residual_gripper: float = parameter(
        0.0,
        "Largest residual correction of the gripper opening; 0 leaves the gripper to the policy",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    max_translation: float = parameter(
        _LIMITS.translation,
        "Largest motion of the target in one tick",
        unit="m per tick",
        minimum=0.0005,
        maximum=0.05,
        live=True,
    )
    max_rotation: float = parameter(
        _LIMITS.rotation,
        "Largest rotation of the target in one tick",
        unit="rad per tick",
        minimum=0.002,
        maximum=0.3,
        live=True,
    )
    max_translation_change: float = parameter(
        _LIMITS.translation_change,
        "Largest change of that motion from one tick to the next",
        unit="m per tick",
        minimum=0.0002,
        maximum=0.05,
        live=True,
    )
    workspace_low: tuple[float, ...] = parameter(
        _LIMITS.workspace_low,
        "Lowest x, y, z that a target may have, base frame",
        unit="m",
        minimum=-5.0,
        maximum=5.0,
    )
    workspace_high: tuple[float, ...] = parameter(
        _LIMITS.workspace_high,
        "Highest x, y, z that a target may have, base frame",
        unit="m",
        minimum=-5.0,
        maximum=5.0,
    )
    tracking_distance: float = parameter(
        _LIMITS.tracking_distance,
        "How far the target may run ahead of the measured tool",
        unit="m",
        minimum=0.005,
        maximum=0.3,
        live=True,
    )
    tracking_angle: float = parameter(
        _LIMITS.tracking_angle,
        "How far the target may turn ahead of the measured tool",
        unit="rad",
        minimum=0.02,
        maximum=1.5,
        live=True,
    )
    gripper_width: float = parameter(
        _LIMITS.gripper_width,
        "Distance between the fingertips at opening 1",
        unit="m",
        minimum=0.001,
        maximum=0.5,
    )
    statistics_window: float = parameter(
        10.0,
        "Stretch of time that the loop's figures cover",
        unit="s",
        minimum=1.0,
        maximum=600.0,
    )
    emergency_stop_file: str = parameter(
        "",
        "File that is there while the emergency stop is latched: a controller that is started again begins with it; "
        "empty: in ~/.ros, by domain and namespace; off: none",
    )
    niceness: int = parameter(
        -10,
        "Priority of the loop where the system permits it; lower is more, 0 leaves it alone",
        minimum=-20,
        maximum=19,
    )
    realtime_priority: int = parameter(
        LOOP_PRIORITY,
        "SCHED_FIFO priority of the loop where the system permits it, the middleware's threads one below; 0 leaves the "
        "scheduler alone",
        minimum=0,
        maximum=98,
    )
