# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How good what was found is, beside the truth: average precision, overlap of masks, identities over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from flow_rag_vla.labeling.detections import Boxes, Detections
from flow_rag_vla.labeling.pipeline.boxes import mask_overlap, overlaps

Pair = tuple[Detections, Detections]
"""What was found in a picture, and the truth."""


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Scores of one run over many pictures.

    average_precision: by category, at an overlap of 0.5, 0 to 1
    mask_overlap: by category, mean intersection over union of the masks; a thing that was not found counts 0
    things: by category, how many there are
    """

    average_precision: dict[str, float]
    mask_overlap: dict[str, float]
    things: dict[str, int]

    @property
    def map50(self) -> float:
        """Mean average precision at an overlap of 0.5 over the categories (COCO's AP50)."""
        return float(np.mean(list(self.average_precision.values()))) if self.average_precision else 0.0

    @property
    def miou(self) -> float:
        """Mean over the categories of ``mask_overlap``."""
        return float(np.mean(list(self.mask_overlap.values()))) if self.mask_overlap else 0.0


def score_detections(pairs: Sequence[Pair], ignored: Sequence[Detections] | None = None) -> DetectionScore:
    """Average precision at 0.5 by COCO's rule (101 recall points), and mask overlap of matched things.

    Args:
        pairs: found and truth a picture; both with masks if overlaps of masks are wanted.
        ignored: a picture: things so small that finding them is neither right nor wrong.
    """
    categories = sorted({label for _, truth in pairs for label in truth.labels})
    precision, shared, things = {}, {}, {}
    for category in categories:
        rows: list[tuple[float, bool]] = []
        total = 0
        covered: list[float] = []
        for index, (found, truth) in enumerate(pairs):
            other = ignored[index] if ignored is not None else None
            own = _of(found, category)
            own = own[np.argsort(-found.scores[own], kind="stable")]
            real = _of(truth, category)
            total += len(real)
            match = _matched(found.boxes[own], truth.boxes[real])
            doubtful = np.zeros(len(own), np.bool_)
            if other is not None and len(own):
                small = _of(other, category)
                doubtful |= (overlaps(found.boxes[own], other.boxes[small]) >= 0.3).any(axis=1)
            for place, row in enumerate(own):
                if match[place] < 0 and doubtful[place]:
                    continue
                rows.append((float(found.scores[row]), match[place] >= 0))
            if truth.masks is not None and found.masks is not None:
                by_truth = {int(target): int(own[place]) for place, target in enumerate(match) if target >= 0}
                for place, row in enumerate(real):
                    mine = by_truth.get(place)
                    covered.append(0.0 if mine is None else mask_overlap(found.masks[mine], truth.masks[row]))
        precision[category] = _average_precision(rows, total)
        shared[category] = float(np.mean(covered)) if covered else 0.0
        things[category] = total
    return DetectionScore(precision, shared, things)


@dataclass(frozen=True, slots=True)
class IdentityScore:
    """Identity precision, recall and F1 (Ristani et al. 2016, arXiv 1609.01775), 0 to 1."""

    precision: float
    recall: float
    f1: float


def score_identities(
    frames: Sequence[tuple[Boxes, Sequence[str], Boxes, Sequence[str]]], overlap: float = 0.5
) -> IdentityScore:
    """IDF1: each true identity is paired with at most one track so that the most boxes agree over the whole run.

    Args:
        frames: found boxes, their track ids, true boxes, their identities; one entry a frame.
        overlap: least intersection over union of boxes that agree.
    """
    tracks: dict[str, int] = {}
    truths: dict[str, int] = {}
    agreed: dict[tuple[int, int], int] = {}
    found_boxes = true_boxes = 0
    for boxes, ids, true, names in frames:
        found_boxes += len(ids)
        true_boxes += len(names)
        pairs = overlaps(boxes, true) >= overlap
        for row, track in enumerate(ids):
            for column, name in enumerate(names):
                if pairs[row, column]:
                    key = (tracks.setdefault(track, len(tracks)), truths.setdefault(name, len(truths)))
                    agreed[key] = agreed.get(key, 0) + 1
    matrix = np.zeros((len(tracks), len(truths)))
    for (row, column), count in agreed.items():
        matrix[row, column] = count
    right = float(matrix[linear_sum_assignment(matrix, maximize=True)].sum()) if matrix.size else 0.0
    total = found_boxes + true_boxes
    return IdentityScore(
        right / found_boxes if found_boxes else 0.0,
        right / true_boxes if true_boxes else 0.0,
        2.0 * right / total if total else 1.0,
    )


def _of(found: Detections, category: str) -> NDArray[np.intp]:
    return np.flatnonzero(np.asarray([label == category for label in found.labels], np.bool_))


def _matched(found: Boxes, truth: Boxes) -> NDArray[np.int64]:
    """For each found box, best score first, the true one that it takes, or -1."""
    match = np.full(len(found), -1, np.int64)
    if not len(found) or not len(truth):
        return match
    pairs = overlaps(found, truth)
    free = np.ones(len(truth), np.bool_)
    for row in range(len(found)):
        values = np.where(free, pairs[row], -1.0)
        best = int(values.argmax())
        if values[best] >= 0.5:
            match[row] = best
            free[best] = False
    return match


def _average_precision(rows: list[tuple[float, bool]], total: int) -> float:
    if not total or not rows:
        return 0.0
    rows = sorted(rows, key=lambda item: -item[0])
    right = np.cumsum([hit for _, hit in rows])
    precision = right / np.arange(1, len(rows) + 1)
    recall = right / total
    # Precision never rises with recall: the best still to come counts.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0.0, 1.0, 101), side="left")
    padded = np.append(envelope, 0.0)
    return float(padded[np.minimum(places, len(envelope))].mean())
