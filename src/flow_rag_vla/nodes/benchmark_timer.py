# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An empty 40 Hz timer: what rclpy itself costs and errs. The baseline of the loop's benchmark.

On its end it prints one line of JSON: figures of its last window.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from flow_rag_vla.control.statistics import LoopStatistics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.runtime import run


class BenchmarkTimer(Node):
    """Notes when its timer fires, and does nothing else."""

    def __init__(self) -> None:
        super().__init__("benchmark_timer")
        window: int = self.declare_parameter("window_ticks", 400).value
        niceness: int = self.declare_parameter("niceness", 0).value
        realtime: int = self.declare_parameter("realtime_priority", 0).value
        RaisedPriority(niceness, realtime)
        self._statistics = LoopStatistics(window)
        self._timer = self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_node(self) -> None:
        """Print the figures and end."""
        figures = self._statistics.figures()
        error = figures.tick_error
        result = {
            "rate_hz": figures.rate_hz,
            "ticks": figures.ticks,
            "skipped": figures.skipped,
            "late": figures.late,
            "p50_ms": error.p50,
            "p99_ms": error.p99,
            "max_ms": error.maximum,
            "count": error.count,
        }
        print(json.dumps(result), flush=True)
        super().destroy_node()

    def _tick(self) -> None:
        self._statistics.record_tick(time.monotonic_ns())


def main(args: Sequence[str] | None = None) -> int:
    """Run the empty timer."""
    return run(BenchmarkTimer, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
