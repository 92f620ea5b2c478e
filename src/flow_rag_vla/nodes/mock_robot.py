# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An arm that is not there, on the topics of a robot profile: to try a bridge, a profile or a whole graph on."""

from __future__ import annotations

import array
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, UInt64
from trajectory_msgs.msg import JointTrajectory

from flow_rag_vla.bringup.parameters.robot import MockRobotParameters
from flow_rag_vla.bringup.robot_graph import VIOLATIONS_TOPIC, WATCHDOG_STOPS_TOPIC
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.robot_messages import ARM_TYPES, GRIPPER_TYPES
from flow_rag_vla.nodes.robot_profile import profile_of
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.mock_arm import MockArm
from flow_rag_vla.robot.pictures import encoded

_SIZE = 224


class MockRobot(Node):
    """Publishes joint states and pictures of a kinematic arm, follows commands, counts those that break limits."""

    def __init__(self) -> None:
        super().__init__("mock_robot")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, MockRobotParameters)
        settings = self._settings.value
        self._profile = profile = profile_of(settings.profile)
        self._robot = MockArm(profile, settings.time_constant)
        try:
            # Only a tool command needs kinematics; a picture shows the tool as well.
            self._arm = Arm(profile)
        except ProfileError as error:
            raise StartError(str(error)) from None
        self._gripper = profile.gripper.opened
        self._gripper_target = self._gripper
        self._advanced_ns = time.monotonic_ns()
        self._stops_told = -1

        self._joint_publisher = self.create_publisher(JointState, profile.joint_states, qos.SENSOR)
        self._violations = self.create_publisher(UInt64, VIOLATIONS_TOPIC, qos.STATE)
        self._stops = self.create_publisher(UInt64, WATCHDOG_STOPS_TOPIC, qos.STATE)
        self._wrench = self.create_publisher(WrenchStamped, profile.wrench, qos.SENSOR) if profile.wrench else None
        self._cameras: list[tuple[str, bool, Any, Any]] = [
            (
                camera.role,
                camera.compressed,
                self.create_publisher(CompressedImage if camera.compressed else Image, camera.image, qos.SENSOR),
                self.create_publisher(CameraInfo, camera.info, qos.SENSOR) if camera.info else None,
            )
            for camera in profile.cameras
        ]
        handler: Any = {
            "joint_trajectory": self._on_trajectory,
            "joint_position": self._on_positions,
            "cartesian_pose": self._on_pose,
            "cartesian_twist": self._on_twist,
        }[profile.mode]
        self.create_subscription(ARM_TYPES[profile.mode], profile.command_topic, handler, 10)
        if profile.gripper.kind != "none":
            kind = GRIPPER_TYPES[profile.gripper.kind]
            self.create_subscription(kind, profile.gripper.command_topic, self._on_gripper, 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / settings.rate, self._advance, clock=steady)
        self.create_timer(1.0 / settings.image_rate, self._show, clock=steady)
        self._diagnostics = Diagnostics(self, f"mock of {profile.name}", self._health)
        self._tell()
        self.get_logger().info(f"mock of {profile.name}: {profile.mode} on {profile.command_topic}")

    def _on_trajectory(self, message: JointTrajectory) -> None:
        names = self._profile.joint_names
        if sorted(message.joint_names) != sorted(names) or not message.points:
            self._complain(f"trajectory for {list(message.joint_names)} refused, expected {list(names)}")
            return
        # The last point is where the arm is to be; a mock does not interpolate.
        places = message.points[-1].positions
        if len(places) != len(names):
            self._complain(f"trajectory point with {len(places)} positions refused, expected {len(names)}")
            return
        self._follow(np.array([places[list(message.joint_names).index(name)] for name in names]))

    def _on_positions(self, message: Float64MultiArray) -> None:
        self._follow(np.array(message.data, dtype=np.float64))

    def _on_pose(self, message: PoseStamped) -> None:
        place, turn = message.pose.position, message.pose.orientation
        position, orientation = np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w])
        self._follow(self._arm.solve(position, orientation, self._robot.positions).joints)

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        jacobian = self._arm.jacobian(self._robot.positions)
        # Damped as in a drive's own controller; the speed counts, so a lag of the joints is made up for beforehand.
        normal = jacobian @ jacobian.T + 1e-4 * np.eye(6)
        joints = (
            self._robot.positions + jacobian.T @ np.linalg.solve(normal, twist) * self._settings.value.time_constant
        )
        self._follow(joints)

    def _follow(self, joints: NDArray[np.float64]) -> None:
        if not self._robot.command(joints, time.monotonic()):
            self._complain(f"command {joints.round(4).tolist()} breaks a limit; not followed")
            self._tell()

    def _on_gripper(self, message: Any) -> None:
        if isinstance(message, Float64MultiArray):
            values = message.data
        else:
            values = message.points[-1].positions if message.points else ()
        if len(values) != 1:
            self._complain(f"gripper command with {len(values)} positions refused, expected 1")
            return
        value = values[0]
        gripper = self._profile.gripper
        low, high = sorted((gripper.closed, gripper.opened))
        if np.isfinite(value) and low - 1e-6 <= value <= high + 1e-6:
            self._gripper_target = float(value)
        else:
            self._robot.violations += 1
            self._complain(f"gripper command {value} refused, limits {low:g} to {high:g}")
            self._tell()

    def _advance(self) -> None:
        now = time.monotonic_ns()
        elapsed, self._advanced_ns = (now - self._advanced_ns) / 1e9, now
        self._robot.advance(now / 1e9, max(elapsed, 1e-6))
        if self._robot.watchdog_stops != self._stops_told:
            self._tell()
        gripper = self._profile.gripper
        reach = abs(gripper.opened - gripper.closed) * elapsed / 0.5
        self._gripper += min(max(self._gripper_target - self._gripper, -reach), reach)

        message = JointState(name=list(self._profile.joint_names))
        message.header.stamp = self.get_clock().now().to_msg()
        positions, velocities = self._robot.positions.tolist(), self._robot.velocities.tolist()
        if gripper.kind != "none":
            message.name = [*message.name, gripper.joint]
            positions, velocities = [*positions, self._gripper], [*velocities, 0.0]
        message.position, message.velocity = array.array("d", positions), array.array("d", velocities)
        message.effort = array.array("d", [0.0] * len(positions))
        self._joint_publisher.publish(message)
        if self._wrench is not None:
            wrench = WrenchStamped()
            wrench.header.stamp, wrench.header.frame_id = message.header.stamp, self._profile.base_frame
            self._wrench.publish(wrench)

    def _show(self) -> None:
        stamp = self.get_clock().now().to_msg()
        for role, compressed, images, infos in self._cameras:
            frame = f"{role}_optical_frame"
            pixels = self._picture(role)
            if compressed:
                image = CompressedImage(format="jpeg", data=array.array("B", encoded(pixels)))
                image.header.stamp, image.header.frame_id = stamp, frame
            else:
                image = image_message(pixels, to_ns(stamp), frame)
            images.publish(image)
            if infos is not None:
                focal, middle = float(_SIZE), _SIZE / 2
                info = CameraInfo(width=_SIZE, height=_SIZE, distortion_model="plumb_bob", d=[0.0] * 5)
                info.k = [focal, 0.0, middle, 0.0, focal, middle, 0.0, 0.0, 1.0]
                info.header.stamp, info.header.frame_id = stamp, frame
                infos.publish(info)

    def _picture(self, role: str) -> NDArray[np.uint8]:
        """(224, 224, 3) uint8: a chequered table and the tool as a disc, seen from above, or from the wrist."""
        position, _ = self._arm.pose(self._robot.positions)
        shift = (position[:2] * 200).astype(int) if role == "wrist" else np.zeros(2, dtype=int)
        rows, columns = np.mgrid[0:_SIZE, 0:_SIZE]
        squares = ((rows + shift[0]) // 28 + (columns + shift[1]) // 28) % 2
        pixels = np.ascontiguousarray(np.where(squares[..., None] > 0, 150, 90).repeat(3, axis=2).astype(np.uint8))
        if role == "front":
            centre = int(_SIZE / 2 - 200 * position[1]), int(_SIZE - 200 * position[0])
            cv2.circle(pixels, centre, 6 + int(20 * max(position[2], 0.0)), (220, 60, 40), -1)
        return pixels

    def _tell(self) -> None:
        self._violations.publish(UInt64(data=self._robot.violations))
        self._stops.publish(UInt64(data=self._robot.watchdog_stops))
        self._stops_told = self._robot.watchdog_stops

    def _health(self) -> Health:
        figures = {
            "commands": self._robot.commands,
            "violations": self._robot.violations,
            "watchdog_stops": self._robot.watchdog_stops,
        }
        if self._robot.violations:
            return WARN, "commands broke its limits", figures
        return OK, "an arm that is not there", figures


def main(args: Sequence[str] | None = None) -> int:
    """Run the mock robot."""
    return run(MockRobot, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
