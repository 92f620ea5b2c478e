# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""FAISS: inverted lists of vectors in eight bits a number (IVF, SQ8), whose search widens as the filter narrows.

The trap of approximate search is a filter: with a fixed number of lists the answer for a rare class is poor and quick.
Here the number of lists follows from how many vectors pass the filter, so that every search compares about the same
number of them; a filter rare enough makes it look through all lists.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.labeling.registry.index.base import Allowed
from flow_rag_vla.labeling.registry.index.matrix import Positions, VectorMatrix, Vectors

COMPARED = 40_000
"""Vectors that pass the filter and are compared in eight bits, a search."""
LEAST_LISTS = 16
SAMPLES_A_LIST = 48
"""Vectors that each list's centre is learned from; FAISS asks for 39."""
ROUNDS = 10
FILE = "index.faiss"


class FaissIndex:
    """An inverted file over a matrix; about D + 8 bytes a vector."""

    kind = "faiss IVF, SQ8"

    def __init__(self, index: Any, built_for: int) -> None:
        """Wrap an index of FAISS."""
        self._index = index
        self.built_for = built_for

    @classmethod
    def built(cls, matrix: VectorMatrix) -> FaissIndex:
        """Learn the lists from a sample that is the same each time, then take everything in."""
        import faiss

        count = len(matrix)
        lists = max(1, min(round(math.sqrt(count)), count // SAMPLES_A_LIST))
        quantizer = faiss.IndexFlatIP(matrix.dimension)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, matrix.dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = ROUNDS
        index.cp.seed = 0
        # Unit vectors compared by angle need centres of unit length.
        index.cp.spherical = True
        sample = np.random.default_rng(0).choice(count, min(count, lists * SAMPLES_A_LIST), replace=False)
        index.train(matrix.gather(np.sort(sample)))
        made = cls(index, count)
        for start, vectors in matrix.chunks():
            made.add(np.arange(start, start + len(vectors), dtype=np.int64), np.ascontiguousarray(vectors))
        return made

    @classmethod
    def loaded(cls, folder: Path, built_for: int) -> FaissIndex | None:
        """What ``save`` wrote; None where it is not there or cannot be read."""
        import faiss

        if not (folder / FILE).is_file():
            return None
        try:
            index = faiss.read_index(str(folder / FILE))
        except RuntimeError:
            return None
        return cls(index, built_for)

    def add(self, positions: Positions, vectors: Vectors) -> None:
        """Take in vectors (N, D) under positions (N,)."""
        self._index.add_with_ids(vectors, positions)

    def candidates(self, query: Vectors, count: int, allowed: Allowed, matching: int) -> Positions:
        """The nearest ``count`` that are allowed, among the lists nearest to the query."""
        import faiss

        lists = self._index.nlist
        probes = min(lists, max(LEAST_LISTS, math.ceil(lists * COMPARED / max(matching, 1))))
        options: dict[str, Any] = {"nprobe": probes}
        if matching < len(allowed):
            # The selector refers to the array's memory: it must outlive the search.
            bits = np.packbits(allowed, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        _, found = self._index.search(query[np.newaxis], count, params=faiss.SearchParametersIVF(**options))
        positions: Positions = found[0]
        return positions[positions >= 0]

    def save(self, folder: Path) -> bool:
        """Write it to a file in a folder."""
        import faiss

        faiss.write_index(self._index, str(folder / FILE))
        return True

    def close(self) -> None:
        """There is nothing to give back."""
