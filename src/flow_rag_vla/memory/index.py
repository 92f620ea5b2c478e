# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Nearest cases by cosine similarity: a cache that can be thrown away and rebuilt from the store."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from flow_rag_vla.memory.backends.base import Ids as Ids
from flow_rag_vla.memory.backends.base import IndexFactory as IndexFactory
from flow_rag_vla.memory.backends.base import IndexState as IndexState
from flow_rag_vla.memory.backends.base import VectorIndex as VectorIndex
from flow_rag_vla.memory.backends.base import Vectors as Vectors
from flow_rag_vla.memory.backends.choice import IndexBackend as IndexBackend
from flow_rag_vla.memory.backends.choice import as_backend as as_backend
from flow_rag_vla.memory.backends.choice import faiss_factory as faiss_factory
from flow_rag_vla.memory.backends.choice import make_backend as make_backend
from flow_rag_vla.memory.backends.exact import NumpyIndex as NumpyIndex
from flow_rag_vla.memory.backends.flat import FaissIndex as FaissIndex
from flow_rag_vla.memory.backends.flat import gpu_count as gpu_count
from flow_rag_vla.memory.case import EncoderStamp, GroupKey
from flow_rag_vla.memory.locks import ReadWriteLock


class _Group:
    """An index and, unless it allows changes beside reads, a lock around it."""

    __slots__ = ("_lock", "index")

    def __init__(self, index: VectorIndex) -> None:
        self.index = index
        self._lock = None if index.concurrent else ReadWriteLock()

    def read(self) -> AbstractContextManager[None]:
        """Hold while reading."""
        return nullcontext() if self._lock is None else self._lock.read()

    def write(self) -> AbstractContextManager[None]:
        """Hold while changing."""
        return nullcontext() if self._lock is None else self._lock.write()


class CaseIndex:
    """One vector index a group of cases, all of one encoder. Any number of readers, one writer.

    A search costs what its groups hold, not what the memory holds; a similarity is compared only with cases of the
    same task and phase, and duplicates and pruning look at the same groups.

    Locks: which groups there are is replaced as a whole, so looking that up needs none. Inside a group the index
    itself lets searches and changes go on together, or a lock does: searches share it, so a long one (pruning,
    calibration) delays no other; a change has it alone for a few milliseconds at most, and never while anything is
    written to disk.
    """

    def __init__(self, stamp: EncoderStamp, make_index: IndexFactory | IndexBackend, space: str = "active") -> None:
        """Make an empty index.

        Args:
            stamp: whose embeddings it holds.
            make_index: makes the index of a group.
            space: keeps apart what one backend holds for several of these.
        """
        self.stamp = stamp
        self.space = space
        self._backend = as_backend(make_index)
        self._groups: dict[GroupKey, _Group] = {}
        self._write = threading.Lock()

    def __len__(self) -> int:
        """Number of cases."""
        return sum(self.sizes().values())

    def sizes(self) -> dict[GroupKey, int]:
        """Cases in each group that has any."""
        found = {}
        for key, group in self._groups.items():
            with group.read():
                size = len(group.index)
            if size:
                found[key] = size
        return found

    def states(self) -> dict[GroupKey, IndexState]:
        """How each group is searched at the moment."""
        found = {}
        for key, group in self._groups.items():
            with group.read():
                found[key] = group.index.state()
        return found

    def groups(self) -> dict[GroupKey, VectorIndex]:
        """The index of each group."""
        return {key: group.index for key, group in self._groups.items()}

    def adopt(self, key: GroupKey, index: VectorIndex) -> None:
        """Take an index that is filled already as that of a group."""
        with self._write:
            self._groups = {**self._groups, key: _Group(index)}

    def add(self, group: GroupKey, ids: Iterable[int], vectors: Vectors) -> None:
        """Take unit vectors (N, D) float32 into a group."""
        wanted = np.fromiter(ids, dtype=np.int64)
        with self._write:
            found = self._groups.get(group)
            if found is None:
                found = _Group(self._backend.make(self.stamp, self.space, group))
                self._groups = {**self._groups, group: found}
            with found.write():
                found.index.add(wanted, np.atleast_2d(vectors))

    def remove(self, group: GroupKey, ids: Iterable[int]) -> None:
        """Forget cases of a group."""
        gone = np.fromiter(ids, dtype=np.int64)
        with self._write:
            found = self._groups.get(group)
            if found is None:
                return
            with found.write():
                found.index.remove(gone)
                empty = len(found.index) == 0
            if empty:
                self._groups = {key: other for key, other in self._groups.items() if key != group}

    def members(self, group: GroupKey) -> Ids:
        """Ids of a group (N,)."""
        found = self._groups.get(group)
        if found is None:
            return np.zeros(0, dtype=np.int64)
        with found.read():
            return found.index.ids()

    def vectors(self, group: GroupKey, ids: Ids) -> Vectors:
        """Unit vectors (N, D) of members of a group."""
        found = self._groups[group]
        with found.read():
            return found.index.vectors(ids)

    def search_group(self, group: GroupKey, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) inside one group, most similar first."""
        found = self._groups.get(group)
        if found is None:
            return np.zeros((len(queries), 0), dtype=np.float32), np.zeros((len(queries), 0), dtype=np.int64)
        with found.read():
            return found.index.search(queries, k)

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
        for key, group in self._groups.items():
            if (task and key.task != task) or (phase and key.phase != phase):
                continue
            with group.read():
                similarities, ids = group.index.search(queries, k)
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
