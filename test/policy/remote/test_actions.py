# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What an answer's rows mean, at whatever rate the policy runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.integrator import MotionLimits, TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_NS, ActionChunk
from flow_rag_vla.core.rotation import quaternion_from_rotation_vector, quaternion_multiply
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.remote.actions import answered_actions, chunk_rows, tool_path
from flow_rag_vla.policy.remote.contract import ActionMeaning
from flow_rag_vla.policy.remote.errors import ActionError
from flow_rag_vla.policy.remote.schedule import FIRST_GUESS_S, Schedule

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
STATE = RobotState(0, np.array([0.5, 0.0, 0.2]), DOWN)
UNLIMITED = MotionLimits(1.0, 3.0, 1.0, (-9, -9, -9), (9, 9, 9), 9.0, 3.2)


def driven(rows, state=STATE):
    """Where the controller's own integrator takes the tool."""
    integrator = TargetIntegrator(UNLIMITED)
    target = None
    for row in rows:
        target, _, _ = integrator.advance(row, state)
    return target


def same_turn(one, other):
    return abs(float(np.dot(one, other))) == pytest.approx(1.0, abs=1e-6)


RATES = st.sampled_from([5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0])


@given(RATES, st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_motion_is_kept_at_any_rate(rate, steps, seed):
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7))
    meaning = ActionMeaning(rate=rate, translation=0.05, rotation=0.2)
    path = tool_path(actions, meaning, STATE)
    rows = chunk_rows(path)
    seconds = len(rows) / CONTROL_RATE_HZ
    assert 0 <= steps / rate - seconds < 1 / CONTROL_RATE_HZ, "only a last piece of a tick is left out"
    if not len(rows):
        return
    target, (position, turned) = driven(rows), path.at(seconds)
    assert np.allclose(target.position, position, atol=1e-6)
    assert same_turn(target.orientation, turned)
    whole = int(seconds * rate + 1e-9)
    if whole == seconds * rate:
        assert np.allclose(target.position - STATE.position, 0.05 * actions[:whole, :3].sum(axis=0), atol=1e-6)


def test_a_step_of_libero_is_spread_over_its_ticks():
    meaning = ActionMeaning(
        rate=20.0, clip=1.0, translation=0.05, rotation=0.5, gripper_open=-1.0, gripper_closed=1.0, gripper_binary=True
    )
    rows = chunk_rows(tool_path(np.array([[2.0, 0, 0, 0, 0, 0.5, -0.8], [0, -1, 0, 0, 0, 0, 0.9]]), meaning, STATE))
    assert rows.shape == (4, 7)
    assert np.allclose(rows[:, :3], [[0.025, 0, 0], [0.025, 0, 0], [0, -0.025, 0], [0, -0.025, 0]])
    assert np.allclose(rows[:2, 5], 0.125) and np.allclose(rows[:, 3:5], 0, atol=1e-7)
    assert rows[:, 6].tolist() == [1, 1, 0, 0]


def test_a_step_along_the_tools_axes_is_turned_into_the_base_frame():
    actions = np.array([[0.0, 0.0, 0.01, 0.0, 0.0, 0.1, 1.0]])
    rows = chunk_rows(tool_path(actions, ActionMeaning(rate=40.0, frame="tool"), STATE))
    assert np.allclose(rows[0, :6], [0, 0, -0.01, 0, 0, -0.1], atol=1e-7), "the tool looks down"


@pytest.mark.parametrize("form", ["rotation_vector", "rpy"])
def test_absolute_poses_are_reached_from_wherever_the_robot_was_told_to_be(form):
    turn = np.array([np.pi, 0.0, 0.0]) if form == "rotation_vector" else np.array([np.pi, 0.0, 0.3])
    actions = np.array([[0.5, 0.01 * step, 0.2, *turn, 1.0] for step in range(1, 9)])
    path = tool_path(actions, ActionMeaning(kind="absolute_pose", rate=20.0, rotation_form=form), STATE)
    elsewhere = RobotState(0, np.array([0.48, -0.02, 0.21]), DOWN)
    passed = 5
    rows = chunk_rows(path, passed, (elsewhere.position, elsewhere.orientation))
    target = driven(rows[passed:], elsewhere)
    assert np.allclose(target.position, [0.5, 0.08, 0.2], atol=1e-6)
    wanted = quaternion_from_rotation_vector(np.array([np.pi, 0.0, 0.0]))
    if form == "rpy":
        wanted = quaternion_multiply(quaternion_from_rotation_vector(np.array([0.0, 0.0, 0.3])), wanted)
    assert same_turn(target.orientation, wanted)


