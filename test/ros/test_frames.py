# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The arm's description and frames from the live page's node: what RViz and Foxglove get of it."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from flow_rag_vla.bringup import live, topics
from flow_rag_vla.bringup.frames import WORLD
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.frames import MOVING
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.robot.description import Transform, read_description
from flow_rag_vla.sim.bodies import JOINT_NAMES
from flow_rag_vla.sim.kinematics import tool_pose
from flow_rag_vla_interfaces import msg
from tf2_msgs.msg import TFMessage

PATIENCE_S = 60.0


class Viewer:
    """Hears what a viewer hears, and puts the frames together as tf2 does."""

    def __init__(self, node) -> None:
        self._node = node
        self.descriptions: list[str] = []
        self.frames: dict[str, Transform] = {}
        self.stamps: list[int] = []
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(String, live.DESCRIPTION_TOPIC, lambda it: self.descriptions.append(it.data), kept)
        node.create_subscription(TFMessage, live.STILL_FRAMES_TOPIC, self._take, kept)
        self._moving = node.create_subscription(TFMessage, live.FRAMES_TOPIC, self._move, MOVING)

    def look_away(self) -> None:
        """Listen no more to what moves."""
        self._node.destroy_subscription(self._moving)

    def place(self, frame: str) -> Transform:
        """Where a frame stands in the world."""
        found = self.frames[frame]
        while found.parent != WORLD:
            found = self.frames[found.parent] @ found
        return found

    def _take(self, message: TFMessage) -> None:
        for item in message.transforms:
            place, turn = item.transform.translation, item.transform.rotation
            self.frames[item.child_frame_id] = Transform(
                item.header.frame_id,
                item.child_frame_id,
                np.array([place.x, place.y, place.z]),
                np.array([turn.x, turn.y, turn.z, turn.w]),
            )

    def _move(self, message: TFMessage) -> None:
        self._take(message)
        self.stamps.append(to_ns(message.transforms[0].header.stamp))


def test_a_simulated_arm_is_drawn_from_its_states_while_somebody_looks(ros_node, start_node, spin_until):
    node = start_node("dashboard", page=False, niceness=0)
    # Whoever publishes states and is not the bridge to a real arm has the simulated one, as a played bag has.
    joints = np.array([0.3, -0.4, 0.2, -2.0, 0.1, 1.8, 0.7])
    states = ros_node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
    sent: list[int] = []

    def send() -> None:
        stamp_ns = ros_node.get_clock().now().nanoseconds
        position, orientation = tool_pose(joints)
        state = RobotState(stamp_ns, position, orientation, joints, np.zeros(7), 0.05)
        states.publish(conversions.robot_state_message(state, JOINT_NAMES[:7], topics.BASE_FRAME))
        sent.append(stamp_ns)

    ros_node.create_timer(0.025, send)
    spin_until(lambda: node.said("draws panda"), PATIENCE_S, "the arm")
    # Nobody looks: the states are not even subscribed to.
    assert states.get_subscription_count() == 0
    viewer = Viewer(ros_node)
    spin_until(lambda: len(viewer.stamps) > 5 and viewer.descriptions, PATIENCE_S, "description and frames")
    assert read_description(viewer.descriptions[-1], "heard").name == "panda"
    tool, expected = viewer.place("panda_tcp"), tool_pose(joints)
    assert np.allclose(tool.position, expected[0], atol=1e-6)
    assert abs(float(tool.orientation @ expected[1])) == pytest.approx(1.0, abs=1e-9)
    fingers = [viewer.place(f"panda_{side}finger").position for side in ("left", "right")]
    assert np.linalg.norm(fingers[0] - fingers[1]) == pytest.approx(0.05)
    assert {"front_optical_frame", "wrist_optical_frame", topics.BASE_FRAME} <= set(viewer.frames)
    # The states' own stamps, each at most once.
    assert set(viewer.stamps) <= set(sent) and sorted(set(viewer.stamps)) == viewer.stamps
    viewer.look_away()
    spin_until(lambda: states.get_subscription_count() == 0, PATIENCE_S, "nobody to listen to the states")
    # Another node describes the arm, as a driver's robot_state_publisher does: this one leaves it to that one.
    ros_node.create_publisher(String, live.DESCRIPTION_TOPIC, qos.STATE)
    spin_until(lambda: node.said("another node describes the arm"), PATIENCE_S, "that it is left to the other")
    viewer = Viewer(ros_node)
    heard = len(sent)
    spin_until(lambda: len(sent) > heard + 60, PATIENCE_S, "a second and a half")
    assert not viewer.stamps
    assert node.stop() == 0 and "Traceback" not in node.text, node.text


def test_a_real_arm_is_drawn_by_the_profile_of_its_bridge_with_cameras_where_a_person_said(
    ros_node, start_node, spin_until
):
    for name in ("mock_robot", "robot", "robot_camera"):
        start_node(name)
    node = start_node(
        "dashboard", page=False, niceness=0, front_camera=[1.0, 0.0, 1.0, 0.4, 0.0, 0.0], wrist_camera=[0.0] * 6
    )
    viewer = Viewer(ros_node)
    spin_until(
        lambda: viewer.stamps and {"front_optical_frame", "wrist_optical_frame"} <= set(viewer.frames),
        PATIENCE_S,
        "frames of arm and cameras",
    )
    assert viewer.frames["front_optical_frame"].parent == topics.BASE_FRAME
    assert np.allclose(viewer.place("wrist_optical_frame").position, viewer.place("panda_tcp").position)
    assert node.stop() == 0 and "Traceback" not in node.text, node.text
