# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Full-scan search of FAISS: the index of small groups, and of a GPU."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from flow_rag_vla.memory.backends.base import Ids, IndexState, Vectors

HALF_PRECISION_FROM = 4096
"""Vectors from which FaissIndex keeps float16: a scan is bound by memory traffic, and half of it takes half the time.
Similarities of unit vectors then err by less than 1e-3 (about 3e-5 at 512 numbers)."""


class FaissIndex:
    """Full-scan inner-product search of FAISS, on a GPU when asked for, available, and built in.

    Exact in float32 up to ``half_from`` vectors, in float16 beyond (on a GPU always float32).
    """

    concurrent = False

    def __init__(
        self, dimension: int, device: str = "auto", flat: Any = None, half_from: int = HALF_PRECISION_FROM
    ) -> None:
        """Make an empty index.

        Args:
            dimension: length of the vectors.
            device: "auto", "cpu" or "cuda".
            flat: another FAISS index over inner products to hold the vectors; None: IndexFlatIP.
            half_from: number of vectors from which IndexFlatIP gives way to float16.

        Raises:
            ValueError: for "cuda" where FAISS has no GPU.
        """
        # Imported here: a process that only reads a database, such as the console command, does not pay for it.
        import faiss

        self._faiss = faiss
        self._on_gpu = False
        self._turn: AbstractContextManager[object] = nullcontext()
        holder = faiss.IndexFlatIP(dimension) if flat is None else flat
        self._half_from = half_from if flat is None else None
        gpus = gpu_count()
        if device == "cuda" and gpus == 0:
            raise ValueError('device is "cuda", but this FAISS sees no GPU; install faiss-gpu or use "auto" or "cpu"')
        if device != "cpu" and gpus > 0:
            self._half_from, self._on_gpu = None, True
            # Searches on one GPU share its scratch memory.
            self._turn = threading.Lock()
            self._resources = faiss.StandardGpuResources()
            holder = faiss.index_cpu_to_gpu(self._resources, 0, holder)
        self._index = faiss.IndexIDMap2(holder)

    def __len__(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Take vectors (N, D) in under new ids (N,)."""
        if self._half_from is not None and len(self) + len(ids) >= self._half_from:
            self._halve()
        self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), np.asarray(ids, dtype=np.int64))

    def remove(self, ids: Ids) -> None:
        """Forget ids; unknown ones are ignored."""
        gone = np.asarray(ids, dtype=np.int64)
        try:
            self._index.remove_ids(self._faiss.IDSelectorBatch(gone))
        except RuntimeError:
            # Indexes on a GPU and graphs cannot forget a vector: they are filled anew.
            kept = np.setdiff1d(self.ids(), gone)
            vectors = self.vectors(kept)
            self._index.reset()
            self.add(kept, vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) for queries (Q, D), most similar first."""
        count = min(k, len(self))
        if count == 0:
            return np.zeros((len(queries), 0), dtype=np.float32), np.zeros((len(queries), 0), dtype=np.int64)
        # A setting of each thread. One search must not take the cores that the control loop runs on.
        self._faiss.omp_set_num_threads(1)
        with self._turn:
            similarities, ids = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        return similarities, ids

    def _halve(self) -> None:
        self._half_from = None
        ids, vectors = self.ids(), self.vectors(self.ids())
        quantizer = self._faiss.ScalarQuantizer.QT_fp16
        holder = self._faiss.IndexScalarQuantizer(int(self._index.d), quantizer, self._faiss.METRIC_INNER_PRODUCT)
        self._index = self._faiss.IndexIDMap2(holder)
        # The FAISS wrapper does not keep what it wraps alive.
        self._holder = holder
        if len(ids):
            self.add(ids, vectors)

    def ids(self) -> Ids:
        """Every id (N,)."""
        return np.asarray(self._faiss.vector_to_array(self._index.id_map), dtype=np.int64)

    def vectors(self, ids: Ids) -> Vectors:
        """Give the vectors (N, D) of ids that are in the index."""
        if len(ids) == 0:
            return np.zeros((0, int(self._index.d)), dtype=np.float32)
        return np.asarray(self._index.reconstruct_batch(np.asarray(ids, dtype=np.int64)), dtype=np.float32)

    def state(self) -> IndexState:
        """How it answers at the moment."""
        kind = (
            "exact scan on a GPU" if self._on_gpu else "exact scan" if self._half_from is not None else "float16 scan"
        )
        size = 4 if self._on_gpu or self._half_from is not None else 2
        return IndexState(kind, len(self), megabytes=len(self) * int(self._index.d) * size / 1e6)


def gpu_count() -> int:
    """GPUs that the installed FAISS can use; 0 for its CPU builds."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    return int(faiss.get_num_gpus())
