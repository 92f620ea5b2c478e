# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One number out of many scores: each in its own standard deviations, averaged over a window, added up."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.failure.bands import Band
from flow_rag_vla.failure.scores import (
    Bank,
    ChunkDisagreement,
    ChunkSpread,
    Distillation,
    ExpectedDuration,
    FeatureSpace,
    NeighbourDistance,
    Neighbours,
    RandomDistillation,
    RuleEvidence,
    Score,
)

WINDOW = 5
"""Frames over which scores are averaged."""

SCORES = tuple(
    kind.name
    for kind in (
        RuleEvidence,
        ChunkDisagreement,
        ChunkSpread,
        NeighbourDistance,
        ExpectedDuration,
        RandomDistillation,
    )
)
"""Names of the single scores without the probe, in the order of ``make_scores``."""


def make_scores(space: FeatureSpace, banks: dict[int, Bank], distillation: Distillation) -> tuple[Score, ...]:
    """Every score but the probe, in the order of calibrations."""
    neighbours = Neighbours(space, banks)
    return (
        RuleEvidence(),
        ChunkDisagreement(),
        ChunkSpread(),
        NeighbourDistance(neighbours),
        ExpectedDuration(neighbours),
        RandomDistillation(space, distillation),
    )


class Window:
    """Scores of one episode in standard deviations, averaged over the last frames."""

    def __init__(self, length: int = WINDOW) -> None:
        self._rows: deque[NDArray[np.float64]] = deque(maxlen=length)

    def reset(self) -> None:
        """Begin a new episode."""
        self._rows.clear()

    def add(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S,): means over the window of what was known; NaN where nothing was."""
        self._rows.append(row)
        rows = np.stack(self._rows)
        known = np.isfinite(rows)
        count = known.sum(axis=0)
        total = np.where(known, rows, 0.0).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def standardised(bands: tuple[Band, ...], elapsed: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,): values (S,) in widths above the means of their bands at a time, seconds."""
    return np.array([band.standardised(elapsed, value) for band, value in zip(bands, values.tolist(), strict=True)])


def fuse(scores: NDArray[np.float64], scales: NDArray[np.float64]) -> float:
    """One number of scores (S,) in standard deviations: the sum of what is above the mean, each in its own scale.

    On the development episodes the sum told failures from successes as old as they better than the highest score or
    the norms between did. NaN counts as nothing; NaN if all are.
    """
    known = np.isfinite(scores)
    if not known.any():
        return math.nan
    return float(np.maximum(scores[known] / scales[known], 0.0).sum())
