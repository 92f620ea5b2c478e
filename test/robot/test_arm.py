# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Kinematics from the URDF: the inverse leads back to the tool pose, singular or not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.profile import load_profile
from flow_rag_vla.sim.kinematics import tool_pose

ROBOTS = Path(__file__).resolve().parents[2] / "config" / "robots"


@cache
def arm_of(name: str):
    profile = load_profile(ROBOTS / f"{name}.yaml")
    return profile, Arm(profile)


@settings(max_examples=60)
@given(st.sampled_from(["mock", "ur5e", "so101"]), st.integers(0, 2**32 - 1))
def test_forward_of_inverse_is_the_tool_pose_within_a_millimetre(name, seed):
    profile, arm = arm_of(name)
    random = np.random.default_rng(seed)
    low, high, home = profile.limits("low"), profile.limits("high"), profile.limits("home")
    joints = np.clip(home + random.uniform(-0.6, 0.6, home.size), low, high)
    position, orientation = arm.pose(joints)
    solution = arm.solve(position, orientation, np.clip(joints + random.uniform(-0.2, 0.2, home.size), low, high))
    reached, turned = arm.pose(solution.joints)
    assert np.linalg.norm(reached - position) < 1e-3
    assert np.linalg.norm(reached - position) == pytest.approx(solution.position_error, abs=1e-9)
    assert (solution.joints >= low).all() and (solution.joints <= high).all()
    if profile.orientation == "exact":
        assert abs(float(turned @ orientation)) > 1 - 1e-6


@given(st.integers(0, 2**32 - 1))
def test_the_forward_kinematics_are_those_of_the_simulated_panda(seed):
    profile, arm = arm_of("mock")
    joints = np.random.default_rng(seed).uniform(profile.limits("low"), profile.limits("high"))
    here, there = arm.pose(joints), tool_pose(joints)
    assert np.allclose(here[0], there[0], atol=1e-6)
    assert abs(float(here[1] @ there[1])) == pytest.approx(1.0, abs=1e-9)


def test_the_jacobian_is_the_derivative_of_the_pose():
    profile, arm = arm_of("ur5e")
    joints, step = profile.limits("home"), 1e-6
    jacobian = arm.jacobian(joints)
    for index in range(joints.size):
        moved = joints.copy()
        moved[index] += step
        assert np.allclose((arm.pose(moved)[0] - arm.pose(joints)[0]) / step, jacobian[:3, index], atol=1e-4)


def test_a_pose_out_of_reach_gives_finite_joints_inside_limits_and_says_how_far_it_is_off():
    profile, arm = arm_of("mock")
    _, orientation = arm.pose(profile.limits("home"))
    solution = arm.solve(np.array([2.0, 0.0, 0.5]), orientation, profile.limits("home"))
    assert np.isfinite(solution.joints).all() and solution.position_error > 0.5
    assert (solution.joints >= profile.limits("low")).all() and (solution.joints <= profile.limits("high")).all()


def test_a_stretched_arm_moves_its_tool_out_without_a_leap_of_its_joints():
    _, arm = arm_of("ur5e")
    stretched = np.array([0.0, -0.3, 0.001, -1.2, -1.57, 0.0])
    position, orientation = arm.pose(stretched)
    solution = arm.solve(position + np.array([0.003, 0.0, 0.0]), orientation, stretched)
    assert solution.smallest_singular_value < 0.05
    assert np.abs(solution.joints - stretched).max() < 0.5


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_a_wrench_of_any_frame_is_told_at_the_tool_in_the_axes_of_the_base(seed):
    _, arm = arm_of("ur5e")
    random = np.random.default_rng(seed)
    joints, wrench = random.uniform(-1.0, 1.0, 6), random.uniform(-10.0, 10.0, 6)
    position, orientation = arm.pose(joints)
    x, y, z, w = orientation
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    at_tool = arm.wrench_at_tool(wrench, "tool0", joints)
    assert np.allclose(at_tool, [*(turn @ wrench[:3]), *(turn @ wrench[3:])], atol=1e-9)
    # A force at the base's origin pulls at the tool with the lever between the two.
    at_base = arm.wrench_at_tool(wrench, "base_link", joints)
    assert np.allclose(at_base, [*wrench[:3], *(wrench[3:] - np.cross(position, wrench[:3]))], atol=1e-9)
    assert arm.has_frame("wrist_3_link") and not arm.has_frame("ft_sensor")
