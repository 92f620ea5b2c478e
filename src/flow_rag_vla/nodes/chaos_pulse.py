# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An empty 40 Hz timer beside the graph under faults: it tells a stall of the machine from one of the loop.

Each tick that comes half a period late or later is written down with the stretch of steady time that was lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from flow_rag_vla.bringup.parameters.chaos import ChaosPulseParameters
from flow_rag_vla.core.action import TICK_NS, TICK_S
from flow_rag_vla.nodes.diagnostics import OK, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.runtime import run

_RENEW_TICKS = 40
"""The loop renews its priority every second, too."""


class ChaosPulse(Node):
    """Does nothing, on time."""

    def __init__(self) -> None:
        super().__init__("chaos_pulse")
        settings = NodeParameters(self, ChaosPulseParameters).value
        self._priority = RaisedPriority(settings.niceness, settings.realtime_priority)
        # Open for the whole life: line buffered, so that a reader sees each line once it is whole.
        self._output = (
            Path(settings.output).open("a", buffering=1, encoding="utf-8") if settings.output else None  # noqa: SIM115
        )
        self._last_ns = 0
        self._ticks = self._late = 0
        self._timer = self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = Diagnostics(self, "empty timer", self._health)

    def destroy_node(self) -> None:
        """Close the file."""
        if self._output is not None:
            self._output.close()
        super().destroy_node()

    def _tick(self) -> None:
        now, last = time.monotonic_ns(), self._last_ns
        self._last_ns = now
        self._ticks += 1
        if self._ticks % _RENEW_TICKS == 0:
            self._priority.renew()
        if last and now - last > 1.5 * TICK_NS:
            self._late += 1
            if self._output is not None:
                # The tick that did not come was due a period after the last one.
                self._output.write(json.dumps({"start_ns": last + TICK_NS, "end_ns": now}) + "\n")

    def _health(self) -> Health:
        return OK, "ticking", {"ticks": self._ticks, "late": self._late}


def main(args: Sequence[str] | None = None) -> int:
    """Run the empty timer."""
    return run(ChaosPulse, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
