# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The bridge to an arm and the mock of one, as processes: motion, limits, watchdogs, faults."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Vector3, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String, UInt64

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.robot_graph import HOLD_TOPIC, VIOLATIONS_TOPIC, WATCHDOG_STOPS_TOPIC
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.data.message_values import robot_state
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import pose_message
from flow_rag_vla.nodes.robot_messages import ARM_TYPES
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.robot.profile import load_profile
from flow_rag_vla_interfaces.msg import ControlCommand, RobotState

PATIENCE_S = 60.0
JOINTS, TOLD = "mock/joint_states", "mock/joint_trajectory"
ROBOTS = Path(__file__).parents[2] / "config" / "robots"
MOCK = (ROBOTS / "mock.yaml").read_text(encoding="utf-8").replace("../../urdf", str(ROBOTS.parents[1] / "urdf"))

in_every_other_mode = pytest.mark.parametrize("mode", ["joint_position", "cartesian_pose", "cartesian_twist"])


@pytest.fixture
def mode():
    """What the arm is told: the mock's own profile, unless a test names another."""
    return "joint_trajectory"


@pytest.fixture
def heard(ros_node, mode):
    """What the bridge and the mock say: states, holds, violations, watchdog stops, what the arm is told."""
    found = {}
    for kind, name, key, profile in (
        (RobotState, topics.ROBOT_STATE, "state", qos.SENSOR),
        (String, HOLD_TOPIC, "hold", qos.STATE),
        (UInt64, VIOLATIONS_TOPIC, "violations", qos.STATE),
        (UInt64, WATCHDOG_STOPS_TOPIC, "stops", qos.STATE),
        (JointState, JOINTS, "joints", qos.SENSOR),
        (ARM_TYPES[mode], TOLD, "told", qos.PLAN),
    ):
        found[key] = []
        ros_node.create_subscription(kind, name, found[key].append, profile)
    return found


@pytest.fixture
def wait(spin_until):
    """``spin_until`` with the patience that a busy machine asks for."""
    return lambda predicate, what: spin_until(predicate, PATIENCE_S, what)


@pytest.fixture
def arm(start_node, heard, ros_node, wait, mode, tmp_path):
    """The mock and the bridge, up and matched with everything in this test; ``fed`` sends a pose at 40 Hz."""
    profile = tmp_path / "mock.yaml"
    profile.write_text(MOCK.replace("mode: joint_trajectory", f"mode: {mode}"), encoding="utf-8")
    mock, bridge = (start_node(node, profile=str(profile)) for node in ("mock_robot", "robot"))
    publisher = ros_node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
    stops = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
    wait(lambda: mock.said("mock of") and bridge.said("waiting for"), "both nodes")
    # The bridge hears stops on two subscriptions: of publishers that latch, and of those that do not.
    wait(lambda: publisher.get_subscription_count() == 1 and stops.get_subscription_count() == 2, "the bridge")
    wait(lambda: all(heard[key] for key in ("state", "hold", "violations", "stops", "joints")), "the arm")
    wait(lambda: heard["hold"][-1].data.endswith("none arrived yet"), "the bridge, waiting for commands")
    wait(lambda: ros_node.count_publishers(TOLD) == 1, "the bridge's topic")
    fed = {"target": None, "tick": 0, "step": None}

    def send():
        if fed["target"] is None:
            return
        if fed["step"] is not None:
            fed["target"] = fed["step"](fed["target"])
        fed["tick"] += 1
        position, orientation = fed["target"]
        message = ControlCommand(tick=fed["tick"], target=pose_message(position, orientation), gripper_width=0.05)
        message.mode = ControlCommand.MODE_FOLLOW
        message.header.stamp = ros_node.get_clock().now().to_msg()
        publisher.publish(message)

    ros_node.create_timer(TICK_S, send)
    start = robot_state(heard["state"][-1])
    return {"mock": mock, "bridge": bridge, "fed": fed, "start": (start.position, start.orientation), "stops": stops}


def toward(goal, step):
    """A target that goes to ``goal`` by ``step`` metres a tick."""

    def advance(target):
        away = goal - target[0]
        length = float(np.linalg.norm(away))
        return (target[0] + away * min(1.0, step / max(length, 1e-9)), target[1])

    return advance


REST = 0.005
"""Radians a second. An arm that is told poses leans toward its home posture at 0.002, its tool standing still."""


def at_rest(heard, states=10):
    """Whether the last so many joint states have no velocity to speak of."""
    last = heard["joints"][-states:]
    return len(last) == states and all(abs(value) < REST for message in last for value in message.velocity)


def follow(arm, heard, wait):
    """Feed the pose at the start until the bridge follows it."""
    arm["fed"].update(target=arm["start"])
    wait(lambda: heard["hold"][-1].data == "", "following")


