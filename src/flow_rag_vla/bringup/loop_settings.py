# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The control loop's settings of the controller's parameters, for its node and for whoever makes its commands again."""

from __future__ import annotations

from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.control.ladder import LadderTimes, Reason, Steps
from flow_rag_vla.control.loop import LoopSettings
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.core.parameters import ParameterError

SLOWEST_STOP_TICKS = 10
"""A quarter of a second: so soon the target stands when it is held, from the highest speed that it may have."""


def check_limits(parameters: ControllerParameters) -> None:
    """Look whether limits that are right each by itself are right together.

    Raises:
        ParameterError: if the target could not be stopped in time.
    """
    speed, change = parameters.max_translation, parameters.max_translation_change
    if speed > SLOWEST_STOP_TICKS * change * (1.0 + 1e-9):
        raise ParameterError(
            f"max_translation_change: {change:g} m per tick would take {speed / change:.0f} ticks to stop from "
            f"max_translation ({speed:g}), allowed are {SLOWEST_STOP_TICKS}; set it to {speed / SLOWEST_STOP_TICKS:g} "
            "or more, or lower max_translation first"
        )


def loop_settings(parameters: ControllerParameters) -> LoopSettings:
    """The loop's settings of a table of parameters.

    Raises:
        ParameterError: if the workspace is none.
    """
    low, high = parameters.workspace_low, parameters.workspace_high
    for name, corner in (("workspace_low", low), ("workspace_high", high)):
        if len(corner) != 3:
            raise ParameterError(f"{name}: {list(corner)} has {len(corner)} numbers, expected x, y, z")
    if any(one >= other for one, other in zip(low, high, strict=True)):
        raise ParameterError(f"workspace_low: {list(low)} is not below workspace_high {list(high)} on every axis")
    decelerate = _ns(parameters.decelerate_time)
    state_loss = Steps(_ns(parameters.state_hold_time), _ns(parameters.state_decelerate_time))
    return LoopSettings(
        max_observation_age_ns=_ns(parameters.max_observation_age),
        max_state_age_ns=_ns(parameters.max_state_age),
        max_takeover_age_ns=_ns(parameters.max_takeover_age),
        future_tolerance_ns=_ns(parameters.future_tolerance),
        clock_jump_ns=_ns(parameters.clock_jump),
        state_jump_m=parameters.state_jump,
        episode_grace_ns=_ns(parameters.episode_grace),
        statistics_window_ticks=max(1, round(parameters.statistics_window / TICK_S)),
        limits=MotionLimits(
            translation=parameters.max_translation,
            rotation=parameters.max_rotation,
            translation_change=parameters.max_translation_change,
            workspace_low=(low[0], low[1], low[2]),
            workspace_high=(high[0], high[1], high[2]),
            tracking_distance=parameters.tracking_distance,
            tracking_angle=parameters.tracking_angle,
            gripper_width=parameters.gripper_width,
        ),
        arbiter=ArbiterSettings(
            budget_ns=int(parameters.correction_budget * 1e6),
            blend_weight=parameters.blend_weight,
            residual_limit=(parameters.residual_translation, parameters.residual_rotation, parameters.residual_gripper),
        ),
        ladder=LadderTimes(
            Steps(_ns(parameters.hold_time), decelerate),
            {
                Reason.STATE_MISSING: state_loss,
                Reason.STATE_TOO_OLD: state_loss,
                Reason.MEMORY_HOLD: Steps(_ns(parameters.memory_hold_time), decelerate),
            },
        ),
    )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
