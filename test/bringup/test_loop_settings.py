# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The controller's limits, right each by itself and together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.bringup.loop_settings import SLOWEST_STOP_TICKS, check_limits, loop_settings
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.robot_graph import loop_limits
from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.parameters import ParameterError
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.robot.profile import find_profile, load_profile

DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def set_to(**changes) -> ControllerParameters:
    return dataclasses.replace(ControllerParameters(), **changes)


@given(speed=st.floats(0.0005, 0.05), change=st.floats(0.0002, 0.05))
def test_whatever_limits_are_taken_a_target_that_is_held_stands_within_a_quarter_of_a_second(speed, change):
    parameters = set_to(max_translation=speed, max_translation_change=change)
    try:
        check_limits(parameters)
    except ParameterError as error:
        assert "max_translation_change" in str(error) and speed > change * SLOWEST_STOP_TICKS
        return
    limits = dataclasses.replace(loop_settings(parameters).limits, tracking_distance=0.3)
    integrator, place = TargetIntegrator(limits), np.array([0.3, -0.3, 0.1])
    action = np.array([0.0, speed, 0.0, 0.0, 0.0, 0.0, 0.5])
    for _ in range(SLOWEST_STOP_TICKS + 1):
        target, _, _ = integrator.advance(action, RobotState(0, place, DOWN))
        place = target.position
    for _ in range(SLOWEST_STOP_TICKS + 1):
        target, _, _ = integrator.advance(action * 0.0, RobotState(0, place, DOWN))
        place = target.position
    assert np.linalg.norm(integrator.last_step) < 1e-9


def test_limits_that_are_wrong_together_are_refused_with_what_to_set():
    with pytest.raises(ParameterError, match=r"60 ticks to stop.*set it to 0\.0012 or more"):
        check_limits(set_to(max_translation_change=0.0002))


@pytest.mark.parametrize("profile", sorted(path.stem for path in robots_folder().glob("*.yaml")))
def test_the_limits_of_every_arm_that_ships_are_right_together(profile):
    limits = loop_limits(load_profile(find_profile(profile, robots_folder())))
    names = {field.name for field in dataclasses.fields(ControllerParameters)}
    check_limits(set_to(**{name: value for name, value in limits.items() if name in names}))
