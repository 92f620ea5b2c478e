# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Who else writes to the topic on which a bridge commands its arm: a second bridge, a planner, a bag that is played."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher

from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.polling import PolledSubscription


class OtherCommands:
    """Publishes a node's own commands and hears those of others on the same topic.

    What counts is that somebody commands, not that somebody could: a bridge that was killed is known for a while after
    it, and must not keep the next one waiting.
    """

    def __init__(self, node: Node, kind: type[Any], topic: str) -> None:
        """Make the publisher, reliable and of depth 1, and the subscription beside it."""
        self._node = node
        name = node.resolve_topic_name(topic)
        before = self._publishers(name)
        self.publisher: Publisher[Any] = node.create_publisher(kind, topic, 1)
        # An endpoint of this process is in its graph at once.
        own = node.get_fully_qualified_name()
        self._own = {gid for gid, who in self._publishers(name).items() if gid not in before and who == own}
        self._heard: PolledSubscription[Any] = PolledSubscription(node, kind, topic, qos.SENSOR)
        self._told = False

    def who(self) -> str:
        """Name of whoever else has commanded since the last call; empty if nobody has."""
        senders = self._heard.take_senders()
        if not senders or not self._knows(senders):
            return ""
        strangers = [gid for gid in senders if gid not in self._own]
        if not strangers:
            return ""
        topic = self.publisher.topic_name
        return f"{self._publishers(topic).get(strangers[-1], 'an unknown node')} publishes on {topic} too"

    def _knows(self, senders: list[bytes]) -> bool:
        # Not every distribution's rclpy tells who sent a message.
        if self._own and all(senders):
            return True
        if not self._told:
            self._told = True
            self._node.get_logger().warning(
                f"who sends on {self.publisher.topic_name} is not told here: others who command the arm go unnoticed"
            )
        return False

    def _publishers(self, topic: str) -> dict[bytes, str]:
        infos = self._node.get_publishers_info_by_topic(topic)
        return {bytes(info.endpoint_gid): f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos}
