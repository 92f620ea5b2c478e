# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A loop with its two clocks, for tests."""

from __future__ import annotations

import numpy as np

from flow_rag_vla.control.loop import Command, ControlLoop, Episode, LoopSettings
from flow_rag_vla.core.action import TICK_NS, ActionChunk
from flow_rag_vla.core.state import RobotState

MS = 1_000_000
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


class Rig:
    """Ticks a loop 40 times a second; the robot is wherever it was told to be, unless a test says otherwise."""

    def __init__(self, settings: LoopSettings | None = None) -> None:
        self.loop = ControlLoop(settings)
        self.now = 1_700_000_000_000_000_000
        self.steady = 5_000_000_000
        self.position = np.array([0.5, 0.0, 0.3])
        self.width = 0.08
        self.effort = 0.0
        self.follows = True
        self.chunk_id = 0

    def episode(self, **values) -> None:
        values = {"episode_id": 1, "running": True, "task": "push", "stamp_ns": self.now - 500 * MS} | values
        self.loop.set_episode(Episode(**values), self.now, self.steady)

    def state(self, **values) -> object:
        values = {
            "stamp_ns": self.now,
            "position": self.position.copy(),
            "orientation": DOWN,
            "gripper_width": self.width,
            "gripper_effort": self.effort,
        } | values
        return self.loop.offer_state(RobotState(**values), self.now, self.steady)

    def chunk(self, *action: float, age_ms: float = 0, rows: int = 16, **values) -> object:
        self.chunk_id += 1
        row = np.array(action or (0.004, 0, 0, 0, 0, 0, 0.5), dtype=np.float32)
        values = {"stamp_ns": self.now - int(age_ms * MS), "task": "push"} | values
        offered = ActionChunk(values.pop("chunk_id", self.chunk_id), actions=np.tile(row, (rows, 1)), **values)
        return self.loop.offer_chunk(offered, self.now, self.steady)

    def tick(self, *, state: bool = True) -> Command:
        self.now += TICK_NS
        self.steady += TICK_NS
        if state:
            self.state()
        command = self.loop.tick(self.now, self.steady)
        if command.target is not None and self.follows:
            self.position = command.target.position
        return command

    def run(self, ticks: int, *, state: bool = True) -> list[Command]:
        return [self.tick(state=state) for _ in range(ticks)]
