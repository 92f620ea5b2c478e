# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The record of what one tick of the control loop took in, from which a recording makes the same command again."""

from __future__ import annotations

import array

from builtin_interfaces.msg import Time
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes import qos
from flow_rag_vla_interfaces import msg

BY_SERVICE = 2
"""Key of an emergency stop, or of its reset, that a service call asked for."""

_BY_SERVICES = (msg.TickInputs.KIND_EMERGENCY_STOP, msg.TickInputs.KIND_EMERGENCY_STOP_RESET)
_LARGEST_DETAIL = 2**32 - 1


class TickInputsRecord:
    """Notes what comes in, and publishes it once a tick while somebody listens."""

    def __init__(self, node: Node, events: PublisherEventCallbacks) -> None:
        self._publisher = node.create_publisher(msg.TickInputs, topics.TICK_INPUTS, qos.EVENT, event_callbacks=events)
        self._noted: list[tuple[int, int, int]] = []

    def note(self, kind: int, key: int, detail: int = 0) -> None:
        """Note one input: kind, key and detail as in TickInputs.

        The detail of a service call is its moment on the steady clock; it is published as its age at the tick.
        """
        self._noted.append((kind, key, detail))

    def publish(self, tick: int, stamp: Time, steady_ns: int, scheduled_ns: int) -> None:
        """Publish what was noted since the last tick, and begin anew.

        Args:
            tick: number of the tick's command.
            stamp: of that command.
            steady_ns: the loop's steady clock at the tick.
            scheduled_ns: the moment on the node's clock that the tick stood for.
        """
        noted, self._noted = self._noted, []
        if not self._publisher.get_subscription_count():
            return
        message = msg.TickInputs(tick=tick, steady=steady_ns, scheduled=scheduled_ns)
        message.header.stamp = stamp
        message.kinds = array.array("B", [kind for kind, _, _ in noted])
        message.keys = array.array("Q", [max(key, 0) for _, key, _ in noted])
        message.details = array.array("I", [_published_detail(*item, steady_ns) for item in noted])
        self._publisher.publish(message)


def _published_detail(kind: int, key: int, detail: int, steady_ns: int) -> int:
    by_service = key == BY_SERVICE and kind in _BY_SERVICES
    return min(max(steady_ns - detail if by_service else detail, 0), _LARGEST_DETAIL)
