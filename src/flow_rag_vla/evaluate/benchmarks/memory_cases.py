"""The cases and queries of the memory's benchmark: the same in every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.store import FailureStore

CASES = 10_000
DIMENSION = 512
HORIZON = 16
ENCODER = "benchmark"
SEED = 20

NEAR = 0.97
"""Cosine similarity of a query to its case: above the default threshold, so that a correction is made of it."""

Vectors = NDArray[np.float32]


def embeddings(cases: int = CASES) -> Vectors:
    """(cases, DIMENSION) float32 unit vectors."""
    rows = np.random.default_rng(SEED).standard_normal((cases, DIMENSION), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def queries(rows: Vectors, count: int) -> Vectors:
    """(count, DIMENSION) float32 unit vectors, all different: every second one near a row, the others near none."""
    generator = np.random.default_rng(SEED + 1)
    noise = generator.standard_normal((count, DIMENSION), dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    found = noise.copy()
    near = rows[generator.integers(0, len(rows), count)][::2]
    found[::2] = NEAR * near + np.sqrt(1.0 - NEAR**2) * noise[::2]
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def fill(path: Path, rows: Vectors, groups: int = 1) -> None:
    """Make a database with one case a row, over that many tasks; half of the cases know a correction."""
    generator = np.random.default_rng(SEED + 2)
    store = FailureStore(path)
    cases = []
    for number, row in enumerate(rows):
        failed = generator.normal(scale=0.003, size=(HORIZON, 7)).astype(np.float32)
        known = number % 2 == 0
        cases.append(
            FailureCase(
                failure_type=FailureType.GRASP_FAILURE,
                task=f"task_{number % groups}",
                phase="reach",
                encoder=ENCODER,
                encoder_revision="0",
                embedding=row,
                failed_actions=failed,
                correction=failed + np.float32(0.001) if known else None,
                correction_source="expert" if known else "",
                proprioception=generator.standard_normal(9, dtype=np.float32),
                evidence=(Evidence("gripper_width", 0.001, 0.01, "m"), Evidence("gripper_effort", 2.0, 5.0, "N")),
                note="the gripper closed on nothing",
                origin="benchmark",
            )
        )
    store.add(cases)
    store.close()
