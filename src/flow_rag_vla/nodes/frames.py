# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The arm as RViz and Foxglove draw it: `robot_description`, `tf` and `tf_static`, the part of robot_state_publisher.

Whose arm it is says the node that publishes `robot_state`. Where another node publishes a description, as the driver of
a real arm may, this one says nothing: a frame with two parents is in neither place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from flow_rag_vla.bringup import live, topics
from flow_rag_vla.bringup.frames import DrawnArm, arm_of, simulated_arm, simulated_cameras, told_cameras
from flow_rag_vla.bringup.parameters.dashboard import DashboardParameters
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.robot_graph import ROBOT
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.asking import Asking
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.robot.description import DescriptionError, Transform
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import find_profile, load_profile
from flow_rag_vla_interfaces import msg
from tf2_msgs.msg import TFMessage

MOVING = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""What tf2's own broadcaster uses."""


OTHERS = "another node describes the arm"


class Frames:
    """Publishes an arm's frames from robot states. Call ``turn`` about twice a second or more."""

    def __init__(self, node: Node, settings: DashboardParameters, complain: Callable[[str], None]) -> None:
        self._node, self._settings, self._complain = node, settings, complain
        self._description = node.create_publisher(String, live.DESCRIPTION_TOPIC, qos.STATE)
        self._still = node.create_publisher(TFMessage, live.STILL_FRAMES_TOPIC, qos.STATE)
        self._moving = node.create_publisher(TFMessage, live.FRAMES_TOPIC, MOVING)
        self._arm: DrawnArm | None = None
        self._simulated = False
        self._given_up = self._left = False
        self._profile_of_robot: Client[Any, Any] = node.create_client(GetParameters, f"{ROBOT.name}/get_parameters")
        self._asking = Asking(self._profile_of_robot, self._told)
        self._states: PolledSubscription[msg.RobotState] | None = None
        self._timer: Timer | None = None
        self._camera_frames: dict[str, str] = {}
        self._infos: dict[str, PolledSubscription[CameraInfo]] = {}
        self.sent = 0
        """States whose frames were published."""

    @property
    def status(self) -> str:
        """In a word or two, what is drawn or why nothing is."""
        if self._left:
            return OTHERS
        return self._arm.description.name if self._arm is not None else "no arm"

    def turn(self, slower: int = 1) -> None:
        """Look who describes the arm and who listens.

        slower: factor by which frames are fewer, while the loop is late
        """
        left = self._told_by_others()
        if left != self._left:
            self._left = left
            self._node.get_logger().info(OTHERS if left else "no other node describes the arm any more")
        if self._given_up or left:
            self._listen(None)
            return
        if self._arm is None:
            self._find()
            return
        self._learn_cameras()
        wanted = self._moving.get_subscription_count() > 0
        self._listen(slower / self._settings.frame_rate if wanted else None)

    def _told_by_others(self) -> bool:
        return self._node.count_publishers(self._description.topic_name) > 1

    def _find(self) -> None:
        """Whose arm it is: as the parameter says, else who publishes the robot's state."""
        if self._settings.profile:
            self._load(self._settings.profile)
            return
        publishers = {info.node_name for info in self._node.get_publishers_info_by_topic(topics.ROBOT_STATE)}
        if ROBOT.name in publishers:
            self._asking.turn(GetParameters.Request(names=["profile"]))
        elif publishers:
            self._show(simulated_arm, simulated=True)

    def _told(self, answer: GetParameters.Response) -> None:
        if self._arm is None:
            self._load(answer.values[0].string_value)

    def _load(self, profile: str) -> None:
        self._show(lambda: arm_of(load_profile(find_profile(profile, robots_folder()))), simulated=False)

    def _show(self, make: Callable[[], DrawnArm], *, simulated: bool) -> None:
        try:
            arm = make()
            self._publish_still(arm, simulated)
        except (DescriptionError, ProfileError, OSError) as error:
            self._given_up = True
            self._complain(f"the arm is not drawn: {error}")
            return
        self._arm, self._simulated = arm, simulated
        self._description.publish(String(data=arm.text))
        self._node.get_logger().info(f"draws {arm.description.name}")

    def _publish_still(self, arm: DrawnArm, simulated: bool) -> None:
        settings = self._settings
        cameras = (
            simulated_cameras()
            if simulated
            else told_cameras(arm, self._camera_frames, settings.front_camera, settings.wrist_camera)
        )
        stamp = self._node.get_clock().now().to_msg()
        self._still.publish(TFMessage(transforms=[_stamped(item, stamp) for item in arm.still(cameras)]))

    def _learn_cameras(self) -> None:
        """What the frames of a real arm's pictures are called, for cameras whose place a person gave."""
        if self._simulated or self._arm is None:
            return
        given = {
            "front": (topics.FRONT_INFO, self._settings.front_camera),
            "wrist": (topics.WRIST_INFO, self._settings.wrist_camera),
        }
        for role, (topic, place) in given.items():
            if not place or role in self._camera_frames:
                continue
            if role not in self._infos:
                self._infos[role] = PolledSubscription(self._node, CameraInfo, topic, qos.NEWEST)
            for message, _ in self._infos[role].take():
                self._camera_frames[role] = message.header.frame_id
            if role in self._camera_frames:
                self._infos.pop(role).destroy()
                try:
                    self._publish_still(self._arm, simulated=False)
                except DescriptionError as error:
                    self._complain(f"the {role} camera has no frame: {error}")

    def _listen(self, period_s: float | None) -> None:
        """Hear robot states and publish frames at a period; None: neither."""
        if period_s is None:
            if self._timer is not None and self._states is not None:
                self._node.destroy_timer(self._timer)
                self._states.destroy()
                self._timer = self._states = None
            return
        if self._timer is None:
            self._states = PolledSubscription(self._node, msg.RobotState, topics.ROBOT_STATE, qos.NEWEST)
            self._timer = self._node.create_timer(period_s, self._move, clock=Clock(clock_type=ClockType.STEADY_TIME))
        elif self._timer.timer_period_ns != int(period_s * 1e9):
            self._timer.timer_period_ns = int(period_s * 1e9)

    def _move(self) -> None:
        taken = self._states.take() if self._states is not None else []
        if not taken or self._arm is None:
            return
        state = taken[-1][0]
        try:
            values = self._arm.values(state.joint_names, state.joint_positions, state.gripper_width)
        except ValueError as error:
            self._complain(f"frames not published: {error}")
            return
        moved = self._arm.description.moved(values)
        self._moving.publish(TFMessage(transforms=[_stamped(item, state.header.stamp) for item in moved]))
        self.sent += 1


def _stamped(transform: Transform, stamp: Any) -> TransformStamped:
    message = TransformStamped(child_frame_id=transform.child)
    message.header.stamp, message.header.frame_id = stamp, transform.parent
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = transform.position.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = transform.orientation.tolist()
    return message