def test_commands_move_the_tool_along_their_path_and_states_come_as_the_driver_stamped_them(arm, heard, wait):
    position, orientation = arm["start"]
    goal = position + np.array([0.08, 0.06, -0.05])
    assert heard["told"] == [], "nobody is moved before a command is there"
    heard["state"].clear()
    waiting = len(heard["hold"])
    arm["fed"].update(target=(position, orientation), step=toward(goal, 0.004))

    def there():
        return heard["state"] and np.linalg.norm(robot_state(heard["state"][-1]).position - goal) < 3e-3

    wait(there, "the tool at the goal")
    path = np.array([robot_state(message).position for message in heard["state"]])
    along = (goal - position) / np.linalg.norm(goal - position)
    aside = (path - position) - np.outer((path - position) @ along, along)
    # A machine that stalls longer than the timeout makes either silent; nothing else may hold the arm.
    silences = ("NO_COMMAND", "JOINT_STATES_STALE")
    holds = [text.data for text in heard["hold"][waiting:] if text.data]
    assert [text for text in holds if not text.startswith(silences)] == []
    # What was missed in a silence is caught up with in one larger step, joint by joint, which bends the path.
    assert np.linalg.norm(aside, axis=1).max() < (0.04 if holds else 0.012)
    assert heard["violations"][-1].data == 0
    wait(lambda: abs(heard["state"][-1].gripper_width - 0.05) < 2e-3, "the gripper at its width")

    def of_the_driver():
        stamps = {to_ns(message.header.stamp) for message in heard["joints"]}
        return [message for message in heard["state"] if to_ns(message.header.stamp) in stamps]

    # Both are best effort: some are lost on a busy machine, and then there is nothing to compare with.
    wait(lambda: len(of_the_driver()) > 3, "states with stamps of joint states")
    assert heard["state"][-1].header.frame_id == "panda_link0"
    assert list(heard["state"][-1].joint_names) == [f"panda_joint{number}" for number in range(1, 8)]


@in_every_other_mode
def test_an_arm_that_takes_something_else_goes_the_same_way_and_an_emergency_stop_brings_it_to_rest(
    arm, heard, wait, mode
):
    position, orientation = arm["start"]
    goal = position + np.array([0.08, 0.06, -0.05])
    assert heard["told"] == [], "nobody is moved before a command is there"
    arm["fed"].update(target=(position, orientation), step=toward(goal, 0.004))

    def away():
        return np.linalg.norm(robot_state(heard["state"][-1]).position - goal)

    wait(lambda: away() < 5e-3, "the tool at the goal")
    assert {type(message) for message in heard["told"]} == {ARM_TYPES[mode]}
    arm["fed"].update(step=toward(position, 0.004))
    wait(lambda: away() > 0.03, "the way back")
    arm["stops"].publish(Bool(data=True))
    wait(lambda: heard["hold"][-1].data.startswith("EMERGENCY_STOP"), "the emergency stop")
    wait(lambda: at_rest(heard), "an arm at rest")
    stopped = robot_state(heard["state"][-1]).position
    assert np.linalg.norm(stopped - position) > 0.01, "it stopped on its way"
    told = len(heard["told"])
    wait(lambda: len(heard["told"]) > told + 20, "commands to stay")
    assert at_rest(heard) and np.linalg.norm(robot_state(heard["state"][-1]).position - stopped) < 2e-3
    assert heard["violations"][-1].data == 0


@in_every_other_mode
def test_an_arm_that_takes_something_else_rests_when_its_bridge_is_killed(arm, heard, wait, mode):
    position, orientation = arm["start"]
    arm["fed"].update(target=(position, orientation), step=toward(position + np.array([0.2, 0.0, -0.1]), 0.004))
    wait(lambda: robot_state(heard["state"][-1]).position[0] > position[0] + 0.02, "motion")
    stops = heard["stops"][-1].data
    os.kill(arm["bridge"].popen.pid, signal.SIGKILL)
    # A velocity that is told once goes on until somebody ends it.
    wait(lambda: heard["stops"][-1].data > stops, "the mock's watchdog")
    wait(lambda: at_rest(heard, 100), "an arm that stays at rest")
    assert arm["mock"].alive and heard["violations"][-1].data == 0


def test_a_bridge_that_listens_for_other_commanders_says_so_and_then_what_holds_the_arm(
    start_node, heard, wait, tmp_path
):
    profile = tmp_path / "mock.yaml"
    profile.write_text(MOCK, encoding="utf-8")
    start_node("robot", profile=str(profile))
    wait(lambda: heard["hold"], "the bridge, without an arm")
    start_node("mock_robot", profile=str(profile))
    wait(lambda: heard["hold"][-1].data.endswith("none arrived yet"), "what holds it once it has listened")
    assert [text.data.partition(":")[0] for text in heard["hold"]] == ["NO_JOINT_STATES", "NO_COMMAND", "NO_COMMAND"]
    assert "whether others command it" in heard["hold"][1].data


