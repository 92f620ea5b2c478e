# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The vectors themselves, two bytes a number: what candidates are compared with exactly.

A number x of a unit vector is kept as round(32767 x). A similarity then errs by less than 1e-4, about 1e-5 at 512
numbers, which is finer than float16, and the processor turns such numbers into float32 faster.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.backends.base import Vectors

Fixed = NDArray[np.int16]

SCALE = 32767.0

CHUNK = 8192
"""Rows made float32 at once by a scan: 16 MB at 512 numbers."""


def fixed(vectors: Vectors) -> Fixed:
    """(N, D) int16 of (N, D) float32 unit vectors."""
    return np.asarray(np.rint(vectors * np.float32(SCALE)), dtype=np.int16)


def floats(rows: Fixed) -> Vectors:
    """(N, D) float32 of (N, D) int16."""
    return rows.astype(np.float32) * np.float32(1.0 / SCALE)


_scratch = threading.local()


class Originals:
    """Rows (N, D) int16 of which more can be appended while others read the first N.

    The first ones may lie in a file that is mapped into memory, those appended are in memory. Each value is a view of
    fixed length: readers keep theirs, the one writer appends and gets a longer one.
    """

    def __init__(self, base: Fixed, extra: Fixed | None = None, count: int | None = None) -> None:
        """Take rows; the other two arguments are for :meth:`appended`."""
        self._base = base
        self._extra: Fixed = np.empty((0, base.shape[1]), dtype=np.int16) if extra is None else extra
        self._count = len(base) if count is None else count

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    @property
    def dimension(self) -> int:
        """Numbers in a row."""
        return int(self._base.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self._count * self.dimension * 2

    def appended(self, rows: Fixed) -> Originals:
        """These rows and others (N, D) after them. Only the newest value may be appended to."""
        used = self._count - len(self._base)
        extra = self._extra
        if used + len(rows) > len(extra):
            extra = np.empty((max(2 * len(extra), used + len(rows)), self.dimension), dtype=np.int16)
            extra[:used] = self._extra[:used]
        extra[used : used + len(rows)] = rows
        return Originals(self._base, extra, self._count + len(rows))

    def take(self, places: NDArray[np.int64]) -> Fixed:
        """Rows (N, D) at places (N,)."""
        if len(places) == 0 or int(places.max()) < len(self._base):
            return np.asarray(np.take(self._base, places, axis=0))
        found = np.empty((len(places), self.dimension), dtype=np.int16)
        appended = places >= len(self._base)
        found[~appended] = self._base[places[~appended]]
        found[appended] = self._extra[places[appended] - len(self._base)]
        return found

    def similarities(self, query: Vectors, places: NDArray[np.int64]) -> Vectors:
        """Inner products (N,) of a query (D,) with the rows at places (N,)."""
        count = len(places)
        buffers: tuple[Fixed, Vectors] | None = getattr(_scratch, "buffers", None)
        if buffers is None or len(buffers[0]) < count or buffers[0].shape[1] != self.dimension:
            # Kept: asking the system for megabytes at every search costs more than the search.
            shape = (max(count, 256), self.dimension)
            buffers = _scratch.buffers = (np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.float32))
        rows, wide = buffers[0][:count], buffers[1][:count]
        if count == 0 or int(places.max()) < len(self._base):
            np.take(self._base, places, axis=0, out=rows, mode="clip")
        elif int(places.min()) >= len(self._base):
            np.take(self._extra, places - len(self._base), axis=0, out=rows, mode="clip")
        else:
            rows[:] = self.take(places)
        np.copyto(wide, rows)
        # Not a matrix product, which would wake the other threads of numpy's library.
        return np.asarray(np.einsum("ij,j->i", wide, query * np.float32(1.0 / SCALE)), dtype=np.float32)

    def slice(self, start: int, stop: int) -> Fixed:
        """Rows from one place to before another."""
        edge = len(self._base)
        if stop <= edge:
            return np.asarray(self._base[start:stop])
        if start >= edge:
            return self._extra[start - edge : stop - edge]
        return np.concatenate([self._base[start:edge], self._extra[: stop - edge]])

    def chunks(self, start: int = 0, stop: int | None = None, size: int = CHUNK) -> Iterator[tuple[int, Vectors]]:
        """The rows in float32, a chunk at a time, each with the place of its first row."""
        end = self._count if stop is None else stop
        for first in range(start, end, size):
            yield first, floats(self.slice(first, min(first + size, end)))

    def selected(self, keep: NDArray[np.bool_]) -> Originals:
        """A copy of the rows for which (N,) is true."""
        places = np.flatnonzero(keep)
        found = np.empty((len(places), self.dimension), dtype=np.int16)
        for first in range(0, len(places), CHUNK):
            found[first : first + CHUNK] = self.take(places[first : first + CHUNK])
        return Originals(found)
