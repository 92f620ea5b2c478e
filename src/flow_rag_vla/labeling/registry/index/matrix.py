# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Vectors (N, D) float32 by position: a part mapped from a file, larger than memory if need be, and one that grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Positions: TypeAlias = NDArray[np.int64]

CHUNK = 8_192
"""Vectors compared at once: small enough for the processor's cache."""
LEAST_ROOM = 1_024


class VectorMatrix:
    """Grows at its end only; a vector that is replaced gets a new position."""

    def __init__(self, dimension: int, base: Vectors | None = None) -> None:
        """Begin with the vectors of ``base`` (N, D), which is never written to."""
        self.dimension = dimension
        self._base = np.empty((0, dimension), np.float32) if base is None else base
        self._tail = np.empty((LEAST_ROOM, dimension), np.float32)
        self._count = 0

    def __len__(self) -> int:
        """Number of positions."""
        return len(self._base) + self._count

    def snapshot(self) -> VectorMatrix:
        """What it holds now, to be read while it grows; not to be grown itself."""
        still = VectorMatrix(self.dimension, self._base)
        still._tail, still._count = self._tail[: self._count], self._count
        return still

    def append(self, vectors: Vectors) -> Positions:
        """Take vectors (N, D) in; give their positions (N,)."""
        first, needed = len(self), self._count + len(vectors)
        if needed > len(self._tail):
            grown = np.empty((max(needed, 2 * len(self._tail)), self.dimension), np.float32)
            grown[: self._count] = self._tail[: self._count]
            self._tail = grown
        self._tail[self._count : needed] = vectors
        self._count = needed
        return np.arange(first, first + len(vectors), dtype=np.int64)

    def gather(self, positions: Positions) -> Vectors:
        """The vectors (N, D) at positions (N,)."""
        split = len(self._base)
        if split == 0:
            return self._tail[positions]
        found = np.empty((len(positions), self.dimension), np.float32)
        early = positions < split
        found[early] = self._base[positions[early]]
        found[~early] = self._tail[positions[~early] - split]
        return found

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, Vectors]]:
        """Every vector in order, as (first position, vectors (up to size, D))."""
        for start in range(0, len(self._base), size):
            yield start, self._base[start : start + size]
        for start in range(0, self._count, size):
            yield len(self._base) + start, self._tail[start : min(start + size, self._count)]

    def similarities(self, query: Vectors, positions: Positions | None = None) -> Vectors:
        """Inner products (N,) of a query (D,) with the vectors at positions (N,), None for all."""
        count = len(self) if positions is None else len(positions)
        found = np.empty(count, np.float32)
        if positions is None:
            for start, vectors in self.chunks():
                found[start : start + len(vectors)] = vectors @ query
        else:
            for start in range(0, count, CHUNK):
                part = slice(start, start + CHUNK)
                found[part] = self.gather(positions[part]) @ query
        return found

    def write(self, path: Path) -> None:
        """Write every vector to a new file, raw."""
        with path.open("xb") as stream:
            for _, vectors in self.chunks():
                stream.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())

    @classmethod
    def mapped(cls, path: Path, count: int, dimension: int) -> VectorMatrix:
        """The vectors of a file, read when they are needed.

        Raises:
            ValueError: the file has another size.
        """
        if path.stat().st_size != count * dimension * 4:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, expected {count * dimension * 4}")
        if count == 0:
            return cls(dimension)
        return cls(dimension, np.memmap(path, dtype="<f4", mode="r", shape=(count, dimension)))


def most_similar(similarities: Vectors, positions: Positions, k: int) -> tuple[Vectors, Positions]:
    """The k greatest of (N,) similarities with their positions, greatest first; of equals the lower position."""
    if k < len(positions):
        some = np.argpartition(-similarities, k - 1)[:k]
        similarities, positions = similarities[some], positions[some]
    order = np.lexsort((positions, -similarities))
    return similarities[order], positions[order]
