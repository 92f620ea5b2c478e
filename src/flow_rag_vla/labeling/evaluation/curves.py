# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Precision and recall of each category at every score, and the score at which both are best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.evaluation.matching import in_order

OVERLAP = 0.5
"""Intersection over union from which a box is right."""
_POINTS = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """One category, the surest first.

    scores, precision, recall: (K,) float64, what is right among all of at least that score, and what is found by them
    things: how many there are; threshold: score of the best F1; f1, best_precision, best_recall: there
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    things: int
    threshold: float
    f1: float
    best_precision: float
    best_recall: float

    def thinned(self, points: int = _POINTS) -> list[list[float]]:
        """At most so many [score, precision, recall], first and last among them."""
        if not len(self.scores):
            return []
        rows = np.unique(np.linspace(0, len(self.scores) - 1, points).round().astype(int))
        return [[round(float(a[row]), 5) for a in (self.scores, self.precision, self.recall)] for row in rows]


def curve_of(category: str, pairs: Sequence[tuple[Detections, Detections]], overlap: float = OVERLAP) -> Curve:
    """The curve of a category.

    Args:
        category: its name.
        pairs: found and true things, a picture each.
        overlap: intersection over union from which a box is right.
    """
    scores: list[float] = []
    right: list[bool] = []
    things = 0
    for found, truth in pairs:
        own = _rows(found, category)
        own = own[np.argsort(-found.scores[own], kind="stable")]
        real = _rows(truth, category)
        things += len(real)
        scores += found.scores[own].tolist()
        right += (in_order(found.boxes[own], truth.boxes[real], overlap) >= 0).tolist()
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    sorted_scores = np.asarray(scores, np.float64)[order]
    hits = np.cumsum(np.asarray(right, np.float64)[order])
    # Of equal scores all are taken or none.
    last = np.flatnonzero(np.diff(sorted_scores, append=-np.inf))
    sorted_scores, hits, taken = sorted_scores[last], hits[last], last + 1.0
    precision = hits / taken
    recall = hits / things if things else np.zeros_like(hits)
    if not things or not len(hits) or not hits[-1]:
        return Curve(sorted_scores, precision, recall, things, 0.5, 0.0, 0.0, 0.0)
    f1 = 2.0 * hits / (taken + things)
    best = int(f1.argmax())
    return Curve(
        sorted_scores,
        precision,
        recall,
        things,
        _between(sorted_scores, best),
        float(f1[best]),
        float(precision[best]),
        float(recall[best]),
    )


def _between(scores: NDArray[np.float64], best: int) -> float:
    """Half-way to the next lower score: the threshold is not the score of one detection."""
    below = float(scores[best + 1]) if best + 1 < len(scores) else 0.0
    return 0.5 * (float(scores[best]) + below)


def _rows(found: Detections, category: str) -> NDArray[np.intp]:
    return np.flatnonzero(np.asarray([label == category for label in found.labels], np.bool_))
