# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.integrator import Clamp, MotionLimits, TargetIntegrator
from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.core.state import RobotState

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
LIMITS = MotionLimits()
ENDING = Clamp.WORKSPACE | Clamp.TRACKING


def state(*position: float, orientation=DOWN) -> RobotState:
    return RobotState(0, np.array(position, dtype=float), np.array(orientation, dtype=float))


def action(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def angle_between(one, other) -> float:
    return float(np.linalg.norm(rotation_vector_from_quaternion(quaternion_multiply(one, quaternion_conjugate(other)))))


numbers = st.floats(-1.0, 1.0)
actions = st.tuples(*[numbers] * 7).map(lambda values: np.array(values, dtype=np.float32))
places = st.tuples(st.floats(-1.0, 1.5), st.floats(-1.0, 1.0), st.floats(-0.2, 1.2))
turns = st.tuples(*[st.floats(-3.0, 3.0)] * 3).map(lambda v: quaternion_from_rotation_vector(np.array(v)))


@given(st.lists(st.tuples(actions, places, turns), min_size=2, max_size=30))
def test_the_target_moves_within_its_limits_whatever_is_measured(steps):
    integrator = TargetIntegrator()
    before, last = None, np.zeros(3)
    for wanted, place, turn in steps:
        target, sent, clamps = integrator.advance(wanted, state(*place, orientation=turn))
        assert np.isfinite(target.position).all() and np.isfinite(target.orientation).all()
        assert np.linalg.norm(target.orientation) == pytest.approx(1.0)
        assert 0.0 <= target.gripper_width <= LIMITS.gripper_width
        start = np.array(place, dtype=float) if before is None else before.position
        step = target.position - start
        assert np.linalg.norm(step) <= LIMITS.translation + 1e-9
        assert np.allclose(sent[:3], step, atol=1e-7)
        if before is not None:
            assert angle_between(target.orientation, before.orientation) <= LIMITS.rotation + 1e-7
        # A wall, or an arm that lags, may end a motion along any axis at once; none is begun at once.
        kept = np.clip(step, np.minimum(last, 0.0), np.maximum(last, 0.0)) if clamps & ENDING else last
        assert np.linalg.norm(step - kept) <= LIMITS.translation_change + 1e-9
        before, last = target, step


def test_a_measured_place_that_leaps_does_not_pull_the_target_out_of_its_rest_at_once():
    integrator = TargetIntegrator()
    integrator.advance(action(0, 0, 0, 0, 0, 0, 0), state(0.5, 0.0, 0.3))
    steps = [integrator.advance(action(0, 0, 0, 0, 0, 0, 0), state(0.5, 0.09, 0.3))[1][1] for _ in range(3)]
    np.testing.assert_allclose(steps, [0.006, 0.012, 0.012], atol=1e-6)


@given(st.lists(actions, min_size=1, max_size=40))
def test_a_target_that_starts_inside_the_workspace_never_leaves_it(steps):
    integrator, place = TargetIntegrator(), np.array([0.5, 0.0, 0.02])
    for wanted in steps:
        place = integrator.advance(wanted, state(*place))[0].position
        assert (place >= np.array(LIMITS.workspace_low)).all() and (place <= np.array(LIMITS.workspace_high)).all()


@given(places, st.lists(actions, min_size=1, max_size=40))
def test_a_tool_outside_the_workspace_neither_jumps_nor_goes_further_out(place, steps):
    integrator, here = TargetIntegrator(), np.array(place, dtype=float)
    low, high = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)
    for wanted in steps:
        there = integrator.advance(wanted, state(*here))[0].position
        assert (np.minimum(there - low, 0) >= np.minimum(here - low, 0) - 1e-12).all()
        assert (np.minimum(high - there, 0) >= np.minimum(high - here, 0) - 1e-12).all()
        assert np.linalg.norm(there - here) <= LIMITS.translation + 1e-9
        here = there


def test_a_tool_outside_the_workspace_can_come_back():
    integrator, here = TargetIntegrator(), np.array([0.5, 0.0, 0.65])
    for _ in range(10):
        here = integrator.advance(action(0, 0, -0.012, 0, 0, 0, 1), state(*here))[0].position
    assert here[2] < LIMITS.workspace_high[2]


