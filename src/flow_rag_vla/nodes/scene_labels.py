# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the labeling node saw last, as the scene of a deliberation."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.labeling import DETECTIONS
from flow_rag_vla.bringup.live import SIMULATED_FRONT_CAMERA
from flow_rag_vla.bringup.parameters.deliberation import DeliberationParameters
from flow_rag_vla.deliberation.labels import Label, LabelCamera, labelled_scene
from flow_rag_vla.deliberation.scene import Scene, SceneError
from flow_rag_vla.gateway.live.geometry import looking_at
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg


class SceneLabels:
    """Keeps the newest labels and intrinsics; asked for a scene only when a goal brings none."""

    def __init__(self, node: Node, settings: DeliberationParameters) -> None:
        """Listen.

        Raises:
            ValueError: for a camera that looks nowhere.
        """
        pose = settings.front_camera
        if pose:
            if len(pose) != 6:
                raise ValueError(f"front_camera has {len(pose)} numbers, expected 6: where it is and what it looks at")
            looking_at(np.array(pose[:3]), np.array(pose[3:]))
        self._node, self._settings = node, settings
        self._labels = PolledSubscription(node, msg.DetectionArray, DETECTIONS, qos.NEWEST)
        self._infos = PolledSubscription(node, CameraInfo, topics.FRONT_INFO, qos.NEWEST)
        self._newest: msg.DetectionArray | None = None
        self._info: CameraInfo | None = None

    @property
    def awaited(self) -> bool:
        """Whether somebody publishes labels, so that there may be fresh ones in a moment."""
        return self._node.count_publishers(DETECTIONS) > 0

    def scene(self) -> Scene | None:
        """What was seen last; None if nothing was, or it is too old.

        Where a simulator runs, it says what is there now, not what will be when a plan is done.

        Raises:
            SceneError: for labels that make no sense.
        """
        for message, _ in self._labels.take()[-1:]:
            self._newest = message
        for info, _ in self._infos.take()[-1:]:
            self._info = info
        seen = self._newest
        if seen is None:
            return None
        age = (self._node.get_clock().now().nanoseconds - to_ns(seen.header.stamp)) / 1e9
        # A stamp from the future is of another clock: how old it is, is not known.
        if not -0.1 <= age <= self._settings.labels_age:
            return None
        labels = [
            Label(item.class_id, float(item.score), (float(item.center_x), float(item.center_y)))
            for item in seen.detections
        ]
        source = f"labels of {seen.model or 'a detector'}, {max(age, 0.0):.1f} s old"
        passing = self._node.count_services(topics.RESET_SIMULATION) > 0
        return labelled_scene(labels, self._camera(seen), source, self._settings.table, passing=passing)

    def _camera(self, seen: msg.DetectionArray) -> LabelCamera | None:
        pose = self._settings.front_camera
        if not pose and self._node.count_publishers(topics.GROUND_TRUTH):
            pose = SIMULATED_FRONT_CAMERA
        info = self._info
        if not pose or info is None or (info.width, info.height) != (seen.width, seen.height):
            return None
        matrix = np.array(info.k, dtype=float).reshape(3, 3)
        if not np.isfinite(matrix).all() or matrix[0, 0] <= 0.0 or matrix[1, 1] <= 0.0 or matrix[2, 2] == 0.0:
            raise SceneError(f"{topics.FRONT_INFO} holds no intrinsics; calibrate the camera, or give a scene")
        eye = np.array(pose[:3])
        return LabelCamera(matrix, eye, looking_at(eye, np.array(pose[3:])))
