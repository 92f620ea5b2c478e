# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A real arm in the simulator's place: its topics to ours, our commands to its own, a hold when anything is wrong.

Its cameras are another node's, ``robot_camera``: what it sends to the arm must not wait for memory that is shared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import WrenchStamped
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.robot import RobotParameters
from flow_rag_vla.bringup.robot_graph import HOLD_TOPIC
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.answers import PatientAnswers
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import robot_state_message
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.other_commands import OtherCommands
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.robot_messages import (
    ARM_TYPES,
    GRIPPER_TYPES,
    arm_message,
    positions_message,
    trajectory_message,
)
from flow_rag_vla.nodes.robot_profile import profile_of
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.command_gate import Admission, CommandGate
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.follower import Follower, Hold
from flow_rag_vla_interfaces.msg import ControlCommand
from flow_rag_vla_interfaces.msg import RobotState as RobotStateMessage

_ENDING_S = 1.0
"""Longest time in which an arm is brought to rest before the bridge ends."""
_REST_TOLD = 3
"""How often an arm at rest is then told to stay."""
_WRENCH_SILENCE_S = 0.5
"""Silence after which no force is reported any more: otherwise the last one would stand for ever."""
_GRIPPER_SILENCE_S = 2.0
"""Silence of the gripper's joint after which its width, which stays as it was, is called old."""
_LISTENING_S = 0.5
"""From the first joint state that is believed, for so long the bridge only listens whether others command the arm."""
_ASKED = (ControlCommand.MODE_FOLLOW, ControlCommand.MODE_TAKEOVER)
"""Modes in which a policy or a person asks for the gripper's width. In the others the command has what the controller
knew last, and one that was just started has it from a measurement: a hand that squeezes something, told to stand where
it is measured, would let go."""


