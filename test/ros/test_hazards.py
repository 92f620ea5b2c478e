# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What must not happen beside a person, by the nodes themselves: a stop that nobody hears, an arm with two masters."""

from __future__ import annotations

from pathlib import Path

import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import pose_message
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.profile import load_profile
from flow_rag_vla_interfaces.msg import ControlCommand, RobotState

ROBOTS = Path(__file__).parents[2] / "config" / "robots"
JOINTS, TOLD, GRIPPER = "mock/joint_states", "mock/joint_trajectory", "mock/gripper"


def test_one_emergency_stop_is_heard_among_many_who_ask_for_none(start_node, ros_node, spin_until):
    commands: list[ControlCommand] = []
    ros_node.create_subscription(ControlCommand, topics.COMMAND, commands.append, qos.command_profile(TICK_S))
    # As a safety relay does that says its state a thousand times a second.
    relay, button = (ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, 100) for _ in range(2))
    start_node("controller", niceness=0)
    spin_until(lambda: commands and min(end.get_subscription_count() for end in (relay, button)), what="the controller")
    ticks = len(commands)
    spin_until(lambda: len(commands) > ticks + 10, what="the controller, knowing both")
    for index in range(60):
        (button if index == 5 else relay).publish(Bool(data=index == 5))
    ticks = commands[-1].tick
    spin_until(lambda: commands[-1].tick > ticks + 4, what="what comes of it")
    assert commands[-1].mode == ControlCommand.MODE_EMERGENCY_STOP


def test_limits_that_are_wrong_together_are_refused_while_it_runs(start_node, call):
    start_node("controller", niceness=0)

    def change(name, value):
        parameter = Parameter(name=name, value=ParameterValue(type=3, double_value=value))
        return call(SetParameters, "controller/set_parameters", parameters=[parameter]).results[0]

    refused = change("max_translation_change", 0.0002)
    assert not refused.successful and "60 ticks to stop" in refused.reason
    assert change("max_translation", 0.002).successful and change("max_translation_change", 0.0002).successful
    assert not change("max_translation", 0.012).successful


class Stand:
    """The joint states of an arm that stands where it is, commands for its bridge, and what comes of them."""

    def __init__(self, node) -> None:
        self.profile = load_profile(ROBOTS / "mock.yaml")
        self.pose = Arm(self.profile).pose(self.profile.limits("home"))
        self.told, self.gripper, self.states = [], [], []
        self.hand, self.mode, self.tick, self.late_s = True, None, 0, 0.0
        self._node = node
        self._joints = node.create_publisher(JointState, JOINTS, qos.SENSOR)
        self._commands = node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
        node.create_subscription(JointTrajectory, TOLD, self.told.append, 10)
        node.create_subscription(Float64MultiArray, GRIPPER, self.gripper.append, 10)
        node.create_subscription(RobotState, topics.ROBOT_STATE, self.states.append, qos.SENSOR)
        node.create_timer(TICK_S, self._send)

    def _send(self) -> None:
        stamp = self._node.get_clock().now().to_msg()
        hand = ([self.profile.gripper.joint], [0.01]) if self.hand else ([], [])
        message = JointState(
            name=[*self.profile.joint_names, *hand[0]], position=[*self.profile.limits("home").tolist(), *hand[1]]
        )
        message.header.stamp = to_stamp(to_ns(stamp) - int(self.late_s * 1e9))
        self._joints.publish(message)
        if self.mode is None:
            return
        self.tick += 1
        command = ControlCommand(tick=self.tick, target=pose_message(*self.pose), gripper_width=0.02, mode=self.mode)
        command.header.stamp = stamp
        self._commands.publish(command)


@pytest.fixture
def stand(ros_node):
    return Stand(ros_node)


@pytest.mark.parametrize("late_s", [60.0, -60.0, 1.7e9])
def test_joint_states_of_another_time_hold_the_arm_and_say_why(start_node, stand, spin_until, late_s):
    stand.mode = ControlCommand.MODE_FOLLOW
    bridge = start_node("robot", profile="mock")
    spin_until(lambda: bridge.said("following") and stand.states, what="the bridge")
    stand.late_s = late_s
    spin_until(lambda: bridge.said("JOINT_STATES_STALE"), what="the hold")
    assert "joint state refused: stamped" in bridge.text
    seen, ticks = len(stand.states), stand.tick
    spin_until(lambda: stand.tick > ticks + 20, what="half a second")
    assert len(stand.states) == seen, "nor does the controller hear of them"


def test_a_hand_of_which_nothing_is_known_is_not_called_open(start_node, stand, spin_until):
    stand.hand = False
    bridge = start_node("robot", profile="mock")
    spin_until(lambda: bridge.said("no robot state leaves yet"), what="the reason")
    assert "panda_finger_joint1" in bridge.text and not stand.states
    stand.hand = True
    spin_until(lambda: stand.states, what="states")
    assert {round(state.gripper_width, 6) for state in stand.states} == {0.02}


def test_a_hand_stays_as_it_is_until_somebody_asks_for_something(start_node, stand, spin_until):
    stand.mode = ControlCommand.MODE_IDLE
    start_node("robot", profile="mock")
    spin_until(lambda: len(stand.told) > 10, what="the arm, told to stay")
    assert not stand.gripper
    stand.mode = ControlCommand.MODE_FOLLOW
    spin_until(lambda: stand.gripper, what="the hand")
    assert list(stand.gripper[-1].data) == [pytest.approx(0.01)]


def test_of_two_bridges_only_the_first_commands_the_arm(start_node, stand, spin_until, ros_node):
    stand.mode = ControlCommand.MODE_FOLLOW
    first = start_node("robot", profile="mock")
    spin_until(lambda: first.said("following"), what="the first bridge")
    second = start_node("robot", profile="mock")
    spin_until(lambda: second.said("somebody else commands the arm"), what="the second bridge, giving way")
    told = len(stand.told)
    spin_until(lambda: len(stand.told) > told + 40, what="commands of the first")
    assert "following" not in second.text and "somebody else" not in first.text
    first.stop()
    spin_until(lambda: second.said("following"), what="the second, once it is alone")


def test_a_planner_that_writes_to_the_arm_is_named_and_left_alone_with_it(start_node, stand, spin_until, ros_node):
    stand.mode = ControlCommand.MODE_FOLLOW
    bridge = start_node("robot", profile="mock")
    planner = ros_node.create_publisher(JointTrajectory, TOLD, 10)
    stops = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
    spin_until(lambda: bridge.said("following") and stand.told, what="the bridge")
    # This test's own subscription, and the bridge's ear.
    spin_until(
        lambda: planner.get_subscription_count() >= 2 and stops.get_subscription_count(), what="the bridge's ear"
    )
    planner.publish(stand.told[-1])
    spin_until(lambda: bridge.said("somebody else commands the arm"), what="the reason")
    assert f"/{ros_node.get_name()} publishes on /{TOLD} too" in bridge.text

    def silent():
        before, ticks = len(stand.told), stand.tick
        spin_until(lambda: stand.tick > ticks + 10, what="commands of the controller")
        return len(stand.told) == before

    spin_until(silent, what="an arm that is left alone")
    stops.publish(Bool(data=True))
    spin_until(lambda: bridge.said("EMERGENCY_STOP"), what="the emergency stop")
    told = len(stand.told)
    stops.publish(Bool(data=False))
    spin_until(lambda: len(stand.told) > told + 10, what="commands after a person released it")
