# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What an arm is told: inside every limit whatever is asked, and a hold with a reason when something is wrong."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
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

    def sense(self, joints):
        """A joint state as the driver says, whatever the arm does."""
        return self.follower.sense(self.profile.joint_names, np.asarray(joints).tolist(), self.now)

    def warm(self):
        """As many joint states as make them believable."""
        for _ in range(3):
            self.now += 25 * MS
            self.sense(self.joints)
        return self

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
    for output, reason in ((bench.tick(sense=False), Hold.NO_JOINT_STATES), (bench.warm().tick(), Hold.NO_COMMAND)):
        assert output.hold is reason and output.joints is None and output.gripper_width is None
    output = bench.tick(bench.position)
    assert output.hold is None and output.joints is not None


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1))
def test_whatever_is_commanded_no_limit_of_place_speed_or_acceleration_is_passed(seed):
    random = np.random.default_rng(seed)
    bench = Bench().warm()
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


@pytest.mark.parametrize("wild", [0.0, 50.0])
def test_joint_states_that_leap_now_and_then_hold_the_arm_instead_of_moving_it_in_starts_and_stops(wild):
    bench = Bench().warm()
    for _ in range(10):
        bench.tick(bench.position)
    standing = bench.joints
    for turn in range(60):
        bench.now += 25 * MS
        bench.sense(np.full(7, wild) if turn % 8 == 0 else standing)
        output = bench.tick(bench.position, sense=False)
        assert output.hold is Hold.JOINT_STATES_INVALID and "leapt" in output.text
    assert np.abs(np.array(bench.told) - standing).max() < 1e-3
    holds = [bench.tick(bench.position).hold for _ in range(30)]
    assert holds[-1] is None


def test_an_arm_that_is_found_elsewhere_is_believed_after_half_a_second_and_goes_on_from_there():
    bench = Bench().warm()
    bench.tick(bench.position)
    there = bench.joints + np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    place = bench.arm.pose(there)[0]
    holds = []
    for _ in range(80):
        bench.joints = there
        holds.append(bench.tick(place).hold)
    assert holds[:19] == [Hold.JOINT_STATES_INVALID] * 19 and Hold.JOINT_STATES_INVALID not in holds[21:]
    told = np.array(bench.told)
    assert (np.abs(np.diff(told, axis=0)) <= bench.profile.limits("velocity") * PERIOD + 1e-9).all()
    assert np.abs(told[-1] - there).max() < bench.profile.tracking


def test_a_first_joint_state_that_is_wrong_is_not_what_an_arm_is_told_to_go_to():
    bench = Bench()
    bench.sense(bench.joints + 0.5)
    assert bench.tick(bench.position, sense=False).joints is None
    for _ in range(30):
        output = bench.tick(bench.position)
    assert output.hold is None and np.abs(bench.told[0] - bench.profile.limits("home")).max() < 0.02


def test_a_path_is_followed_to_its_end():
    bench = Bench().warm()
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
    bench = Bench().warm()
    bench.tick(bench.position)
    before = bench.joints
    output = bench.tick(bench.position + np.array(offset))
    assert output.hold is hold and output.text.startswith(hold.name)
    assert np.allclose(bench.joints, before, atol=5e-3)
    assert bench.tick(bench.position).hold is None


def walled(offset):
    """A bench whose workspace ends so far, metres along x, in front of its tool."""
    bench = Bench()
    high = (float(bench.position[0]) + offset, 0.4, 0.6)
    bench.follower = Follower(dataclasses.replace(bench.profile, workspace_high=high), bench.arm)
    return bench.warm(), high[0]


def test_a_tool_at_the_edge_of_its_workspace_is_not_led_out_in_small_steps():
    bench, wall = walled(0.002)
    for _ in range(200):
        here = bench.arm.pose(bench.joints)[0]
        bench.tick(here + np.array([0.0009, 0.0, 0.0]))
    assert bench.arm.pose(bench.joints)[0][0] < wall + 0.002