def test_targets_that_may_not_be_followed_are_refused_by_name_and_the_arm_stays(arm, heard, wait):
    position, orientation = arm["start"]
    for offset, reason in (
        ((0.2, 0.0, 0.0), "JUMP"),
        ((5.0, 0.0, 0.0), "OUTSIDE_WORKSPACE"),
        ((math.nan, 0.0, 0.0), "COMMAND_INVALID"),
    ):
        follow(arm, heard, wait)
        arm["fed"].update(target=(position + np.array(offset), orientation))
        wait(lambda reason=reason: heard["hold"][-1].data.startswith(reason), reason)
        assert np.linalg.norm(robot_state(heard["state"][-1]).position - position) < 2e-3
    follow(arm, heard, wait)
    assert heard["violations"][-1].data == 0


def test_joint_states_that_are_not_numbers_hold_the_arm_and_it_goes_on_after_them(arm, heard, ros_node, wait):
    position, orientation = arm["start"]
    publisher = ros_node.create_publisher(JointState, JOINTS, qos.SENSOR)
    wait(lambda: publisher.get_subscription_count() >= 2, "the bridge listening to the intruder")
    arm["fed"].update(target=(position, orientation), step=toward(position + np.array([0.1, 0.0, 0.0]), 0.003))
    wait(lambda: robot_state(heard["state"][-1]).position[0] > position[0] + 0.02, "motion")
    intruding = {"on": True, "heard": 0}

    def intrude(message):
        # Wrong now and then, as a driver with a loose cable is: the good ones in between must not move the arm on.
        if math.isnan(message.position[0]):
            return
        intruding["heard"] += 1
        if intruding["on"] and intruding["heard"] % 8 == 0:
            bad = JointState(name=message.name, position=[math.nan] * len(message.name))
            bad.header.stamp = message.header.stamp
            publisher.publish(bad)

    ros_node.create_subscription(JointState, JOINTS, intrude, qos.SENSOR)
    wait(lambda: heard["hold"][-1].data.startswith("JOINT_STATES_INVALID"), "the hold")

    def stands():
        real = [message for message in heard["joints"] if len(message.velocity)]
        return max(abs(value) for value in real[-1].velocity) < 1e-3

    wait(stands, "the arm at rest")
    # An intruder that stalls lets the arm go on: what counts is the state that was published before the rest.
    wait(lambda: robot_state(heard["state"][-1]).position[0] < position[0] + 0.095, "the arm at rest short of its goal")
    assert arm["bridge"].said("not all finite")
    intruding["on"] = False
    wait(lambda: heard["hold"][-1].data == "", "following again")
    assert heard["violations"][-1].data == 0


def test_the_emergency_stop_and_silence_hold_the_arm_by_name_while_the_bridge_goes_on_telling_it_to_stay(
    arm, heard, wait
):
    follow(arm, heard, wait)
    arm["stops"].publish(Bool(data=True))
    wait(lambda: heard["hold"][-1].data.startswith("EMERGENCY_STOP"), "the emergency stop")
    told = len(heard["told"])
    wait(lambda: len(heard["told"]) > told + 8, "commands to stay")
    stay = np.array([message.points[-1].positions for message in heard["told"][told:]])
    assert np.abs(np.diff(stay, axis=0)).max() < 1e-6, "commands go on coming, and none of them is followed"
    assert heard["hold"][-1].data.startswith("EMERGENCY_STOP")
    arm["stops"].publish(Bool(data=False))
    wait(lambda: heard["hold"][-1].data == "", "following again")
    arm["fed"].update(target=None)
    wait(lambda: heard["hold"][-1].data.startswith("NO_COMMAND"), "the hold for want of commands")
    told = len(heard["told"])
    wait(lambda: len(heard["told"]) > told + 8, "commands to stay")
    assert heard["violations"][-1].data == 0


def test_an_emergency_stop_of_a_publisher_that_does_not_latch_holds_the_arm_before_the_controller_says_it(
    arm, heard, wait, ros_node
):
    follow(arm, heard, wait)
    button = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, 10)
    wait(lambda: button.get_subscription_count() == 1, "the bridge's ear")
    button.publish(Bool(data=True))
    wait(lambda: heard["hold"][-1].data.startswith("EMERGENCY_STOP"), "the emergency stop")
    arm["stops"].publish(Bool(data=False))
    told = len(heard["told"])
    wait(lambda: len(heard["told"]) > told + 8, "commands to stay")
    assert heard["hold"][-1].data.startswith("EMERGENCY_STOP"), "nobody takes back the stop of another"
    button.publish(Bool(data=False))
    wait(lambda: heard["hold"][-1].data == "", "following again")


