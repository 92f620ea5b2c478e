# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The cases and queries of the memory's benchmark: the same in every process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, GRIPPER
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.store import FailureStore

CASES = 10_000
DIMENSION = 512
HORIZON = 16
ENCODER = "benchmark"
SEED = 20

IN_ONE_WRITE = 10_000
"""Cases stored in one transaction."""

NEAR = 0.97
"""Cosine similarity of a query to its case: above the default threshold, so that a correction is made of it."""

Vectors = NDArray[np.float32]


def embeddings(cases: int = CASES) -> Vectors:
    """(cases, DIMENSION) float32 unit vectors."""
    rows = np.random.default_rng(SEED).standard_normal((cases, DIMENSION), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


SHARES = np.exp(-np.arange(40) / 4.2) + 0.004 * np.exp(-np.arange(40) / 12)
"""Variance along each direction, before scaling: fitted to 5,232 pictures of 41 recorded episodes under the shipped
encoder, whose embeddings have 90, 99 and 99.9 % of their variance in 9, 19 and 40 directions."""

MEAN_LENGTH = 0.943
"""Length of the mean of those embeddings."""

PER_SCENE = 100
"""Cases around one centre, with a fifth of the variance."""

CHUNK = 50_000


def shaped(cases: int, start: int = 0, stop: int | None = None) -> Iterator[Vectors]:
    """Unit vectors (N, DIMENSION) float32 shaped like the shipped encoder's, in chunks; the same for equal arguments.

    Args:
        cases: of the whole set, which has a centre for every ``PER_SCENE`` of them.
        start: number of the first one given, a multiple of ``CHUNK``.
        stop: number after the last one; None: ``cases``. Numbers from ``cases`` on are other vectors of that kind.
    """
    basis = np.linalg.qr(np.random.default_rng(SEED + 3).standard_normal((DIMENSION, 1 + len(SHARES))))[0]
    scale = np.sqrt(SHARES / SHARES.sum() * (1.0 - MEAN_LENGTH**2))
    noise = np.sqrt(1e-3 * (1.0 - MEAN_LENGTH**2) / DIMENSION)
    shape = max(1, cases // PER_SCENE), len(SHARES)
    centres = np.random.default_rng(SEED + 4).standard_normal(shape, dtype=np.float32)
    directions = (basis[:, 1:] * scale).T.astype(np.float32)
    for first in range(start, cases if stop is None else stop, CHUNK):
        generator = np.random.default_rng([SEED + 5, first])
        count = min(CHUNK, (cases if stop is None else stop) - first)
        own = generator.standard_normal((count, len(SHARES)), dtype=np.float32)
        places = generator.integers(0, shape[0], count)
        rows = (np.float32(np.sqrt(0.8)) * centres[places] + np.float32(np.sqrt(0.2)) * own) @ directions
        rows += (MEAN_LENGTH * basis[:, 0]).astype(np.float32)
        rows += np.float32(noise) * generator.standard_normal((count, DIMENSION), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def isotropic(cases: int, start: int = 0, stop: int | None = None) -> Iterator[Vectors]:
    """The hard case: unit vectors without any structure, in chunks; arguments as for :func:`shaped`."""
    for first in range(start, cases if stop is None else stop, CHUNK):
        generator = np.random.default_rng([SEED + 6, first])
        count = min(CHUNK, (cases if stop is None else stop) - first)
        rows = generator.standard_normal((count, DIMENSION), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


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
    for start in range(0, len(rows), IN_ONE_WRITE):
        store.add(cases_of(rows[start : start + IN_ONE_WRITE], generator, start, groups))
    store.close()


def cases_of(rows: Vectors, generator: np.random.Generator, start: int = 0, groups: int = 1) -> list[FailureCase]:
    """One case a row, the first of which has number ``start``."""
    cases = []
    for number, row in enumerate(rows, start):
        failed = generator.normal(scale=0.003, size=(HORIZON, ACTION_DIM)).astype(np.float32)
        # The gripper's opening is no step but from 0 to 1, and 0.001 more in the correction.
        failed[:, GRIPPER] = generator.uniform(0.0, 0.9)
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
    return cases
