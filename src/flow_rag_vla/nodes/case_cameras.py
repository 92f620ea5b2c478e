# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The cameras' last pictures, for the case of a failure that began a while ago."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.memory.case import CaseError
from flow_rag_vla.memory.history import Series
from flow_rag_vla.memory.images import CaseImage, encoded, thinned
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.stamps import to_ns

SPAN_NS = 20_000_000_000
"""How far back pictures are kept; a failure shows within a few seconds of its onset."""

APART_NS = 180_000_000
"""Pictures closer together than this show the same. Thinned out at once, 20 s of two cameras are 11 MB at most; as they
come from cameras of 640 x 480 pixels they would be 200."""

Pictures = Sequence[tuple[str, NDArray[np.uint8]]]
"""Names of cameras and their thinned pictures, (h, w, 3) uint8 RGB."""


class CaseCameras:
    """Looks at the cameras' topics a few times a second and keeps small pictures; most are never asked for.

    An image that is no colour picture is left out.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept: dict[str, Series[NDArray[np.uint8]]] = {}
        self._subscriptions = {}
        for name, topic in (("front", topics.FRONT_IMAGE), ("wrist", topics.WRIST_IMAGE)):
            self._kept[name] = Series(SPAN_NS)
            self._subscriptions[name] = PolledSubscription(node, Image, topic, qos.NEWEST)
        self._timer = node.create_timer(APART_NS * 1e-9, self._look)

    def near(self, stamp_ns: int, tolerance_ns: int) -> Pictures:
        """The picture of each camera that is nearest to a time, if one is within the tolerance."""
        self._look()
        found = [(name, series.nearest(stamp_ns, tolerance_ns)) for name, series in self._kept.items()]
        return [(name, item[1]) for name, item in found if item is not None]

    def _look(self) -> None:
        for name, subscription in self._subscriptions.items():
            for image, _ in subscription.take():
                try:
                    picture = thinned(name, image_pixels(image))
                except (MessageError, CaseError):
                    continue
                self._kept[name].append(to_ns(image.header.stamp), picture)


def encoded_pictures(pictures: Pictures) -> tuple[CaseImage, ...]:
    """Small encoded pictures of thinned ones. For a slow thread."""
    return tuple(encoded(name, picture) for name, picture in pictures)