def test_a_tool_that_starts_outside_its_workspace_may_stay_or_come_in_and_not_go_out_again():
    bench, _ = walled(-0.06)
    out = bench.position.copy()
    assert [bench.tick(out).hold for _ in range(10)] == [None] * 10
    for step in range(30):
        assert bench.tick(out - np.array([0.002 * step, 0.0, 0.0])).hold is None
    assert {bench.tick(out - np.array([0.03, 0.0, 0.0])).hold for _ in range(3)} == {Hold.OUTSIDE_WORKSPACE}


def test_an_arm_that_was_carried_elsewhere_before_its_first_motion_is_taken_up_where_it_is():
    bench, wall = walled(-0.06)
    assert bench.tick(bench.position + np.array([0.05, 0.0, 0.0])).hold is Hold.OUTSIDE_WORKSPACE
    for step in range(40):
        place = bench.position + min(step, 20) * np.array([0.003, 0.0, 0.0])
        bench.joints = bench.arm.solve(place, bench.orientation, bench.joints).joints
        output = bench.tick(bench.position + np.array([0.2, 0.0, 0.0])) if step < 30 else bench.tick(place)
    assert place[0] > wall + 0.1 and output.hold is None


def test_a_reach_beyond_the_arm_is_refused():
    profile, arm = parts()
    wide = dataclasses.replace(profile, workspace_low=(-3.0,) * 3, workspace_high=(3.0,) * 3)
    bench = Bench()
    bench.follower = Follower(wide, arm)
    bench.warm()
    bench.tick(bench.position)
    output = bench.tick([1.5, 0.0, 0.3])
    assert output.hold is Hold.UNREACHABLE and "mm" in output.text


def moving() -> Bench:
    bench = Bench().warm()
    for step in range(12):
        bench.tick(bench.position + step * np.array([0.006, 0.0, 0.0]))
    assert np.abs(bench.told[-1] - bench.told[-2]).max() > 1e-3
    return bench


