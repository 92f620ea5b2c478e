# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Signals of a hand and a tool, made by hand: what the rules are told without a simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget, RobotState
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport

DOWN = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass
class Signals:
    """Feeds a detector one tick at a time; every attribute holds until it is changed."""

    detector: FailureDetector
    stamp_ns: int = 1_000_000_000
    position: list[float] = field(default_factory=lambda: [0.5, 0.0, 0.2])
    width: float = GRIPPER_MAX_WIDTH
    effort: float = 0.0
    opening: float = 1.0
    force: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lead: tuple[float, float, float] = (0.0, 0.0, 0.0)
    observation_stamp_ns: int = 0
    following: bool = True
    reports: list[FailureReport] = field(default_factory=list)

    def start(self, task: str = "pick_and_place", episode_id: int = 1, timeout: float = 0.0) -> Signals:
        self.detector.start(Episode(episode_id, task, self.stamp_ns, timeout))
        return self

    def state(self) -> RobotState:
        wrench = np.array([*self.force, 0.0, 0.0, 0.0])
        return RobotState(
            self.stamp_ns,
            np.array(self.position),
            DOWN,
            gripper_width=self.width,
            gripper_effort=self.effort,
            wrench=wrench,
        )

    def run(
        self, seconds: float = 0.025, velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> list[FailureReport]:
        """Hold the present signals; the tool drifts with ``velocity`` (m/s). Gives the reports."""
        told: list[FailureReport] = []
        for _ in range(max(1, round(seconds / 0.025))):
            self.stamp_ns += TICK_NS
            self.position = [value + speed * 0.025 for value, speed in zip(self.position, velocity, strict=True)]
            target = CartesianTarget(np.array(self.position) + self.lead, DOWN, self.opening * GRIPPER_MAX_WIDTH)
            self.detector.offer_command(Command(self.stamp_ns, target, self.observation_stamp_ns, self.following))
            told += self.detector.update(self.state())
        self.reports += told
        return told

    def close(self, width: float, effort: float) -> list[FailureReport]:
        """Command the hand to close; the fingers take 0.2 s to the width."""
        self.opening = 0.0
        told: list[FailureReport] = []
        start = self.width
        for step in range(1, 9):
            self.width = start + (width - start) * step / 8
            told += self.run()
        self.effort = effort
        return told + self.run(0.3)

    def open(self) -> list[FailureReport]:
        self.opening, self.effort, self.width = 1.0, 0.0, GRIPPER_MAX_WIDTH
        return self.run(0.2)


@pytest.fixture(scope="session")
def make_signals() -> Callable[..., Signals]:
    def make(detector: FailureDetector | None = None) -> Signals:
        return Signals(detector or FailureDetector())

    return make


@pytest.fixture
def signals(make_signals: Callable[..., Signals]) -> Signals:
    return make_signals().start()
