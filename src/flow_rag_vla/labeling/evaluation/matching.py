# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which of the found things is which of the true ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Boxes
from flow_rag_vla.labeling.pipeline.boxes import overlaps


def in_order(found: Boxes, true: Boxes, overlap: float) -> NDArray[np.int64]:
    """(N,): for each found box, in the order given, the free true box that it overlaps most, or -1.

    This is COCO's rule when the surest come first.
    """
    taken = np.full(len(found), -1, np.int64)
    if not len(found) or not len(true):
        return taken
    pairs = overlaps(found, true)
    free = np.ones(len(true), np.bool_)
    for row in range(len(found)):
        values = np.where(free, pairs[row], -1.0)
        best = int(values.argmax())
        if values[best] >= overlap:
            taken[row], free[best] = best, False
    return taken


def closest(found: Boxes, true: Boxes, overlap: float) -> NDArray[np.int64]:
    """(N,): for each found box the true one that it is, or -1; pairs that overlap most are joined first."""
    taken = np.full(len(found), -1, np.int64)
    if not len(found) or not len(true):
        return taken
    pairs = overlaps(found, true)
    free = np.ones(len(true), np.bool_)
    for place in np.argsort(-pairs, axis=None, kind="stable"):
        row, column = divmod(int(place), len(true))
        if pairs[row, column] < overlap:
            break
        if taken[row] < 0 and free[column]:
            taken[row], free[column] = column, False
    return taken
