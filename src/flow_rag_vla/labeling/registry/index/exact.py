# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The index that compares everything: slow and never wrong; every other one is measured against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow_rag_vla.labeling.registry.index.base import Allowed
from flow_rag_vla.labeling.registry.index.matrix import Positions, VectorMatrix, Vectors, most_similar


class ExactIndex:
    """Scans the matrix chunk by chunk; holds nothing of its own."""

    kind = "exact scan"

    def __init__(self, matrix: VectorMatrix) -> None:
        """Refer to a matrix."""
        self._matrix = matrix

    @property
    def built_for(self) -> int:
        """It never needs to be built anew."""
        return len(self._matrix)

    def add(self, positions: Positions, vectors: Vectors) -> None:
        """The matrix has them."""

    def candidates(self, query: Vectors, count: int, allowed: Allowed, matching: int) -> Positions:
        """The nearest ``count`` of all that are allowed."""
        if 2 * matching < len(allowed):
            positions = np.flatnonzero(allowed)
            return most_similar(self._matrix.similarities(query, positions), positions, count)[1]
        similarities = self._matrix.similarities(query)
        positions = np.arange(len(similarities), dtype=np.int64)
        if matching < len(allowed):
            positions = np.flatnonzero(allowed)
            similarities = similarities[positions]
        return most_similar(similarities, positions, count)[1]

    def save(self, folder: Path) -> bool:
        """There is nothing to write."""
        return False

    def close(self) -> None:
        """There is nothing to give back."""
