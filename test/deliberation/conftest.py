# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A table on which everything is in its place, and the arm beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tabletop

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.deliberation.limits import RobotLimits, simulated_limits
from flow_rag_vla.deliberation.scene import Scene
from flow_rag_vla.memory.case import FailureCase


@pytest.fixture
def table() -> Scene:
    """Everything that tasks speak of, where the robot reaches it."""
    return tabletop.table()


@pytest.fixture
def robot() -> RobotLimits:
    """The simulated arm's limits."""
    return simulated_limits()


@pytest.fixture
def case() -> Callable[..., FailureCase]:
    """``case(task="push")``: a valid case."""

    def make(**fields: object) -> FailureCase:
        values: dict[str, object] = {
            "failure_type": FailureType.GRASP_FAILURE,
            "task": "push",
            "phase": "reach",
            "encoder": "compact",
            "encoder_revision": "abc",
            "embedding": np.eye(8, dtype=np.float32)[0],
            "failed_actions": np.zeros((4, 7), dtype=np.float32),
            **fields,
        }
        return FailureCase(**values)  # type: ignore[arg-type]

    return make
