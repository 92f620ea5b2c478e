# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.evaluation.curves import OVERLAP
from flow_rag_vla.labeling.evaluation.matching import closest
from flow_rag_vla.labeling.pipeline.boxes import select


@dataclass(frozen=True, slots=True)
class Confusion:
    """counts: (C + 1, C + 1) int64; row: the true category, column: what it was taken for.

    The last row is of detections where nothing is, the last column of things that were missed.
    """

    categories: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def right(self) -> int:
        """Things that were found and called what they are."""
        return int(np.trace(self.counts[:-1, :-1]))

    @property
    def taken_for_others(self) -> int:
        """Things that were found and called something else."""
        return int(self.counts[:-1, :-1].sum()) - self.right

    @property
    def missed(self) -> int:
        """Things that were not found."""
        return int(self.counts[:, -1].sum())

    @property
    def imagined(self) -> int:
        """Detections where nothing is."""
        return int(self.counts[-1].sum())


@dataclass(frozen=True, slots=True)
class Mistakes:
    """One picture: rows of the found things that are wrong, and of the true ones that were missed."""

    kept: NDArray[np.int64]
    """Rows of ``found`` that are sure enough to count."""
    imagined: tuple[int, ...]
    mistaken: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.imagined) + len(self.mistaken) + len(self.missed)


def confusion_of(
    pairs: Sequence[tuple[Detections, Detections]],
    categories: Sequence[str],
    thresholds: Mapping[str, float],
    overlap: float = OVERLAP,
) -> tuple[Confusion, tuple[Mistakes, ...]]:
    """The matrix over all pictures, and what is wrong in each.

    A found thing is the true one that it overlaps most, whatever either is called.

    Args:
        pairs: found and true things, a picture each.
        categories: rows and columns; things and detections of others are passed over.
        thresholds: category -> least score that counts; 0 for one that is not named.
        overlap: intersection over union from which two are one thing.
    """
    numbers = {name: place for place, name in enumerate(categories)}
    size = len(numbers)
    counts = np.zeros((size + 1, size + 1), np.int64)
    mistakes = []
    for found, truth in pairs:
        kept = np.asarray(
            [
                row
                for row, (label, score) in enumerate(zip(found.labels, found.scores, strict=True))
                if label in numbers and score >= thresholds.get(label, 0.0)
            ],
            np.int64,
        )
        real = np.asarray([row for row, label in enumerate(truth.labels) if label in numbers], np.int64)
        sure, true = select(found, kept), select(truth, real)
        taken = closest(sure.boxes, true.boxes, overlap)
        imagined, mistaken = [], []
        for row, target in enumerate(taken):
            column = numbers[sure.labels[row]]
            if target < 0:
                counts[size, column] += 1
                imagined.append(int(kept[row]))
                continue
            line = numbers[true.labels[target]]
            counts[line, column] += 1
            if line != column:
                mistaken.append(int(kept[row]))
        missed = sorted(set(range(len(true))) - set(taken.tolist()))
        for row in missed:
            counts[numbers[true.labels[row]], size] += 1
        mistakes.append(Mistakes(kept, tuple(imagined), tuple(mistaken), tuple(int(real[row]) for row in missed)))
    return Confusion(tuple(categories), counts), tuple(mistakes)
