# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every index over the vectors of one group promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.store import StoreError

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class IndexState:
    """How an index answers at the moment.

    kind: the way it searches, in words
    vectors: how many it holds
    recall: share of the true nearest 5 that its searches bring up, measured on vectors of its own against an exact
        scan; 1 where every search is one
    waiting: vectors that every search scans because the compressed part does not have them yet
    megabytes: of memory and of files mapped into it (10^6 bytes)
    building: whether a better one is being made in the background
    problem: why the last build in the background failed; "" if it did not
    """

    kind: str
    vectors: int
    recall: float = 1.0
    waiting: int = 0
    megabytes: float = 0.0
    building: bool = False
    problem: str = ""


class VectorIndex(Protocol):
    """Inner products with unit vectors (N, D) float32, each known by an int64 id.

    What reads may be called from several threads at once; what changes is called alone, and beside reads only where
    ``concurrent`` is true.
    """

    concurrent: bool

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

    def state(self) -> IndexState:
        """How it answers at the moment."""
        ...


IndexFactory = Callable[[int], VectorIndex]
"""Makes an empty index for a dimension."""


class IndexUnavailableError(StoreError):
    """An index on another machine cannot be reached or refuses; the text says which, why, and what to do."""


def best(similarities: Vectors, ids: Ids, k: int) -> tuple[Vectors, Ids]:
    """The k most similar of each row of (Q, N) similarities and ids, most similar first; of equals the lower id."""
    count = min(k, similarities.shape[1])
    if len(ids) == 1:
        return _best_of_one(similarities[0], ids[0], count)
    rows = np.arange(len(ids))[:, np.newaxis]
    if 0 < count < similarities.shape[1]:
        some = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
        similarities, ids = similarities[rows, some], ids[rows, some]
    order = np.lexsort((ids, -similarities), axis=1)[:, :count]
    return similarities[rows, order], ids[rows, order]


def _best_of_one(similarities: Vectors, ids: Ids, count: int) -> tuple[Vectors, Ids]:
    """As :func:`best` of one row: half the calls, and the first search after a pause pays for each of them."""
    beyond = len(similarities) - count
    if count and beyond:
        some = similarities.argpartition(beyond)[beyond:]
        similarities, ids = similarities[some], ids[some]
    order = np.lexsort((ids, -similarities))[:count]
    return similarities[np.newaxis, order], ids[np.newaxis, order]
