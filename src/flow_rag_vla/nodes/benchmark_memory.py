# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Asks whoever answers embeddings, and times the answers; or is the emptiest node that answers.

With ``echo`` it answers every embedding with an empty correction: what the middleware alone costs. Without, it
publishes embeddings, half of them near a case of the benchmark's database, and prints one line of JSON at its end:
milliseconds from publishing to the correction, and those that the answer says its search took, in the order of asking.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.evaluate.benchmarks.memory_cases import ENCODER, embeddings, queries
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import floats
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces import msg

GIVEN_UP_S = 1.0
"""An answer that has not come by then is lost."""


class BenchmarkMemory(Node):
    """Feeds or echoes, see the module."""

    def __init__(self) -> None:
        super().__init__("benchmark_memory")
        self._echo = bool(self.declare_parameter("echo", False).value)
        count = int(self.declare_parameter("count", 200).value)
        rate = float(self.declare_parameter("rate", 40.0).value)
        self._latencies: list[float] = []
        self._searches: list[float] = []
        self._lost = self._corrections = 0
        if self._echo:
            self._answer = self.create_publisher(msg.Correction, topics.CORRECTION, qos.PLAN)
            self.create_subscription(msg.Embedding, topics.EMBEDDING, self._on_embedding, qos.SENSOR)
            return
        self._queries = queries(embeddings(), count)
        self._sent = 0
        self._waiting: tuple[int, float] | None = None
        self._ask = self.create_publisher(msg.Embedding, topics.EMBEDDING, qos.SENSOR)
        self.create_subscription(msg.Correction, topics.CORRECTION, self._on_correction, qos.PLAN)
        self.create_timer(1.0 / rate, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_node(self) -> None:
        """Print the figures and end."""
        if not self._echo:
            result = {
                "latencies_ms": self._latencies,
                "search_ms": self._searches,
                "lost": self._lost,
                "corrections": self._corrections,
            }
            print(json.dumps(result), flush=True)
        super().destroy_node()

    def _on_embedding(self, message: msg.Embedding) -> None:
        self._answer.publish(msg.Correction(header=message.header))

    def _on_timer(self) -> None:
        now = time.perf_counter()
        if self._waiting is not None:
            if now - self._waiting[1] < GIVEN_UP_S:
                return
            self._lost += 1
            self._waiting = None
        if self._sent == len(self._queries):
            print("done", flush=True)
            self._sent += 1
        if self._sent > len(self._queries) or self._ask.get_subscription_count() == 0:
            return
        message = msg.Embedding(encoder=ENCODER, revision="0", values=floats(np.asarray(self._queries[self._sent])))
        stamp_ns = self.get_clock().now().nanoseconds
        message.header.stamp = to_stamp(stamp_ns)
        self._sent += 1
        self._waiting = stamp_ns, time.perf_counter()
        self._ask.publish(message)

    def _on_correction(self, message: msg.Correction) -> None:
        now = time.perf_counter()
        if self._waiting is not None and to_ns(message.header.stamp) == self._waiting[0]:
            self._latencies.append((now - self._waiting[1]) * 1e3)
            self._searches.append(message.search_ms)
            self._corrections += message.correction != msg.Provenance.CORRECTION_NONE
            self._waiting = None


def main(args: Sequence[str] | None = None) -> int:
    """Run the feed or the echo."""
    return run(BenchmarkMemory, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
