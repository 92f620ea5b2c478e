# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What RViz and Foxglove draw: plans as pose arrays and over the front camera's picture, the workspace as a polygon.

Each only while someone listens.

Standard messages that every installation has; visualization_msgs is none of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Point32, PolygonStamped, Pose, PoseArray
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from flow_rag_vla.bringup import live, topics
from flow_rag_vla.gateway.live.board import Board
from flow_rag_vla.gateway.live.drawing import with_plan
from flow_rag_vla.gateway.live.geometry import box_edges, committed_path, path_ahead, planned_path
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.asking import Asking
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.stamps import to_ns, to_stamp

WORKSPACE_PARAMETERS = ("workspace_low", "workspace_high")


class Overlays:
    """Publishes from a board. ``wanted`` says whether anybody listens to what moves."""

    def __init__(self, node: Node, board: Board) -> None:
        self._board, self._node = board, node
        self._paths = {
            name: node.create_publisher(PoseArray, topic, 2)
            for name, topic in (
                ("planned", live.PLANNED_TOPIC),
                ("committed", live.COMMITTED_TOPIC),
                ("correction", live.CORRECTION_TOPIC),
            )
        }
        self._box = node.create_publisher(PolygonStamped, live.WORKSPACE_TOPIC, 2)
        self._picture = node.create_publisher(Image, live.PLAN_IMAGE_TOPIC, qos.SENSOR)
        self._limits = node.create_client(GetParameters, "controller/get_parameters")
        self._asking = Asking(self._limits, self._told)
        self._edges: NDArray[np.float64] | None = None

    @property
    def wanted(self) -> bool:
        """Whether a path or the picture has a listener."""
        return self.wants_picture or any(_heard(publisher) for publisher in self._paths.values())

    @property
    def wants_picture(self) -> bool:
        """Whether anybody listens to the picture: without, the camera need not be heard."""
        return _heard(self._picture)

    def publish_picture(self, pixels: NDArray[np.uint8], header: Header) -> None:
        """The front camera's picture, (H, W, 3) RGB, with what is planned now drawn over it, to those who listen.

        Stamp and frame are those of the picture.
        """
        if self.wants_picture:
            drawn = with_plan(pixels, self._board.drawn("front"))
            self._picture.publish(image_message(drawn, to_ns(header.stamp), header.frame_id))

    def publish_paths(self) -> None:
        """The newest paths, to those who listen."""
        command, chunk, correction = self._board.chart()
        if command is None or command.target is None:
            return
        target = np.array(command.target)
        paths: dict[str, NDArray[np.float64]] = {}
        if chunk is not None and chunk.chunk_id == command.chunk_id:
            paths["planned"] = planned_path(target, chunk, command.chunk_index)
            paths["committed"] = committed_path(target, chunk, command.chunk_index)
        if correction is not None and correction.actions is not None:
            paths["correction"] = path_ahead(target, correction.actions)
        for name, publisher in self._paths.items():
            if _heard(publisher):
                # An empty array takes the old path off the screen.
                publisher.publish(_poses(paths.get(name), command.stamp_ns))

    def publish_workspace(self) -> None:
        """The box of the controller's parameters, once they are known; called about once a second."""
        if not _heard(self._box):
            return
        if self._edges is None:
            self._asking.turn(GetParameters.Request(names=list(WORKSPACE_PARAMETERS)))
            return
        message = PolygonStamped()
        message.header.frame_id = topics.BASE_FRAME
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.polygon.points = [Point32(x=float(x), y=float(y), z=float(z)) for x, y, z in self._edges]
        self._box.publish(message)

    def _told(self, answer: GetParameters.Response) -> None:
        low, high = (np.array(value.double_array_value) for value in answer.values)
        if low.shape == high.shape == (3,):
            self._edges = box_edges(low, high)


def _heard(publisher: Publisher[Any]) -> bool:
    return bool(publisher.get_subscription_count())


def _poses(path: NDArray[np.float64] | None, stamp_ns: int) -> PoseArray:
    message = PoseArray()
    message.header.frame_id = topics.BASE_FRAME
    message.header.stamp = to_stamp(stamp_ns)
    if path is not None:
        message.poses = [_pose(path, index) for index in range(len(path))]
    return message


def _pose(path: NDArray[np.float64], index: int) -> Pose:
    """A pose on a path whose x axis points along it."""
    pose = Pose()
    position, orientation = pose.position, pose.orientation
    position.x, position.y, position.z = (float(value) for value in path[index])
    ahead = path[min(index + 1, len(path) - 1)] - path[max(min(index, len(path) - 2), 0)]
    length = float(np.linalg.norm(ahead))
    if length > 1e-9:
        x, y, z = ahead / length
        # The shortest turn from the x axis to the direction; backwards there are many, and about z is one.
        quaternion = np.array([0.0, -z, y, 1.0 + x]) if x > -1.0 + 1e-9 else np.array([0.0, 0.0, 1.0, 0.0])
        quaternion /= np.linalg.norm(quaternion)
        orientation.x, orientation.y, orientation.z, orientation.w = (float(value) for value in quaternion)
    return pose