def test_a_wall_ends_the_motion_and_says_so():
    integrator, here = TargetIntegrator(), np.array([0.5, 0.0, 0.008])
    target, sent, clamps = integrator.advance(action(0, 0, -0.012, 0, 0, 0, 1), state(*here))
    assert target.position[2] == LIMITS.workspace_low[2]
    assert clamps & Clamp.WORKSPACE and sent[2] == pytest.approx(-0.003)


def test_the_target_waits_for_an_arm_that_is_blocked():
    integrator, here = TargetIntegrator(), state(0.5, 0.0, 0.3)
    for _ in range(20):
        target, _, clamps = integrator.advance(action(0.012, 0, 0, 0, 0, 0, 1), here)
    assert clamps & Clamp.TRACKING
    assert np.linalg.norm(target.position - here.position) == pytest.approx(LIMITS.tracking_distance)


def test_the_target_does_not_turn_away_from_an_arm_that_is_blocked():
    integrator, here = TargetIntegrator(), state(0.5, 0.0, 0.3)
    for _ in range(20):
        target, _, clamps = integrator.advance(action(0, 0, 0, 0, 0, 0.06, 1), here)
    assert clamps & Clamp.TRACKING
    assert angle_between(target.orientation, here.orientation) == pytest.approx(LIMITS.tracking_angle, abs=1e-6)


def test_every_clamp_is_named():
    clamps = TargetIntegrator().advance(action(0.1, 0, 0, 1.0, 0, 0, 1.5), state(0.5, 0.0, 0.3))[2]
    assert clamps == Clamp.VELOCITY | Clamp.ACCELERATION | Clamp.ROTATION | Clamp.GRIPPER


def test_a_plain_action_passes_unchanged():
    wanted = action(0.003, -0.002, 0.001, 0.01, 0.02, -0.03, 0.25)
    target, sent, clamps = TargetIntegrator().advance(wanted, state(0.5, 0.0, 0.3))
    assert clamps is Clamp.NONE or clamps == 0
    assert np.allclose(sent, wanted)
    assert np.allclose(target.position, [0.503, -0.002, 0.301])
    assert target.gripper_width == pytest.approx(0.25 * LIMITS.gripper_width)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_and_leave_the_target(bad):
    integrator = TargetIntegrator()
    before = integrator.advance(action(0.001, 0, 0, 0, 0, 0, 1), state(0.5, 0.0, 0.3))[0]
    with pytest.raises(ValueError, match="finite"):
        integrator.advance(action(bad, 0, 0, 0, 0, 0, 1), state(0.5, 0.0, 0.3))
    with pytest.raises(ValueError, match="finite"):
        integrator.advance(action(0, 0, 0, 0, 0, 0, 1), state(0.5, bad, 0.3))
    with pytest.raises(ValueError, match="no length"):
        integrator.advance(action(0, 0, 0, 0, 0, 0, 1), state(0.5, 0.0, 0.3, orientation=np.zeros(4)))
    assert np.array_equal(integrator.pose[0], before.position)


def test_a_quaternion_of_nearly_unit_length_is_made_exact():
    target = TargetIntegrator().advance(np.zeros(7), state(0.5, 0.0, 0.3, orientation=DOWN * 1.009))[0]
    assert np.linalg.norm(target.orientation) == pytest.approx(1.0, abs=1e-12)


def test_a_reset_takes_the_next_measured_pose():
    integrator = TargetIntegrator()
    integrator.advance(action(0.006, 0, 0, 0, 0, 0, 1), state(0.5, 0.0, 0.3))
    integrator.reset()
    assert integrator.pose is None and not integrator.last_step.any()
    assert np.allclose(integrator.advance(np.zeros(7), state(0.3, 0.1, 0.2))[0].position, [0.3, 0.1, 0.2])


def test_other_limits_keep_the_target():
    integrator = TargetIntegrator()
    integrator.advance(np.zeros(7), state(0.5, 0.0, 0.3))
    integrator.limits = MotionLimits(translation=0.001)
    target, _, clamps = integrator.advance(action(0.01, 0, 0, 0, 0, 0, 1), state(0.5, 0.0, 0.3))
    assert target.position[0] == pytest.approx(0.501) and clamps & Clamp.VELOCITY
