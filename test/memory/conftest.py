# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Cases and memories for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings

DIMENSION = 16
HORIZON = 4


class Maker:
    """Makes vectors, chunks and cases."""

    @staticmethod
    def unit(seed: int, dimension: int = DIMENSION) -> np.ndarray:
        """A random unit vector."""
        values = np.random.default_rng(seed).normal(size=dimension)
        return (values / np.linalg.norm(values)).astype(np.float32)

    @staticmethod
    def turned(vector: np.ndarray, similarity: float, seed: int = 0) -> np.ndarray:
        """A unit vector of a given cosine similarity to another one."""
        other = np.random.default_rng([seed, 1]).normal(size=vector.size)
        other -= (other @ vector) * vector
        other /= np.linalg.norm(other)
        return (similarity * vector + np.sqrt(1.0 - similarity**2) * other).astype(np.float32)

    @staticmethod
    def motion(step: float, horizon: int = HORIZON) -> np.ndarray:
        """A chunk that moves along x, gripper open."""
        actions = np.zeros((horizon, 7), dtype=np.float32)
        actions[:, 0], actions[:, 6] = step, 1.0
        return actions

    @staticmethod
    def case(seed: int = 0, **fields: object) -> FailureCase:
        """A valid case; the seed chooses its embedding."""
        values: dict[str, object] = {
            "failure_type": FailureType.GRASP_FAILURE,
            "task": "push",
            "phase": "reach",
            "encoder": "compact",
            "encoder_revision": "abc",
            "embedding": Maker.unit(seed),
            "failed_actions": Maker.motion(0.001),
            "evidence": (Evidence("gripper_width", 0.001, 0.01, "m"), Evidence("effort", 3.0, 5.0, "N")),
            "created_ns": 1_000 + seed,
            **fields,
        }
        return FailureCase(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make() -> Maker:
    """``make.case(3)``, ``make.unit(3)``, ``make.turned(vector, 0.9)``, ``make.motion(0.002)``."""
    return Maker()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "memory.db"


@pytest.fixture
def open_memory(database: Path) -> Iterator[Callable[..., FailureMemory]]:
    """``open_memory(capacity=3)``: a memory on the test's database; every one is closed after the test."""
    opened: list[FailureMemory] = []

    def make(path: Path | None = None, **settings: object) -> FailureMemory:
        memory, report = FailureMemory.open(path or database, MemorySettings(**settings), NumpyIndex)  # type: ignore[arg-type]
        assert report is None
        opened.append(memory)
        return memory

    yield make
    for memory in opened:
        memory.close()