def test_a_bridge_that_is_ended_while_the_arm_moves_brings_it_to_rest_first(arm, heard, wait):
    position, orientation = arm["start"]
    arm["fed"].update(target=(position, orientation), step=toward(position + np.array([0.2, 0.0, -0.1]), 0.004))
    wait(lambda: robot_state(heard["state"][-1]).position[0] > position[0] + 0.02, "motion")
    os.kill(arm["bridge"].popen.pid, signal.SIGINT)
    wait(lambda: not arm["bridge"].alive, "the bridge's end")
    assert arm["bridge"].wait() == 0
    wait(lambda: at_rest(heard, 100), "an arm at rest")
    told = np.array([message.points[-1].positions for message in heard["told"]])
    steps = np.abs(np.diff(told, axis=0)).max(axis=1)
    assert steps.max() > 1e-3 and steps[-1] < 2e-3, "the last that it is told is where it is about to stand"
    assert heard["violations"][-1].data == 0


def test_a_bridge_that_is_killed_leaves_the_arm_to_its_own_watchdog(arm, heard, wait):
    position, orientation = arm["start"]
    arm["fed"].update(target=(position, orientation), step=toward(position + np.array([0.2, 0.0, -0.1]), 0.004))
    wait(lambda: robot_state(heard["state"][-1]).position[0] > position[0] + 0.02, "motion")
    stops = heard["stops"][-1].data
    os.kill(arm["bridge"].popen.pid, signal.SIGKILL)
    wait(lambda: heard["stops"][-1].data > stops, "the mock's watchdog")
    # What the bridge had sent may still arrive behind a stall; then there is silence, and a second of rest.
    wait(lambda: at_rest(heard, 100), "an arm that stays at rest")
    assert arm["mock"].alive and heard["violations"][-1].data == 0


def test_a_force_is_told_in_the_axes_of_the_base_and_is_forgotten_when_its_sensor_falls_silent(
    start_node, ros_node, wait, tmp_path
):
    profile = tmp_path / "felt.yaml"
    profile.write_text(MOCK.replace("wrench: mock/wrench", "wrench: felt"), encoding="utf-8")
    bridge = start_node("robot", profile=str(profile))
    arm = load_profile(profile)
    joints = ros_node.create_publisher(JointState, JOINTS, qos.SENSOR)
    forces = ros_node.create_publisher(WrenchStamped, "felt", qos.SENSOR)
    states, feeling = [], {"frame": "panda_tcp"}
    ros_node.create_subscription(RobotState, topics.ROBOT_STATE, states.append, qos.SENSOR)

    def sense():
        stamp = ros_node.get_clock().now().to_msg()
        message = JointState(name=[*arm.joint_names, arm.gripper.joint], position=[*arm.limits("home").tolist(), 0.04])
        message.header.stamp = stamp
        joints.publish(message)
        if feeling["frame"]:
            felt = WrenchStamped()
            felt.header.stamp, felt.header.frame_id, felt.wrench.force.z = stamp, feeling["frame"], 5.0
            forces.publish(felt)

    ros_node.create_timer(0.02, sense)

    def force():
        found = states[-1].wrench.force if states else Vector3()
        return found.x, found.y, found.z

    # The tool looks down: what presses along its own axis presses down.
    wait(lambda: force()[2] < -4.9, "the force")
    assert max(map(abs, force()[:2])) < 0.5
    feeling["frame"] = "panda_link0"
    wait(lambda: force() == (0.0, 0.0, 5.0), "a force of the base frame, as it is")
    feeling["frame"] = ""
    wait(lambda: force() == (0.0, 0.0, 0.0) and bridge.said("no contact is felt"), "nothing felt")
    feeling["frame"] = "ft_sensor"
    wait(lambda: bridge.said("wrench refused: it is of frame 'ft_sensor'"), "the refusal")
    assert force() == (0.0, 0.0, 0.0)


def test_a_profile_that_is_wrong_ends_the_node_with_one_line(start_node, tmp_path):
    blind = MOCK[: MOCK.index("cameras:")] + MOCK[MOCK.index("motion:") :]
    (tmp_path / "mine.yaml").write_text(
        MOCK.replace("mode: joint_trajectory", "mode: joint_velocity"), encoding="utf-8"
    )
    (tmp_path / "blind.yaml").write_text(blind, encoding="utf-8")
    wrong = start_node("robot", profile=str(tmp_path / "mine.yaml"))
    sightless = start_node("robot_camera", profile=str(tmp_path / "blind.yaml"))
    for node, words in ((wrong, "mine.yaml: mode"), (sightless, "blind.yaml: names no cameras")):
        assert node.wait(PATIENCE_S) == 2
        assert words in node.text and "Traceback" not in node.text
