# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
import pybullet as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.rotation import quaternion_from_rotation_vector, quaternion_multiply
from flow_rag_vla.sim.assets import resolved_urdf
from flow_rag_vla.sim.bodies import ARM_JOINTS, JOINT_NAMES, MOVING_JOINTS, TCP_LINK
from flow_rag_vla.sim.kinematics import (
    JOINT_HIGH,
    JOINT_LOW,
    downward_joints,
    downward_orientation,
    joints_for,
    tool_pose,
)

quick = settings(max_examples=60, deadline=None)
places = st.tuples(st.floats(0.30, 0.65), st.floats(-0.30, 0.30), st.floats(0.005, 0.40)).map(np.array)
yaws = st.floats(-0.8, 0.8)


def test_the_description_has_the_joints_limits_and_tool_that_the_code_assumes() -> None:
    client = p.connect(p.DIRECT)
    try:
        with resolved_urdf("panda.urdf") as path:
            robot = p.loadURDF(path, useFixedBase=True, physicsClientId=client)
        info = [p.getJointInfo(robot, joint, physicsClientId=client) for joint in MOVING_JOINTS]
        assert tuple(entry[1].decode() for entry in info) == JOINT_NAMES
        assert [entry[8] for entry in info[:7]] == pytest.approx(JOINT_LOW)
        assert [entry[9] for entry in info[:7]] == pytest.approx(JOINT_HIGH)
        rng = np.random.default_rng(0)
        for _ in range(20):
            joints = rng.uniform(JOINT_LOW, JOINT_HIGH)
            for joint, value in zip(ARM_JOINTS, joints, strict=True):
                p.resetJointState(robot, joint, value, physicsClientId=client)
            link = p.getLinkState(robot, TCP_LINK, computeForwardKinematics=True, physicsClientId=client)
            position, orientation = tool_pose(joints)
            assert position == pytest.approx(np.array(link[4]), abs=1e-6)
            assert abs(float(orientation @ np.array(link[5]))) == pytest.approx(1.0, abs=1e-6)
    finally:
        p.disconnect(physicsClientId=client)


@quick
@given(places, yaws)
def test_a_hand_that_points_down_reaches_its_pose_exactly(place: np.ndarray, yaw: float) -> None:
    joints = downward_joints(place, yaw)
    position, orientation = tool_pose(joints)
    assert position == pytest.approx(place, abs=1e-9)
    assert abs(float(orientation @ downward_orientation(yaw))) == pytest.approx(1.0, abs=1e-12)
    assert (joints >= JOINT_LOW).all()
    assert (joints <= JOINT_HIGH).all()


@quick
@given(
    st.tuples(st.floats(0.38, 0.60), st.floats(-0.25, 0.25), st.floats(0.02, 0.35)).map(np.array),
    yaws,
    st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15)),
)
def test_a_tilted_hand_reaches_its_pose(place: np.ndarray, yaw: float, tilt: tuple[float, float]) -> None:
    turn = quaternion_from_rotation_vector(np.array([*tilt, 0.0]))
    wanted = quaternion_multiply(turn, downward_orientation(yaw))
    position, orientation = tool_pose(joints_for(place, wanted))
    assert position == pytest.approx(place, abs=1e-4)
    assert abs(float(orientation @ wanted)) == pytest.approx(1.0, abs=1e-6)


def test_a_target_a_little_out_of_reach_stretches_the_arm_toward_it() -> None:
    position, _ = tool_pose(downward_joints(np.array([0.80, 0.0, 0.20]), 0.0))
    assert position[0] < 0.80
    assert position[0] > 0.70


def test_a_target_far_out_of_reach_is_refused_with_its_value() -> None:
    with pytest.raises(ValueError, match=r"1\.500, 0\.000, 0\.200.*reach"):
        downward_joints(np.array([1.5, 0.0, 0.2]), 0.0)


def test_a_hand_at_its_limit_does_not_swing_round() -> None:
    near = float(JOINT_LOW[6])
    joints = downward_joints(np.array([0.5, 0.0, 0.2]), math.pi / 4 - near + 0.3, hand_near=near)
    assert joints[6] == pytest.approx(near)