@pytest.mark.parametrize(
    ("names", "positions", "said"),
    [
        (None, [math.nan] * 7, "not all finite"),
        (["panda_joint1", "b"], [0.0, 0.0], "panda_joint2"),
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


@pytest.mark.filterwarnings("error")
def test_joint_states_that_are_further_apart_than_any_number_hold_the_arm_and_disturb_no_log():
    bench = moving()
    for sign in (1.0, -1.0, 1.0):
        bench.now += 25 * MS
        assert bench.sense([sign * 1.7e308] * 7) is None
    output = bench.tick(bench.position, sense=False)
    assert output.hold is Hold.JOINT_STATES_INVALID and "leapt by inf rad" in output.text
    assert np.isfinite(output.joints).all()


def test_joint_states_of_another_driver_on_the_topic_hold_nothing_and_are_named_if_they_are_all_that_comes():
    bench = Bench()
    for _ in range(20):
        assert bench.follower.sense(["left_wheel", "right_wheel"], [math.nan, 4.0], bench.now) is None
        output = bench.tick(bench.position, sense=False)
    assert output.hold is Hold.NO_JOINT_STATES and "left_wheel" in output.text
    holds = []
    for _ in range(20):
        bench.follower.sense(["left_wheel", "right_wheel"], [3.0, 4.0], bench.now)
        holds.append(bench.tick(bench.position).hold)
    assert holds == [Hold.NO_JOINT_STATES] * 2 + [None] * 18


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
    bench = Bench().warm()
    stuck = bench.joints.copy()
    for step in range(60):
        bench.joints = stuck
        output = bench.tick(bench.position + step * np.array([0.004, 0.0, 0.0]))
    lag = max(float(np.abs(told - stuck).max()) for told in bench.told)
    assert any(output.hold is hold for hold in (Hold.NOT_TRACKING, Hold.JUMP))
    assert lag < bench.profile.tracking + 0.1


def test_an_arm_that_is_held_fast_is_pushed_again_only_after_half_a_second():
    bench = Bench().warm()
    stuck = bench.joints.copy()
    about_x = np.array([1.0, 0.0, 0.0])
    holds = []
    for step in range(200):
        bench.joints = stuck
        turn = quaternion_from_rotation_vector(min(step / 40, 1.0) * 0.3 * about_x)
        facing = quaternion_multiply(turn, bench.arm.pose(stuck)[1])
        bench.now += 25 * MS
        bench.sense(stuck)
        bench.follower.command(CartesianTarget(bench.position, facing, 0.05), bench.now)
        output = bench.follower.tick(bench.now)
        assert np.abs(output.joints - stuck).max() < bench.profile.tracking + 0.1
        holds.append(output.hold)
    lost = [index for index, hold in enumerate(holds) if hold is Hold.NOT_TRACKING]
    assert lost, "the arm never counted as held fast"
    spells = np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1)
    assert all(len(spell) * PERIOD >= 0.5 for spell in spells if spell[-1] < len(holds) - 1)


@pytest.mark.parametrize(
    ("states_every", "commands_every", "hold"), [(8, 1, Hold.JOINT_STATES_STALE), (1, 6, Hold.NO_COMMAND)]
)
def test_what_comes_now_and_then_does_not_move_the_arm_in_starts_and_stops(states_every, commands_every, hold):
    bench = moving()
    target = bench.position + np.array([0.1, 0.0, 0.0])
    holds = []
    for tick in range(1, 97):
        output = bench.tick(target if tick % commands_every == 0 else None, sense=tick % states_every == 0)
        holds.append(output.hold)
    assert set(holds[24:]) == {hold}
    assert np.abs(np.diff(bench.told[-60:], axis=0)).max() < 1e-9
    for _ in range(4):
        output = bench.tick(bench.arm.pose(bench.joints)[0])
    assert output.hold is None


def test_a_driver_that_is_too_slow_is_named_as_that():
    bench = Bench()
    for _ in range(6):
        bench.now += 300 * MS
        bench.sense(bench.joints)
    assert "fewer than 3 came within 0.15 s" in bench.follower.tick(bench.now).text


@pytest.mark.parametrize("ends", ["emergency stop", "silence"])
def test_an_arm_that_is_held_fast_time_and_again_is_not_pushed_until_a_person_or_a_silence_ended_it(ends):
    bench = Bench().warm()
    stuck = bench.joints.copy()
    turn = quaternion_from_rotation_vector(np.array([0.3, 0.0, 0.0]))
    facing = quaternion_multiply(turn, bench.arm.pose(stuck)[1])

    def push(ticks, joints):
        found = []
        for _ in range(ticks):
            bench.now += 25 * MS
            bench.sense(joints)
            bench.follower.command(CartesianTarget(bench.position, facing, 0.05), bench.now)
            found.append(bench.follower.tick(bench.now))
        return found

    outputs = push(400, stuck)
    last = outputs[-200:]
    assert {output.hold for output in last} == {Hold.NOT_TRACKING}, "it is pushed no more"
    assert "free the arm" in last[-1].text
    assert sum(one.hold is None and other.hold is not None for one, other in pairwise(outputs)) == 3
    if ends == "emergency stop":
        bench.follower.stop()
    else:
        bench.now += 500 * MS
        bench.follower.tick(bench.now)
    assert any(output.hold is None for output in push(40, stuck))


def test_an_emergency_stop_holds_until_the_next_command():
    bench = moving()
    bench.follower.stop()
    assert bench.tick().hold is Hold.EMERGENCY_STOP
    assert bench.tick(bench.arm.pose(bench.joints)[0]).hold is None


@pytest.mark.parametrize("mode", ["joint_position", "cartesian_twist"])
def test_a_follower_that_ends_brings_the_arm_to_rest_whatever_is_commanded(mode):
    bench = Bench(mode).warm()
    assert bench.follower.at_rest, "nothing was told"
    goal = bench.position + np.array([0.05, 0.0, 0.0])
    for _ in range(4):
        bench.tick(goal)
    assert not bench.follower.at_rest
    bench.follower.end()
    for _ in range(20):
        output = bench.tick(goal)
    assert output.hold is Hold.NO_COMMAND and bench.follower.at_rest
    assert np.abs(output.twist if output.joints is None else np.diff(bench.told[-2:], axis=0)).max() < 1e-9


def test_a_measured_joint_outside_its_limits_is_named():
    bench = Bench().warm()
    bench.tick(bench.position)
    for _ in range(25):
        bench.joints = bench.joints.copy()
        bench.joints[1] = bench.profile.joints[1].high + 0.1
        output = bench.tick(bench.position)
    assert output.hold is Hold.JOINTS_OUTSIDE_LIMITS and "panda_joint2" in output.text


def test_a_joint_that_trembles_at_its_limit_does_not_let_the_arm_go_and_hold_it_in_turns():
    bench = Bench().warm()
    bench.tick(bench.position)
    limit = bench.profile.joints[0].high
    holds = []
    for tremble in [0.019, 0.021, 0.019, 0.021, 0.019, 0.0] * 2:
        for _ in range(30 if not holds else 1):
            bench.joints = bench.joints.copy()
            bench.joints[0] = limit + tremble
            output = bench.tick(bench.position)
        holds.append(output.hold is Hold.JOINTS_OUTSIDE_LIMITS)
    assert holds == [False, True, True, True, True, False] * 2


def held_poses(sag, ticks):
    """Heights that a pose-controlled arm was told and had, in a hold, when it hangs so much lower than it is told."""
    bench = Bench("cartesian_pose").warm()
    place, told, found = bench.position.copy(), [], []
    output = bench.tick(bench.position)
    for tick in range(ticks):
        place += (output.position - np.array([0.0, 0.0, sag]) - place) * (1.0 - math.exp(-0.25))
        bench.joints = bench.arm.solve(place, bench.orientation, bench.joints).joints
        output = bench.tick(bench.position if tick < 20 else None)
        told.append(output.position[2])
        found.append(place[2])
    assert output.hold is Hold.NO_COMMAND
    return np.array(told), np.array(found)


def test_an_arm_that_hangs_lower_than_it_is_told_does_not_sink_while_it_is_held():
    told, found = held_poses(sag=0.02, ticks=120)
    assert np.ptp(told) < 1e-6
    assert found.min() > found[20] - 1e-3


def test_a_tool_whose_joint_states_stopped_is_not_told_to_go_back_to_where_it_was_last_seen():
    bench = Bench("cartesian_pose").warm()
    goal, told = bench.position + np.array([0.1, 0.0, 0.0]), [bench.position[0]]
    for tick in range(50):
        output = bench.tick(goal, sense=tick < 8 or tick >= 30)
        told.append(output.position[0])
        bench.joints = bench.arm.solve(output.position, bench.orientation, bench.joints).joints
        assert (output.hold is Hold.JOINT_STATES_STALE) == (14 <= tick < 32)
    steps = np.diff(told)
    assert steps.min() > -1e-6 and np.abs(np.diff(steps)).max() <= bench.profile.tool_acceleration * PERIOD**2


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("mode", ["cartesian_pose", "cartesian_twist"])
def test_a_tool_that_others_moved_while_it_was_held_is_led_on_from_there(mode, seen):
    bench = Bench(mode).warm()
    bench.tick(bench.position)
    for _ in range(10):
        bench.tick()
    there = bench.position + np.array([0.1, 0.0, 0.0])
    for share in np.linspace(0.0, 1.0, 20):
        place = bench.position + share * (there - bench.position)
        bench.joints = bench.arm.solve(place, bench.orientation, bench.joints).joints
        output = bench.tick(sense=seen)
    assert output.hold is (Hold.NO_COMMAND if seen else Hold.JOINT_STATES_STALE)
    for _ in range(3):
        output = bench.tick(there)
    assert output.hold is None
    if mode == "cartesian_twist":
        assert np.abs(output.twist).max() < 0.02


@pytest.mark.parametrize("mode", ["cartesian_pose", "cartesian_twist"])
def test_a_tool_turns_no_faster_and_no_more_suddenly_than_it_may(mode):
    bench = Bench(mode).warm()
    profile = bench.profile
    goal = quaternion_multiply(quaternion_from_rotation_vector(np.array([0.0, 0.0, 0.4])), bench.orientation)
    facing, rates = bench.orientation, []
    for tick in range(40):
        bench.joints = bench.arm.solve(bench.position, facing, bench.joints).joints
        bench.now += 25 * MS
        bench.sense(bench.joints)
        if tick < 6 or tick > 20:
            bench.follower.command(CartesianTarget(bench.position, goal, 0.05), bench.now)
        output = bench.follower.tick(bench.now)
        before = facing
        if output.orientation is not None:
            facing = output.orientation
        else:
            facing = quaternion_multiply(quaternion_from_rotation_vector(output.twist[3:] * PERIOD), facing)
        turned = quaternion_multiply(facing, quaternion_conjugate(before))
        rates.append(rotation_vector_from_quaternion(turned)[2] / PERIOD)
    most = profile.turn_speed * profile.tool_acceleration / profile.tool_speed * PERIOD
    slack = 0.4 if mode == "cartesian_twist" else 1e-6
    assert max(rates) <= profile.turn_speed + 1e-6 and np.abs(np.diff([0.0, *rates])).max() <= most + slack
    assert (
        np.linalg.norm(rotation_vector_from_quaternion(quaternion_multiply(goal, quaternion_conjugate(facing)))) < 0.02
    )


def test_a_tool_pose_goes_to_the_target_no_faster_than_the_tool_may():
    bench = Bench("cartesian_pose").warm()
    goal = bench.position + np.array([0.05, 0.0, 0.0])
    places = [bench.tick(goal).position for _ in range(40)]
    steps = np.linalg.norm(np.diff(np.array(places), axis=0), axis=1)
    assert steps.max() <= bench.profile.tool_speed * PERIOD + 1e-9
    assert np.linalg.norm(places[-1] - goal) < 1e-6
    assert bench.tick(bench.position + np.array([0.2, 0.3, 0.0])).hold is Hold.JUMP


def test_a_twist_is_inside_the_tools_limits_and_zero_once_commands_stop():
    bench = Bench("cartesian_twist").warm()
    goal = bench.position + np.array([0.05, 0.0, 0.0])
    twists = [bench.tick(goal).twist for _ in range(5)]
    assert twists[-1][0] > 0.01
    assert max(np.linalg.norm(twist[:3]) for twist in twists) <= bench.profile.tool_speed + 1e-9
    for _ in range(20):
        output = bench.tick()
    assert output.hold is Hold.NO_COMMAND and np.allclose(output.twist, 0.0)


@pytest.mark.parametrize("slow", [1.0, 0.1])
@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_whatever_is_commanded_the_tool_is_told_no_speed_beyond_its_own(slow, seed):
    random = np.random.default_rng(seed)
    bench = Bench()
    profile = dataclasses.replace(
        bench.profile, tool_speed=slow * bench.profile.tool_speed, turn_speed=slow * bench.profile.turn_speed
    )
    bench.follower = Follower(profile, bench.arm)
    bench.warm()
    target, poses = bench.position.copy(), []
    for tick in range(60):
        if tick % 12 == 0:
            # What a controller with other limits could ask for: all that the joints can reach in time.
            target = bench.arm.pose(bench.joints)[0] + random.uniform(-0.1, 0.1, 3)
        bench.tick(target)
        if bench.told:
            poses.append(bench.arm.pose(bench.told[-1]))
    told = np.array([place for place, _ in poses])
    turned = [
        rotation_vector_from_quaternion(quaternion_multiply(other, quaternion_conjugate(one)))
        for (_, one), (_, other) in pairwise(poses)
    ]
    # Nearly: joints that held each other back brake each at its own limit, and the posture changes within a step.
    assert np.linalg.norm(np.diff(told, axis=0), axis=1).max() / PERIOD <= 1.1 * profile.tool_speed
    assert np.linalg.norm(turned, axis=1).max() / PERIOD <= 1.1 * profile.turn_speed


def twisted(lead, turn=0.0, ticks=800, ends=None):
    """A bench that is told twists, its joint states staying as they were; how far these would have moved it, holds."""
    bench = Bench("cartesian_twist").warm()
    goal = bench.position + lead * np.array([1.0, 0.0, 0.0])
    facing = quaternion_multiply(quaternion_from_rotation_vector(np.array([0.0, 0.0, turn])), bench.orientation)
    moved, holds = [np.zeros(6)], []
    for _ in range(ticks):
        bench.now += 25 * MS
        bench.sense(bench.joints)
        bench.follower.command(CartesianTarget(goal, facing, 0.05), bench.now)
        output = bench.follower.tick(bench.now)
        moved.append(moved[-1] + output.twist * PERIOD)
        holds.append(output.hold)
    return bench, np.array(moved), holds


@pytest.mark.parametrize(("lead", "turn"), [(0.04, 0.0), (0.01, 0.0), (0.002, 0.0), (0.0, 0.3), (0.0, 0.02)])
def test_a_tool_that_is_told_speeds_and_is_not_seen_to_move_is_told_to_rest(lead, turn):
    bench, moved, holds = twisted(lead, turn)
    profile = bench.profile
    assert np.linalg.norm(moved[:, :3], axis=1).max() < 0.6 * profile.tool_speed * profile.reach_time
    assert np.linalg.norm(moved[:, 3:], axis=1).max() < 0.6 * profile.turn_speed * profile.reach_time
    if max(lead / 0.01, turn / 0.3) >= 1.0:
        assert holds[-1] is Hold.NOT_TRACKING and np.abs(moved[-1] - moved[-20]).max() < 1e-9


@pytest.mark.parametrize("ends", ["emergency stop", "silence"])
def test_a_tool_that_did_not_move_is_told_speeds_again_only_once_a_person_or_a_silence_has_ended_it(ends):
    bench, _, holds = twisted(0.04)
    first = holds.index(Hold.NOT_TRACKING)
    assert set(holds[first:]) == {Hold.NOT_TRACKING}
    # Nor does a gap in the joint states, as of a driver that is started again.
    for tick in range(40):
        bench.now += 25 * MS
        if tick > 20:
            bench.sense(bench.joints)
        bench.follower.command(CartesianTarget(bench.position, bench.orientation, 0.05), bench.now)
        output = bench.follower.tick(bench.now)
    assert output.hold is Hold.NOT_TRACKING and "emergency stop" in output.text
    if ends == "emergency stop":
        bench.follower.stop()
    else:
        bench.now += 500 * MS
    assert any(bench.tick(bench.position).hold is None for _ in range(60))


@settings(max_examples=10)
@given(lag=st.floats(0.001, 0.1), gain=st.floats(0.85, 1.1), seed=st.integers(0, 2**32 - 1))
def test_an_arm_that_lags_or_is_a_little_slower_than_told_is_not_taken_for_one_that_does_not_move(lag, gain, seed):
    random = np.random.default_rng(seed)
    bench = Bench("cartesian_twist").warm()
    place, speed, target = bench.position.copy(), np.zeros(3), bench.position.copy()
    corner = target.copy()
    for _ in range(160):
        if np.linalg.norm(corner - target) < 1e-3:
            corner = bench.position + random.uniform(-0.1, 0.1, 3)
        away = corner - target
        target = target + away * min(1.0, 0.012 / np.linalg.norm(away))
        lead = target - place
        target = place + lead * min(1.0, 0.04 / max(np.linalg.norm(lead), 1e-9))
        output = bench.tick(target)
        assert output.hold is None, output.text
        speed = speed + (gain * output.twist[:3] - speed) * (1.0 - math.exp(-PERIOD / lag))
        place = place + speed * PERIOD
        bench.joints = bench.arm.solve(place, bench.orientation, bench.joints).joints


@pytest.mark.parametrize("mode", ["joint_position", "cartesian_pose", "cartesian_twist"])
def test_an_orientation_told_by_its_other_quaternion_is_the_same_and_turns_nothing(mode):
    bench = Bench(mode).warm()
    for tick in range(20):
        bench.now += 25 * MS
        bench.sense(bench.joints)
        facing = bench.orientation * (-1.0) ** tick
        bench.follower.command(CartesianTarget(bench.position, facing, 0.05), bench.now)
        output = bench.follower.tick(bench.now)
        assert output.hold is None
        if output.twist is not None:
            assert np.abs(output.twist).max() < 1e-6
        if output.joints is not None:
            assert np.abs(output.joints - bench.joints).max() < 0.05


def test_a_tool_that_does_not_follow_its_poses_is_not_led_away_from_it():
    bench = Bench("cartesian_pose").warm()
    stuck, told, holds = bench.joints.copy(), [], []
    for step in range(400):
        bench.joints = stuck
        output = bench.tick(bench.position + np.array([0.0, min(0.004 * step, 0.25), 0.0]))
        told.append(output.position)
        holds.append(output.hold)
    away = np.linalg.norm(np.array(told) - bench.position, axis=1)
    assert away.max() < 1.2 * bench.profile.tool_speed * bench.profile.reach_time
    assert Hold.NOT_TRACKING in holds and holds[-1] is not None and away[-1] < 0.07


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_wherever_an_arm_is_said_to_be_the_pose_that_it_is_told_does_not_leap(seed):
    random = np.random.default_rng(seed)
    bench = Bench("cartesian_pose").warm()
    profile, told, facing = bench.profile, [], []
    for tick in range(120):
        if tick % 40 == 20:
            # A driver that was started again with another zero: the same from now on, and believed after a while.
            bench.joints = bench.profile.limits("home") + random.uniform(-0.5, 0.5, 7)
        output = bench.tick(bench.arm.pose(bench.joints)[0] if random.random() < 0.8 else None)
        if output.position is not None:
            told.append(output.position)
            facing.append(output.orientation)
    turned = [
        rotation_vector_from_quaternion(quaternion_multiply(other, quaternion_conjugate(one)))
        for one, other in pairwise(facing)
    ]
    assert np.linalg.norm(np.diff(told, axis=0), axis=1).max() <= profile.tool_speed * PERIOD + 1e-9
    assert np.linalg.norm(turned, axis=1).max() <= profile.turn_speed * PERIOD + 1e-9


@pytest.mark.parametrize("mode", ["joint_position", "cartesian_pose", "cartesian_twist"])
def test_an_arm_that_somebody_else_commands_is_left_to_them_and_not_pulled_to_and_fro(mode):
    bench = Bench(mode).warm()

    def sent(output):
        return any(value is not None for value in (output.joints, output.position, output.twist))

    bench.follower.contested("/planner publishes on /arm too", bench.now)
    output = bench.tick(bench.position)
    assert output.hold is Hold.OTHER_COMMANDS and "/planner" in output.text and not sent(output)
    assert any(bench.tick(bench.position).hold is None for _ in range(30)), "it is silent, and the arm is taken up"
    goal = bench.position + np.array([0.03, 0.0, 0.0])
    for _ in range(3):
        bench.tick(goal)
    bench.follower.contested("/planner publishes on /arm too", bench.now)
    outputs = [bench.tick(goal) for _ in range(80)]
    assert {output.hold for output in outputs} == {Hold.OTHER_COMMANDS}
    silent = [sent(output) for output in outputs].index(False)
    # It comes to rest inside its limits, says so more than once, and then leaves the arm alone.
    assert 3 <= silent < 20 and not any(sent(output) for output in outputs[silent:])
    if mode == "cartesian_twist":
        assert all(not output.twist.any() for output in outputs[silent - 3 : silent])
    bench.follower.stop()
    bench.tick()
    assert bench.tick(bench.position).hold is None, "a person pressed and reset the emergency stop"


def test_a_hand_is_told_what_somebody_asked_for_and_not_what_a_controller_found_when_it_was_started():
    bench = Bench().warm()

    def tell(width, grips):
        bench.now += 25 * MS
        bench.sense(bench.joints)
        bench.follower.command(CartesianTarget(bench.position, bench.orientation, width), bench.now, grips)
        output = bench.follower.tick(bench.now)
        assert output.hold is None
        bench.joints = output.joints
        return output.gripper_width

    assert tell(0.03, grips=False) is None, "whatever it holds, it was told to by somebody else"
    assert [tell(0.0, grips=True), tell(0.03, grips=False), tell(0.05, grips=True)] == [0.0, 0.0, 0.05]


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
