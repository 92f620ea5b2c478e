"""The cameras' last pictures, for the case of a failure that began a while ago."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.memory.case import CaseError
from flow_rag_vla.memory.history import Series
from flow_rag_vla.memory.images import CaseImage, encoded
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.wire import stamp_from_wire

SPAN_NS = 20_000_000_000
"""How far back pictures are kept; a failure shows within a few seconds of its onset."""

APART_NS = 180_000_000
"""Pictures closer together than this show the same; kept as they came, 20 s of two cameras are 10 MB."""

Pictures = Sequence[tuple[str, bytes]]
"""Names of cameras and serialized images."""


class CaseCameras:
    """Looks at the cameras' topics a few times a second and keeps what came as bytes: most is never read."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept: dict[str, Series[bytes]] = {}
        self._subscriptions = {}
        for name, topic in (("front", topics.FRONT_IMAGE), ("wrist", topics.WRIST_IMAGE)):
            self._kept[name] = Series(SPAN_NS)
            self._subscriptions[name] = PolledSubscription(node, Image, topic, qos.NEWEST)
        self._timer = node.create_timer(APART_NS * 1e-9, self._look)

    def near(self, stamp_ns: int, tolerance_ns: int) -> list[tuple[str, bytes]]:
        """The picture of each camera that is nearest to a time, if one is within the tolerance."""
        self._look()
        found = [(name, series.nearest(stamp_ns, tolerance_ns)) for name, series in self._kept.items()]
        return [(name, item[1]) for name, item in found if item is not None]

    def _look(self) -> None:
        for name, subscription in self._subscriptions.items():
            for data, _ in subscription.take_serialized():
                self._kept[name].append(stamp_from_wire(data), data)


def encoded_pictures(pictures: Pictures) -> tuple[CaseImage, ...]:
    """Small encoded pictures of serialized images; one that is no colour image is left out. For a slow thread."""
    found = []
    for name, data in pictures:
        try:
            found.append(encoded(name, image_pixels(deserialize_message(data, Image))))
        except (MessageError, CaseError):
            continue
    return tuple(found)
