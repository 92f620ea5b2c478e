"""Nearest cases by cosine similarity: a cache that can be thrown away and rebuilt from the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.case import EncoderStamp, GroupKey
from flow_rag_vla.memory.locks import ReadWriteLock

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


class VectorIndex(Protocol):
    """Inner products with unit vectors (N, D) float32, each known by an int64 id.

    What reads may be called from several threads at once; what changes is called alone.
    """

    def __len__(self) -> int:
        """Number of vectors."""
        ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Take vectors (N, D) in under new ids (N,)."""
        ...

    def remove(self, ids: Ids) -> None:
        """Forget ids; unknown ones are ignored."""
        ...

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) for queries (Q, D), most similar first."""
        ...

    def ids(self) -> Ids:
        """Every id (N,)."""
        ...

    def vectors(self, ids: Ids) -> Vectors:
        """Give the vectors (N, D) of ids that are in the index."""
        ...


HALF_PRECISION_FROM = 4096
"""Vectors from which FaissIndex keeps float16: a scan is bound by memory traffic, and half of it takes half the time.
Similarities of unit vectors then err by less than 1e-3 (about 3e-5 at 512 numbers)."""

IndexFactory = Callable[[int], VectorIndex]
"""Makes an empty index for a dimension: the place to put another kind in when a group outgrows exact search."""


class NumpyIndex:
    """Exact search in numpy: the reference that every other index is tested against."""

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


class FaissIndex:
    """Full-scan inner-product search of FAISS, on a GPU when asked for, available, and built in.

    Exact in float32 up to ``half_from`` vectors, in float16 beyond (on a GPU always float32).
    """

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
        self._turn: AbstractContextManager[object] = nullcontext()
        holder = faiss.IndexFlatIP(dimension) if flat is None else flat
        self._half_from = half_from if flat is None else None
        gpus = gpu_count()
        if device == "cuda" and gpus == 0:
            raise ValueError('device is "cuda", but this FAISS sees no GPU; install faiss-gpu or use "auto" or "cpu"')
        if device != "cpu" and gpus > 0:
            self._half_from = None
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


def gpu_count() -> int:
    """GPUs that the installed FAISS can use; 0 for its CPU builds."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    return int(faiss.get_num_gpus())


def faiss_factory(device: str = "auto") -> IndexFactory:
    """Factory of :class:`FaissIndex` on a device."""

    def make(dimension: int) -> VectorIndex:
        return FaissIndex(dimension, device)

    return make


class CaseIndex:
    """One vector index a group of cases, all of one encoder. Any number of readers, one writer.

    A search costs what its groups hold, not what the memory holds; a similarity is compared only with cases of the
    same task and phase, and duplicates and pruning look at the same groups.

    Lock: searches share it, so a long one (pruning, calibration) delays no other; a change has it alone for a few
    milliseconds at most, and never while anything is written to disk.
    """

    def __init__(self, stamp: EncoderStamp, make_index: IndexFactory) -> None:
        self.stamp = stamp
        self._make_index = make_index
        self._groups: dict[GroupKey, VectorIndex] = {}
        self._lock = ReadWriteLock()

    def __len__(self) -> int:
        """Number of cases."""
        return sum(self.sizes().values())

    def sizes(self) -> dict[GroupKey, int]:
        """Cases in each group that has any."""
        with self._lock.read():
            return {group: len(index) for group, index in self._groups.items() if len(index)}

    def add(self, group: GroupKey, ids: Iterable[int], vectors: Vectors) -> None:
        """Take unit vectors (N, D) float32 into a group."""
        wanted = np.fromiter(ids, dtype=np.int64)
        with self._lock.write():
            index = self._groups.get(group)
            if index is None:
                index = self._groups[group] = self._make_index(self.stamp.dimension)
            index.add(wanted, np.atleast_2d(vectors))

    def remove(self, group: GroupKey, ids: Iterable[int]) -> None:
        """Forget cases of a group."""
        gone = np.fromiter(ids, dtype=np.int64)
        with self._lock.write():
            index = self._groups.get(group)
            if index is None:
                return
            index.remove(gone)
            if len(index) == 0:
                del self._groups[group]

    def members(self, group: GroupKey) -> Ids:
        """Ids of a group (N,)."""
        with self._lock.read():
            index = self._groups.get(group)
            return np.zeros(0, dtype=np.int64) if index is None else index.ids()

    def vectors(self, group: GroupKey, ids: Ids) -> Vectors:
        """Unit vectors (N, D) of members of a group."""
        with self._lock.read():
            return self._groups[group].vectors(ids)

    def search_group(self, group: GroupKey, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) inside one group, most similar first."""
        with self._lock.read():
            index = self._groups.get(group)
            if index is None:
                return np.zeros((len(queries), 0), dtype=np.float32), np.zeros((len(queries), 0), dtype=np.int64)
            return index.search(queries, k)

    def search(self, query: Vectors, k: int, task: str = "", phase: str = "") -> list[tuple[int, float]]:
        """Give (id, similarity) of the k cases nearest to a unit vector (D,), most similar first, lower id on a tie.

        Args:
            query: (D,) float32 unit vector.
            k: how many at most.
            task: only cases of this task; "" for any.
            phase: only cases of this phase; "" for any.
        """
        found: list[tuple[float, int]] = []
        queries = query[np.newaxis, :]
        with self._lock.read():
            for group, index in self._groups.items():
                if (task and group.task != task) or (phase and group.phase != phase):
                    continue
                similarities, ids = index.search(queries, k)
                found.extend(zip((-similarities[0]).tolist(), ids[0].tolist(), strict=True))
        found.sort()
        return [(case_id, -negative) for negative, case_id in found[:k]]

    def nearest(self, queries: Vectors, groups: Iterable[GroupKey]) -> Vectors:
        """Largest similarity (Q,) of each query (Q, D) to a case of these groups; -inf where there is none."""
        best = np.full(len(queries), -np.inf, dtype=np.float32)
        for group in groups:
            similarities, _ = self.search_group(group, queries, 1)
            if similarities.shape[1]:
                best = np.maximum(best, similarities[:, 0])
        return best
