# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbours of many vectors at once, in memory that grows with their number and not with its square.

Up to ``EXACT_LIMIT`` vectors each is compared with each, block by block. Beyond it, vectors are sorted into inverted
lists by direction (FAISS IVF, spherical k-means, uncompressed) and those nearest to a query are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Vectors
from flow_rag_vla.learn.progress import Progress, silent

EXACT_LIMIT = 50_000
"""Comparing each with each takes some 10 s of a processor here, and grows with the square."""
SAMPLES_A_LIST = 48
"""Vectors that each list's centre is learned from; FAISS asks for 39."""
PROBED = 24
"""Lists that are looked into, a query."""
BLOCK = 1_024
"""Queries at once."""

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k most similar others of each of N vectors, most similar first; of equals the lower position.

    similarities: (N, k) float32, cosines; positions: (N, k) int64
    """

    similarities: NDArray[np.float32]
    positions: Positions

    @property
    def k(self) -> int:
        """How many each has."""
        return int(self.positions.shape[1])


class VectorShelf:
    """An index that takes vectors in as they come. Laid out beforehand for all that may come.

    Deterministic: the lists are learned from a fixed sample, and of equal similarities the lower position comes first.
    """

    def __init__(self, vectors: Vectors, *, exact_limit: int = EXACT_LIMIT) -> None:
        """Begin empty. vectors: (N, D) float32 of unit length, all that may be taken in, by position."""
        import faiss

        self._vectors = np.ascontiguousarray(vectors, np.float32)
        count, dimension = self._vectors.shape
        flat = faiss.IndexFlatIP(dimension)
        self._index: Any = flat
        self._positions: list[Positions] = []
        self._count = 0
        if count > exact_limit:
            lists = max(1, min(round(2 * math.sqrt(count)), count // SAMPLES_A_LIST))
            index = faiss.IndexIVFFlat(flat, dimension, lists, faiss.METRIC_INNER_PRODUCT)
            index.cp.niter, index.cp.seed, index.cp.spherical = 10, 0, True
            index.nprobe = min(PROBED, lists)
            sample = np.random.default_rng(0).choice(count, min(count, lists * SAMPLES_A_LIST), replace=False)
            index.train(self._vectors[np.sort(sample)])
            self._index = index

    def __len__(self) -> int:
        return self._count

    def add(self, positions: Positions) -> None:
        """Take in the vectors at some positions."""
        if len(positions):
            self._index.add(self._vectors[positions])
            self._positions.append(np.asarray(positions, np.int64))
            self._count += len(positions)

    def nearest(self, queries: Positions, count: int) -> tuple[NDArray[np.float32], Positions]:
        """Similarities and positions (Q, count) of what is nearest to the vectors at positions (Q,).

        Where fewer are found, the rest is -1 and -1.
        """
        similarities = np.full((len(queries), count), -1.0, np.float32)
        positions = np.full((len(queries), count), -1, np.int64)
        wanted = min(count, self._count)
        if not wanted or not len(queries):
            return similarities, positions
        if len(self._positions) > 1:
            self._positions = [np.concatenate(self._positions)]
        values, places = self._index.search(self._vectors[queries], wanted)
        found = np.where(places >= 0, self._positions[0][places], -1)
        # FAISS leaves the order of equals open.
        order = np.lexsort((found, -np.where(places >= 0, values, -2.0)), axis=1)
        similarities[:, :wanted] = np.take_along_axis(np.where(places >= 0, values, -1.0), order, axis=1)
        positions[:, :wanted] = np.take_along_axis(found, order, axis=1)
        return similarities, positions


def nearest_neighbours(
    vectors: Vectors, k: int, *, exact_limit: int = EXACT_LIMIT, progress: Progress = silent
) -> Neighbours:
    """The k nearest others of each vector, exact for up to ``exact_limit`` of them.

    Args:
        vectors: (N, D) float32 of unit length.
        k: how many; fewer where there are no more than k vectors.
        exact_limit: see the module.
        progress: told of the blocks.

    Raises:
        ValueError: k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")
    total = len(vectors)
    k = min(k, max(total - 1, 0))
    similarities = np.full((total, k), -1.0, np.float32)
    positions = np.full((total, k), -1, np.int64)
    if k == 0:
        return Neighbours(similarities, positions)
    shelf = VectorShelf(vectors, exact_limit=exact_limit)
    shelf.add(np.arange(total, dtype=np.int64))
    for start in range(0, total, BLOCK):
        queries = np.arange(start, min(start + BLOCK, total), dtype=np.int64)
        values, found = shelf.nearest(queries, k + 1)
        own = found == queries[:, None]
        # Among many equals it may not have found itself: then the last one goes.
        own[~own.any(axis=1), -1] = True
        similarities[queries] = values[~own].reshape(len(queries), k)
        positions[queries] = found[~own].reshape(len(queries), k)
        progress(int(queries[-1]) + 1, total, "neighbours")
    return Neighbours(similarities, positions)