def planar(joints):
    """Two links of 0.3 m in a plane."""
    one, both = joints[0], joints[0] + joints[1]
    place = 0.3 * np.array([np.cos(one) + np.cos(both), np.sin(one) + np.sin(both), 0.0])
    return place, quaternion_from_rotation_vector(np.array([0.0, 0.0, both]))


def test_joint_velocities_move_the_tool_by_the_robots_kinematics():
    meaning = ActionMeaning(kind="joint_velocity", rate=15.0, joint=0.2, joints=2, clip=1.0)
    start = np.array([0.3, 0.6])
    state = RobotState(0, *planar(start), joint_positions=start)
    actions = np.array([[0.5, -1.0, 0.0], [5.0, 0.25, 0.0], [0.0, 1.0, 0.0]])
    target = driven(chunk_rows(tool_path(actions, meaning, state, planar)), state)
    position, turned = planar(start + 0.2 * np.array([1.5, 0.25]))
    assert np.allclose(target.position, position, atol=1e-6) and same_turn(target.orientation, turned)


def test_joint_velocities_without_this_robots_kinematics_are_refused():
    meaning = ActionMeaning(kind="joint_velocity", joints=2)
    start = np.array([0.3, 0.6])
    state = RobotState(0, *planar(start), joint_positions=start)
    actions = np.zeros((3, 3))
    with pytest.raises(ActionError, match="set robot_profile"):
        tool_path(actions, meaning, state)
    with pytest.raises(ActionError, match="the robot has 7"):
        tool_path(actions, meaning, STATE, planar)
    elsewhere = RobotState(0, state.position + 0.05, state.orientation, joint_positions=start)
    with pytest.raises(ActionError, match=r"0\.087 m from where the robot says"):
        tool_path(actions, meaning, elsewhere, planar)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([1, 2], "holds no 'actions' .it holds: list"),
        ({"action": 1, "state": 2}, "it holds: action, state"),
        ({"actions": [[0.0] * 7]}, "of type list"),
        ({"actions": np.zeros((3, 7), dtype=bool)}, "of type |b1"),
        ({"actions": np.zeros((10, 8))}, r"shape \(10, 8\), expected .* 7\) for delta_pose"),
        ({"actions": np.zeros((0, 7))}, r"shape \(0, 7\)"),
        ({"actions": np.zeros((2000, 7))}, r"shape \(2000, 7\)"),
        ({"actions": np.zeros(7)}, r"shape \(7,\)"),
        ({"actions": np.full((2, 7), np.nan)}, r"actions\[0, 0\] of the answer is nan"),
        ({"actions": np.array([[0, 0, -np.inf, 0, 0, 0, 0]])}, r"actions\[0, 2\] of the answer is -inf"),
        ({"actions": np.full((1, 7), 1e30)}, "is 1e"),
    ],
)
def test_an_answer_that_cannot_be_followed_is_named(answer, said):
    with pytest.raises(ActionError, match=said):
        answered_actions(answer, ActionMeaning())


def chunk(rows=20, stamp_ns=10**9):
    return ActionChunk(1, stamp_ns, np.zeros((rows, 7), dtype=np.float32))


def test_the_next_answer_is_asked_for_so_early_that_it_is_there_in_time():
    schedule = Schedule(0.05)
    assert schedule.due(None, 0.25, 10**9) and schedule.p95_s == FIRST_GUESS_S
    for _ in range(19):
        schedule.answered(0.08)
    schedule.answered(0.5)
    assert schedule.p95_s == 0.08, "one slow answer in twenty does not hurry all the others"
    held = chunk()
    assert not schedule.due(held, 0.25, held.stamp_ns + 4 * TICK_NS)
    assert schedule.due(held, 0.25, held.stamp_ns + 5 * TICK_NS)
    assert not schedule.due(held, 0.25, held.stamp_ns + 14 * TICK_NS, pace=0.5), "a slow episode plays it longer"
    assert schedule.due(held, 0.25, held.stamp_ns + 15 * TICK_NS, pace=0.5)
    assert schedule.due(chunk(4), 9.0, held.stamp_ns), "a chunk that ends sooner than it may be followed"
    assert schedule.due(held, 0.25, held.stamp_ns - 10**9), "the clock went back"
