# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Feeds a controller like a robot and a policy would: states at 40 Hz, chunks at 10 Hz, one running episode.

The robot follows its commands perfectly. On its end it prints one line of JSON: the last figures that the controller
published, and how many commands came. Ticks late and skipped are counted over the last ``window`` seconds.
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import ACTION_DIM, TICK_S, ActionChunk, Provenance
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg

_HORIZON = 16
_CAPTURE_AGE_NS = 60_000_000
"""How old an observation is when its chunk leaves: what encoder and policy take together."""

_TICKS_PER_CHUNK = 4
_JOINTS = [f"joint_{index}" for index in range(1, 8)]


class BenchmarkFeed(Node):
    """A robot without inertia and a policy that draws circles."""

    def __init__(self) -> None:
        super().__init__("benchmark_feed")
        self._position = np.array([0.5, 0.0, 0.3])
        self._orientation = np.array([1.0, 0.0, 0.0, 0.0])
        self._ticks = self._commands = 0
        self._modes: Counter[int] = Counter()
        window: int = self.declare_parameter("window", 10).value
        self._figures: deque[msg.LoopStatistics] = deque(maxlen=window + 1)
        self._state_publisher = self.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._chunk_publisher = self.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self._episode_publisher = self.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.create_subscription(msg.ControlCommand, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        self.create_subscription(msg.LoopStatistics, topics.LOOP_STATISTICS, self._on_figures, qos.STATE)
        status = msg.EpisodeStatus(episode_id=1, state=msg.EpisodeStatus.STATE_RUNNING, task="pick_and_place")
        status.header.stamp = self.get_clock().now().to_msg()
        self._episode_publisher.publish(status)
        self._timer = self.create_timer(TICK_S, self._tick)

    def destroy_node(self) -> None:
        """Print the figures and end."""
        if not self._figures:
            print(json.dumps({"error": "no figures came from the controller"}), flush=True)
        else:
            first, figures = self._figures[0], self._figures[-1]
            result = {
                "rate_hz": figures.rate_hz,
                "ticks": figures.ticks,
                "skipped": figures.skipped_ticks - first.skipped_ticks,
                "late": figures.late_ticks - first.late_ticks,
                "starved": figures.starved_ticks,
                "p50_ms": figures.tick_error_p50_ms,
                "p99_ms": figures.tick_error_p99_ms,
                "max_ms": figures.tick_error_max_ms,
                "cpu_mean_ms": figures.cpu_mean_ms,
                "cpu_max_ms": figures.cpu_max_ms,
                "commands": self._commands,
                "chunks_accepted": figures.chunks_accepted,
                "chunks_rejected": figures.chunks_rejected,
                "modes": dict(self._modes),
                "stages": {item.stage: [item.p50_ms, item.p99_ms, item.max_ms] for item in figures.stages},
            }
            print(json.dumps(result), flush=True)
        super().destroy_node()

    def _tick(self) -> None:
        now_ns = to_ns(self.get_clock().now().to_msg())
        state = RobotState(now_ns, self._position, self._orientation)
        self._state_publisher.publish(conversions.robot_state_message(state, _JOINTS, topics.BASE_FRAME))
        if self._ticks % _TICKS_PER_CHUNK == 0:
            self._chunk_publisher.publish(self._chunk(now_ns - _CAPTURE_AGE_NS))
        self._ticks += 1

    def _chunk(self, stamp_ns: int) -> msg.ActionChunk:
        angles = 2 * math.pi * 0.5 * (stamp_ns * 1e-9 % 2.0 + TICK_S * np.arange(_HORIZON))
        actions = np.zeros((_HORIZON, ACTION_DIM), dtype=np.float32)
        actions[:, 0], actions[:, 1] = 0.004 * np.cos(angles), 0.004 * np.sin(angles)
        provenance = Provenance(stamp_ns, "benchmark", "000000000000", self._ticks)
        chunk = ActionChunk(self._ticks + 1, stamp_ns, actions, "pick_and_place", provenance=provenance)
        return conversions.chunk_message(chunk, topics.BASE_FRAME)

    def _on_command(self, command: msg.ControlCommand) -> None:
        self._commands += 1
        self._modes[command.mode] += 1
        target = command.target
        if target.orientation.x or target.orientation.w:
            self._position = np.array([target.position.x, target.position.y, target.position.z])

    def _on_figures(self, figures: msg.LoopStatistics) -> None:
        self._figures.append(figures)


def main(args: Sequence[str] | None = None) -> int:
    """Run the feed."""
    return run(BenchmarkFeed, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
