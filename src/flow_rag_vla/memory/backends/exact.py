# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Exact search in numpy: the reference that every other index is tested against."""

from __future__ import annotations

import numpy as np

from flow_rag_vla.memory.backends.base import Ids, IndexState, Vectors


class NumpyIndex:
    """Every vector in float32, every search a scan of all."""

    concurrent = False

    def __init__(self, dimension: int) -> None:
        self._ids: Ids = np.zeros(0, dtype=np.int64)
        self._vectors: Vectors = np.zeros((0, dimension), dtype=np.float32)

    def __len__(self) -> int:
        """Number of vectors."""
        return int(self._ids.shape[0])

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Take vectors (N, D) in under new ids (N,)."""
        self._ids = np.concatenate([self._ids, ids])
        self._vectors = np.concatenate([self._vectors, vectors])

    def remove(self, ids: Ids) -> None:
        """Forget ids; unknown ones are ignored."""
        keep = ~np.isin(self._ids, ids)
        self._ids, self._vectors = self._ids[keep], self._vectors[keep]

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) for queries (Q, D), most similar first."""
        similarities = queries @ self._vectors.T
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(similarities, order, axis=1), self._ids[order]

    def ids(self) -> Ids:
        """Every id (N,)."""
        return self._ids.copy()

    def vectors(self, ids: Ids) -> Vectors:
        """Give the vectors (N, D) of ids that are in the index."""
        order = np.argsort(self._ids)
        places = order[np.searchsorted(self._ids, ids, sorter=order)]
        return self._vectors[places]

    def state(self) -> IndexState:
        """How it answers at the moment."""
        return IndexState("exact scan", len(self), megabytes=self._vectors.nbytes / 1e6)