class Robot(Node):
    """Owns the arm's command topic; nothing else in the graph writes to it."""

    def __init__(self) -> None:
        super().__init__("robot")
        self._complain = Complaints(self.get_logger())
        self._params = NodeParameters(self, RobotParameters)
        self._profile = profile = profile_of(self._params.value.profile)
        try:
            self._arm = Arm(profile)
        except ProfileError as error:
            raise StartError(str(error)) from None
        self._follower = Follower(profile, self._arm)
        self._gate = CommandGate(profile.command_timeout)
        self._hold: Hold | None = None
        self._said = self._listened = False
        self._holds = 0
        self._sent = 0
        self._published_ns = 0
        self._before: tuple[int, NDArray[np.float64]] | None = None
        self._gripper_width: float | None = profile.gripper.width_open if profile.gripper.kind == "none" else None
        self._gripper_ns = self._sensed_ns = 0
        self._gripper_effort = 0.0
        self._wrench, self._wrench_frame, self._wrench_ns = np.zeros(6), "", 0

        self._state_publisher = self.create_publisher(RobotStateMessage, topics.ROBOT_STATE, qos.SENSOR)
        self._hold_publisher = self.create_publisher(String, HOLD_TOPIC, qos.STATE)
        self._commands = OtherCommands(self, ARM_TYPES[profile.mode], profile.command_topic)
        self._arm_publisher = self._commands.publisher
        self._gripper_publisher = (
            None
            if profile.gripper.kind == "none"
            else self.create_publisher(GRIPPER_TYPES[profile.gripper.kind], profile.gripper.command_topic, 1)
        )
        # Reliable or best effort, drivers publish both; a best effort subscription takes either.
        self.create_subscription(JointState, profile.joint_states, self._on_joints, qos.SENSOR)
        if profile.wrench:
            self.create_subscription(WrenchStamped, profile.wrench, self._on_wrench, qos.NEWEST)
        self.create_subscription(ControlCommand, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        # As the controller does: one subscription for publishers that latch, one for those that do not, which the first
        # would not hear. Read before each command, so that those who say often that they ask for no stop cost little.
        self._stops = [
            PolledSubscription(self, Bool, topics.EMERGENCY_STOP, profile) for profile in (qos.STATE, qos.EVENT)
        ]
        # Steady: a clock that jumps must not stop or double the commands of an arm.
        self.create_timer(1.0 / profile.command_rate, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._answers = PatientAnswers(self, self._complain)
        self._diagnostics = Diagnostics(self, profile.name, self._health)
        self.get_logger().info(
            f"{profile.name}: {profile.mode} to {self._arm_publisher.topic_name} at {profile.command_rate:g} Hz, "
            f"waiting for joint states"
        )
        # After everything that starts threads, which are raised too: the bridge holds the arm when the controller is
        # gone, so it must itself run in time.
        self._priority = RaisedPriority(self._params.value.niceness, self._params.value.realtime_priority)
        self.get_logger().info(self._priority.outcome)
        self.create_timer(1.0, self._renew_priority, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_node(self) -> None:
        """Bring the arm to rest inside its limits, then destroy the node: a last twist would go on after it."""
        period_s = 1.0 / self._profile.command_rate
        self._follower.end()
        deadline, told = time.monotonic() + _ENDING_S, 0
        # More than once, as the last may be lost with its publisher.
        while told < _REST_TOLD and time.monotonic() < deadline:
            self._tick()
            told += self._follower.at_rest
            time.sleep(period_s)
        super().destroy_node()

    def _renew_priority(self) -> None:
        if taken_back := self._priority.renew():
            self.get_logger().error(taken_back)

    def _on_joints(self, message: JointState) -> None:
        now, stamp_ns = time.monotonic_ns(), to_ns(message.header.stamp)
        profile, names = self._profile, list(message.name)
        gripper = profile.gripper
        if gripper.kind != "none" and gripper.joint in names:
            self._take_gripper(message, names.index(gripper.joint))
            if not set(names) & set(profile.joint_names):
                # A gripper's driver may publish on the same topic, without the arm.
                return
        age = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9
        if abs(age) > profile.state_timeout:
            # Not handed on: the follower's own limit then finds that joint states stopped.
            self._complain(
                f"joint state refused: stamped {age:.3f} s ago, limit {profile.state_timeout:g} s; set the clocks of "
                "robot and computer alike (chrony), or look why the driver is late"
            )
            return
        joints = self._follower.sense(names, message.position, now)
        if joints is not None and not self._sensed_ns:
            self._sensed_ns = now
        if joints is None or now - self._published_ns < 0.75e9 / profile.state_rate:
            return
        if self._gripper_width is None:
            # An open hand, as long as nobody knows better, would be one that holds nothing: it would be told to open.
            self._complain(f"no robot state leaves yet: {self._no_gripper}")
            return
        self._published_ns = now
        velocities = self._velocities(message, names, stamp_ns, joints)
        position, orientation = self._arm.pose(joints)
        state = RobotState(
            stamp_ns,
            position,
            orientation,
            joints,
            velocities,
            self._gripper_width,
            self._gripper_effort,
            self._felt(joints, now),
        )
        self._state_publisher.publish(robot_state_message(state, profile.joint_names, profile.base_frame))

    def _take_gripper(self, message: JointState, index: int) -> None:
        if index < len(message.position) and np.isfinite(message.position[index]):
            self._gripper_width = self._profile.gripper.width(float(message.position[index]))
            self._gripper_ns = time.monotonic_ns()
        if index < len(message.effort) and np.isfinite(message.effort[index]):
            self._gripper_effort = abs(float(message.effort[index]))

    @property
    def _no_gripper(self) -> str:
        profile = self._profile
        return (
            f"no position of the gripper's joint {profile.gripper.joint!r} on {profile.joint_states}; start its "
            "driver, or correct gripper.joint in the profile"
        )

    def _velocities(
        self, message: JointState, names: list[str], stamp_ns: int, joints: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """As the driver says, else by difference."""
        before, self._before = self._before, (stamp_ns, joints)
        if len(message.velocity) == len(names):
            said = np.array([message.velocity[names.index(name)] for name in self._profile.joint_names])
            if np.isfinite(said).all():
                return said
        if before is None or stamp_ns <= before[0]:
            return np.zeros_like(joints)
        return np.asarray((joints - before[1]) / ((stamp_ns - before[0]) / 1e9))

    def _on_wrench(self, message: WrenchStamped) -> None:
        force, torque = message.wrench.force, message.wrench.torque
        values = np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])
        frame = message.header.frame_id.removeprefix("/")
        if not np.isfinite(values).all():
            self._complain(f"wrench refused: {values.tolist()} is not all finite")
        elif frame and not self._arm.has_frame(frame):
            self._complain(
                f"wrench refused: it is of frame {frame!r}, which the URDF has not; add it there with a fixed joint "
                "that says where the sensor is"
            )
        else:
            self._wrench, self._wrench_frame, self._wrench_ns = values, frame, time.monotonic_ns()

    def _felt(self, joints: NDArray[np.float64], now_ns: int) -> NDArray[np.float64]:
        """(6,) force and torque at the tool, base frame; zeros where nothing is felt."""
        if not self._feels(now_ns):
            return np.zeros(6)
        if self._wrench_frame in ("", self._profile.base_frame):
            return self._wrench
        return self._arm.wrench_at_tool(self._wrench, self._wrench_frame, joints)

    def _feels(self, now_ns: int) -> bool:
        if self._wrench_ns and now_ns - self._wrench_ns <= _WRENCH_SILENCE_S * 1e9:
            return True
        if self._wrench_ns:
            self._wrench_ns = 0
            self._complain(f"no wrench on {self._profile.wrench} for {_WRENCH_SILENCE_S:g} s: no contact is felt")
        return False

    def _on_command(self, command: ControlCommand) -> None:
        steady_ns = time.monotonic_ns()
        admission, problem = self._gate.admit(
            int(command.tick),
            to_ns(command.header.stamp),
            command.mode == ControlCommand.MODE_EMERGENCY_STOP,
            self.get_clock().now().nanoseconds,
            steady_ns,
        )
        if problem:
            self._complain(problem)
        elif admission is Admission.STOPS:
            self._follower.stop()
        elif admission is Admission.FOLLOWED:
            pose = command.target
            position, turn = pose.position, pose.orientation
            target = CartesianTarget(
                np.array([position.x, position.y, position.z]),
                np.array([turn.x, turn.y, turn.z, turn.w]),
                float(command.gripper_width),
            )
            self._follower.command(target, steady_ns, command.mode in _ASKED)

    def _take_stops(self) -> None:
        """Hear whether somebody asks for the emergency stop, without waiting for the controller to say so."""
        for stops in self._stops:
            for message, sender in stops.take_with_sender():
                self._gate.stop(bool(message.data), sender)
                if message.data:
                    self._follower.stop()

    def _tick(self) -> None:
        now = time.monotonic_ns()
        self._take_stops()
        if who := self._commands.who():
            self._follower.contested(who, now)
        if not self._sent and self._sensed_ns and now - self._sensed_ns < _LISTENING_S * 1e9:
            if not self._listened:
                self._say(Hold.NO_COMMAND, f"NO_COMMAND: for {_LISTENING_S:g} s it is heard whether others command it")
                # What holds the arm after that is said then.
                self._listened, self._said = True, False
            return
        try:
            output = self._follower.tick(now)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            # Nothing is sent; the arm's own watchdog is the next line.
            self._complain(f"no command sent: {error}")
            return
        if output.hold is not self._hold or not self._said:
            self._say(output.hold, output.text)
        if output.joints is None and output.position is None and output.twist is None:
            return
        stamp = self.get_clock().now().to_msg()
        self._arm_publisher.publish(
            arm_message(self._profile, stamp, output.joints, output.position, output.orientation, output.twist)
        )
        self._sent += 1
        if self._gripper_publisher is not None and output.gripper_width is not None:
            gripper = self._profile.gripper
            value = np.array([gripper.joint_value(output.gripper_width)])
            self._gripper_publisher.publish(
                positions_message(value)
                if gripper.kind == "position"
                else trajectory_message([gripper.joint], value, 1.0 / self._profile.command_rate)
            )

    def _say(self, hold: Hold | None, text: str) -> None:
        self._hold, self._said = hold, True
        self._hold_publisher.publish(String(data=text))
        if hold is None:
            self.get_logger().info("following")
        elif not self._sent:
            # Whoever has the arm keeps it until then: that is no fault.
            self.get_logger().info(f"nothing is sent yet: {text}")
        else:
            self._holds += 1
            self._complain(f"holding: {text}")

    def _health(self) -> Health:
        figures = {
            "profile": self._profile.file,
            "mode": self._profile.mode,
            "sent": self._sent,
            "holds": self._holds,
            "hold": self._hold.name if self._hold else "",
            "refusals": self._complain.count,
            "last_refusal": self._complain.last,
        }
        if self._follower.measured is None:
            return WARN, f"no joint state on {self._profile.joint_states}", figures
        if self._gripper_width is None:
            return WARN, self._no_gripper, figures
        if self._hold is not None:
            return WARN, f"holding: {self._hold.value}", figures
        silence = (time.monotonic_ns() - self._gripper_ns) / 1e9
        if self._profile.gripper.kind != "none" and silence > _GRIPPER_SILENCE_S:
            return WARN, f"the gripper's joint has been silent for {silence:.0f} s: its width is old", figures
        if self._profile.wrench and not self._feels(time.monotonic_ns()):
            return WARN, f"no wrench on {self._profile.wrench}: no contact is felt", figures
        return OK, "following" if self._sent else "ready", figures


def main(args: Sequence[str] | None = None) -> int:
    """Run the robot bridge."""
    return run(Robot, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
