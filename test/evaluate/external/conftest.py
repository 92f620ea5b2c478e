# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A point that is to be moved to a goal: a Gymnasium environment with a Box action and no third-party simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from flow_rag_vla.evaluate.external.environment import BoxEnvironment, success_rule
from flow_rag_vla.evaluate.external.preparation import Preparation, prepare
from flow_rag_vla.evaluate.external.tasks import ExternalTask, task_of
from flow_rag_vla.evaluate.external.training import ExternalTraining

REACH = 0.1
STRIDE = 0.1


class PointMass(gymnasium.Env):
    """The action, 0 to 4 a number with 2 for standing still, moves the point by up to ``STRIDE`` a step."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = spaces.Box(0.0, 4.0, (2,), np.float32)
        place = spaces.Box(-2.0, 2.0, (2,), np.float64)
        self.observation_space = spaces.Dict({"goal": place, "point": place})
        self.point = self.goal = np.zeros(2)
        self.breaks_after: int | None = None
        self.steps = 0

    def _observation(self) -> dict[str, Any]:
        broken = self.breaks_after is not None and self.steps >= self.breaks_after
        return {"goal": self.goal.copy(), "point": self.point * np.nan if broken else self.point.copy()}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.point = self.np_random.uniform(-1.0, 1.0, 2)
        self.goal = self.np_random.uniform(-1.0, 1.0, 2)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.point = np.clip(self.point + STRIDE * (np.asarray(action, dtype=np.float64) - 2.0) / 2.0, -2.0, 2.0)
        distance = float(np.linalg.norm(self.point - self.goal))
        return self._observation(), -distance, False, False, {"success": distance < REACH}

    def render(self) -> Any:
        if self.render_mode != "rgb_array":
            return None
        picture = np.zeros((32, 32, 3), dtype=np.uint8)
        for place, channel in ((self.point, 0), (self.goal, 1)):
            row, column = np.clip(((place + 2.0) * 8.0).astype(int), 0, 31)
            picture[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3, channel] = 255
        return picture


def straight_to_the_goal(state: Any) -> Any:
    return 2.0 + 2.0 * np.clip((state["goal"] - state["point"]) / STRIDE, -1.0, 1.0)


def point_task(step_limit: int = 60, **options: Any) -> ExternalTask:
    return task_of(
        "test/point",
        lambda: PointMass("rgb_array"),
        success="info:success",
        step_limit=step_limit,
        expert=lambda: straight_to_the_goal,
        **options,
    )


@pytest.fixture
def point() -> PointMass:
    return PointMass()


@pytest.fixture
def environment(point: PointMass) -> BoxEnvironment:
    return BoxEnvironment(point, name="test/point", success=success_rule("info:success"), step_limit=60)


SMALL = ExternalTraining(horizon=8, iterations=150, batch=64, width=48, blocks=1)
"""A policy that knows roughly what to do, in about a second."""


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of two demonstrations, which fails often, and what it failed at."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(point_task(), Preparation(2, episodes=8, training=SMALL), folder)
    return folder


@pytest.fixture
def point_module() -> Any:
    """This module, for tests that make environments and tasks of their own."""
    import sys

    return sys.modules[__name__]
