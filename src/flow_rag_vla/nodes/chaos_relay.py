# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Stands in five links of the graph and delays, loses, doubles or swaps their messages when told to.

Producers publish on ``relayed/<topic>``; what is passed on goes out on ``<topic>``, bytes as they came.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.chaos import ChaosRelayParameters
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.diagnostics import OK, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla_interfaces import msg

RELAYED = "relayed/"
_LINKS = (
    (topics.ACTION_CHUNK, msg.ActionChunk, qos.PLAN),
    (topics.CORRECTION, msg.Correction, qos.PLAN),
    (topics.EMBEDDING, msg.Embedding, qos.SENSOR),
    (topics.ROBOT_STATE, msg.RobotState, qos.SENSOR),
    (topics.FRONT_IMAGE, Image, qos.SENSOR),
)
_TURN_S = 0.002


class ChaosRelay(Node):
    """Passes messages on, as they are, unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__("chaos_relay")
        self._settings = NodeParameters(self, ChaosRelayParameters)
        self._random = np.random.default_rng(self._settings.value.seed)
        self._waiting: list[tuple[int, int, str, bytes]] = []
        self._behind: dict[str, bytes] = {}
        self._count = self._touched = 0
        self._publishers_of = {}
        for topic, kind, profile in _LINKS:
            self._publishers_of[topic] = self.create_publisher(kind, topic, profile)
            self.create_subscription(kind, RELAYED + topic, self._taker(topic), profile, raw=True)
        self._timer = self.create_timer(_TURN_S, self._pass_on_late, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()
        self._diagnostics = Diagnostics(self, "relay", self._health)

    def _taker(self, topic: str) -> Callable[[bytes], None]:
        def take(message: bytes) -> None:
            self._take(topic, message)

        return take

    def _take(self, topic: str, message: bytes) -> None:
        settings, publish = self._settings.value, self._publishers_of[topic].publish
        behind = self._behind.pop(topic, None)
        if settings.topic != topic:
            publish(message)
        else:
            self._touched += 1
            drawn = self._random.random()
            if settings.delay > 0.0:
                self._count += 1
                due = time.monotonic_ns() + int(settings.delay * 1e9)
                heapq.heappush(self._waiting, (due, self._count, topic, message))
                self._timer.reset()
            elif drawn < settings.drop:
                pass
            elif drawn < settings.reorder and behind is None:
                self._behind[topic] = message
                return
            else:
                publish(message)
                if drawn < settings.duplicate:
                    publish(message)
        if behind is not None:
            publish(behind)

    def _pass_on_late(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic_ns():
            _, _, topic, message = heapq.heappop(self._waiting)
            self._publishers_of[topic].publish(message)
        if not self._waiting:
            self._timer.cancel()

    def _health(self) -> Health:
        return OK, "passing on", {"disturbed": self._touched, "waiting": len(self._waiting)}


def main(args: Sequence[str] | None = None) -> int:
    """Run the relay."""
    return run(ChaosRelay, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
