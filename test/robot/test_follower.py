"""What an arm is told: inside every limit whatever is asked, and a hold with a reason when something is wrong."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.state import CartesianTarget
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.follower import Follower, Hold
from flow_rag_vla.robot.mock_arm import MockArm
from flow_rag_vla.robot.profile import load_profile
from flow_rag_vla.robot.tracker import Tracker

PERIOD = 0.025
MS = 1_000_000


@cache
def parts(mode: str = "joint_trajectory"):
    path = Path(__file__).resolve().parents[2] / "config" / "robots" / "mock.yaml"
    profile = dataclasses.replace(load_profile(path), mode=mode)
    return profile, Arm(profile)


class Bench:
    """A follower whose arm is wherever it is told to be, at 40 Hz of made-up time."""

    def __init__(self, mode: str = "joint_trajectory") -> None:
        self.profile, self.arm = parts(mode)
        self.follower = Follower(self.profile, self.arm)
        self.now = 1_000 * MS
        self.joints = self.profile.limits("home")
        self.told: list[np.ndarray] = []
        self.position, self.orientation = self.arm.pose(self.joints)

    def tick(self, target=None, sense=True, width=0.05):
        self.now += 25 * MS
        if sense:
            self.follower.sense(self.profile.joint_names, self.joints.tolist(), self.now)
        if target is not None:
            self.follower.command(CartesianTarget(np.array(target), self.orientation, width), self.now)
        output = self.follower.tick(self.now)
        if output.joints is not None:
            self.told.append(output.joints)
            self.joints = output.joints
        return output


def test_nothing_is_sent_before_an_arm_and_a_command_are_there():
    bench = Bench()
    for output, reason in ((bench.tick(sense=False), Hold.NO_JOINT_STATES), (bench.tick(), Hold.NO_COMMAND)):
        assert output.hold is reason and output.joints is None and output.gripper_width is None
    output = bench.tick(bench.position)
    assert output.hold is None and output.joints is not None


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1))
def test_whatever_is_commanded_no_limit_of_place_speed_or_acceleration_is_passed(seed):
    random = np.random.default_rng(seed)
    bench = Bench()
    bench.told.append(bench.joints)
    target = bench.position.copy()
    for _ in range(40):
        kind = random.integers(10)
        if kind == 0:
            target = random.uniform(-1.0, 1.0, 3)
        elif kind == 1:
            target = np.array([math.nan, 0.0, 0.0])
        elif kind == 2:
            target = bench.arm.pose(bench.joints)[0]
        else:
            target = target + random.uniform(-0.015, 0.015, 3)
        bench.tick(target if random.random() < 0.9 else None, sense=random.random() < 0.9)
    told = np.array(bench.told)
    speed = np.diff(told, axis=0) / PERIOD
    assert np.isfinite(told).all()
    assert (told >= bench.profile.limits("low")).all() and (told <= bench.profile.limits("high")).all()
    assert (np.abs(speed) <= bench.profile.limits("velocity") + 1e-9).all()
    assert (np.abs(np.diff(speed, axis=0)) <= bench.profile.limits("acceleration") * PERIOD + 1e-9).all()


def test_a_path_is_followed_to_its_end():
    bench = Bench()
    goal = bench.position + np.array([0.05, 0.05, -0.05])
    for share in np.linspace(0.0, 1.0, 40):
        bench.tick(bench.position + share * (goal - bench.position))
    for _ in range(20):
        output = bench.tick(goal)
    assert output.hold is None and output.gripper_width == 0.05
    assert np.linalg.norm(bench.arm.pose(bench.joints)[0] - goal) < 1e-3


@pytest.mark.parametrize(
    ("offset", "hold"),
    [
        ([0.15, 0.1, 0.0], Hold.JUMP),
        ([1.0, 0.0, 0.0], Hold.OUTSIDE_WORKSPACE),
        ([math.nan, 0.0, 0.0], Hold.COMMAND_INVALID),
        ([math.inf, 0.0, 0.0], Hold.COMMAND_INVALID),
    ],
)
def test_a_target_that_may_not_be_followed_is_refused_by_name_and_the_next_good_one_is_followed(offset, hold):
    bench = Bench()
    bench.tick(bench.position)
    before = bench.joints
    output = bench.tick(bench.position + np.array(offset))
    assert output.hold is hold and output.text.startswith(hold.name)
    assert np.allclose(bench.joints, before, atol=5e-3)
    assert bench.tick(bench.position).hold is None


def test_a_reach_beyond_the_arm_is_refused():
    profile, arm = parts()
    wide = dataclasses.replace(profile, workspace_low=(-3.0,) * 3, workspace_high=(3.0,) * 3)
    bench = Bench()
    bench.follower = Follower(wide, arm)
    bench.tick(bench.position)
    output = bench.tick([1.5, 0.0, 0.3])
    assert output.hold is Hold.UNREACHABLE and "mm" in output.text


def moving() -> Bench:
    bench = Bench()
    for step in range(12):
        bench.tick(bench.position + step * np.array([0.006, 0.0, 0.0]))
    assert np.abs(bench.told[-1] - bench.told[-2]).max() > 1e-3
    return bench


@pytest.mark.parametrize(
    ("names", "positions", "said"),
    [
        (None, [math.nan] * 7, "not all finite"),
        (["a", "b"], [0.0, 0.0], "panda_joint1"),
        (None, [0.0] * 3, "3 positions"),
        (["panda_joint1"] * 7, [0.0] * 7, "7 positions"),
    ],
)
def test_a_joint_state_that_makes_no_sense_brings_the_arm_to_rest_until_only_good_ones_come(names, positions, said):
    bench = moving()
    bad = names or bench.profile.joint_names, positions
    assert bench.follower.sense(*bad, bench.now) is None
    target = bench.position + np.array([0.1, 0.0, 0.0])
    output = bench.tick(target, sense=False)
    assert output.hold is Hold.JOINT_STATES_INVALID and said in output.text
    # One that is wrong now and then, the good ones in between: no starts and stops.
    for turn in range(60):
        if turn % 10 == 0:
            assert bench.follower.sense(*bad, bench.now) is None
        assert bench.tick(target).hold is Hold.JOINT_STATES_INVALID
    assert np.abs(bench.told[-1] - bench.told[-2]).max() < 1e-9
    holds = [bench.tick(target).hold for _ in range(30)]
    assert holds[:5] == [Hold.JOINT_STATES_INVALID] * 5 and holds[-1] is None


def test_good_joint_states_after_a_silence_are_believed_by_number_not_by_time_alone():
    bench = moving()
    assert bench.follower.sense(bench.profile.joint_names, [math.nan] * 7, bench.now) is None
    for _ in range(30):
        bench.tick(bench.position, sense=False)
    target = bench.position + np.array([0.07, 0.0, 0.0])
    holds = [bench.tick(target).hold for _ in range(3)]
    assert holds == [Hold.JOINT_STATES_INVALID, Hold.JOINT_STATES_INVALID, None]


def test_joint_states_that_stop_and_commands_that_stop_bring_the_arm_to_rest():
    for sense, fed, hold in ((False, True, Hold.JOINT_STATES_STALE), (True, False, Hold.NO_COMMAND)):
        bench = moving()
        target = bench.position + np.array([0.072, 0.0, 0.0])
        for _ in range(20):
            output = bench.tick(target if fed else None, sense=sense)
        assert output.hold is hold
        assert np.abs(bench.told[-1] - bench.told[-2]).max() < 1e-9
        assert output.gripper_width == 0.05


def test_an_arm_that_does_not_go_where_it_is_told_is_not_pushed_further():
    bench = Bench()
    stuck = bench.joints.copy()
    for step in range(60):
        bench.joints = stuck
        output = bench.tick(bench.position + step * np.array([0.004, 0.0, 0.0]))
    lag = max(float(np.abs(told - stuck).max()) for told in bench.told)
    assert any(output.hold is hold for hold in (Hold.NOT_TRACKING, Hold.JUMP))
    assert lag < bench.profile.tracking + 0.1


def test_an_emergency_stop_holds_until_the_next_command():
    bench = moving()
    bench.follower.stop()
    assert bench.tick().hold is Hold.EMERGENCY_STOP
    assert bench.tick(bench.arm.pose(bench.joints)[0]).hold is None


def test_a_measured_joint_outside_its_limits_is_named():
    bench = Bench()
    bench.tick(bench.position)
    bench.joints = bench.joints.copy()
    bench.joints[1] = bench.profile.joints[1].high + 0.1
    output = bench.tick(bench.position)
    assert output.hold is Hold.JOINTS_OUTSIDE_LIMITS and "panda_joint2" in output.text


def test_a_tool_pose_goes_to_the_target_no_faster_than_the_tool_may():
    bench = Bench("cartesian_pose")
    goal = bench.position + np.array([0.05, 0.0, 0.0])
    places = [bench.tick(goal).position for _ in range(40)]
    steps = np.linalg.norm(np.diff(np.array(places), axis=0), axis=1)
    assert steps.max() <= bench.profile.tool_speed * PERIOD + 1e-9
    assert np.linalg.norm(places[-1] - goal) < 1e-6
    assert bench.tick(bench.position + np.array([0.2, 0.3, 0.0])).hold is Hold.JUMP


def test_a_twist_is_inside_the_tools_limits_and_zero_once_commands_stop():
    bench = Bench("cartesian_twist")
    goal = bench.position + np.array([0.05, 0.0, 0.0])
    twists = [bench.tick(goal).twist for _ in range(5)]
    assert twists[-1][0] > 0.01
    assert max(np.linalg.norm(twist[:3]) for twist in twists) <= bench.profile.tool_speed + 1e-9
    for _ in range(20):
        output = bench.tick()
    assert output.hold is Hold.NO_COMMAND and np.allclose(output.twist, 0.0)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_tracked_value_reaches_a_goal_at_rest_without_passing_it(seed):
    random = np.random.default_rng(seed)
    goal, speed, acceleration = random.uniform(-2, 2, 3), random.uniform(0.2, 3, 3), random.uniform(0.5, 20, 3)
    tracker = Tracker(np.zeros(3), speed, acceleration, PERIOD)
    for _ in range(800):
        tracker.step(goal, PERIOD)
        assert (np.abs(tracker.value) <= np.abs(goal) + 1e-9).all()
    assert np.allclose(tracker.value, goal, atol=1e-6) and tracker.at_rest


def test_the_mock_counts_what_breaks_its_limits_and_stops_when_commands_do():
    profile, _ = parts()
    arm = MockArm(profile, 0.04)
    home = arm.positions.copy()
    good = home + 0.5 * profile.limits("velocity") * PERIOD
    assert arm.command(good, 1.0) and arm.violations == 0
    for bad in (np.full(7, math.nan), home + 1.0, np.full(7, 9.0), np.zeros(3)):
        assert not arm.command(bad, 1.025)
    assert arm.violations == 4
    arm.advance(1.03, 0.01)
    assert (arm.positions != home).all()
    arm.advance(1.0 + profile.command_timeout + 0.01, 0.01)
    assert arm.watchdog_stops == 1 and not arm.velocities.any()
