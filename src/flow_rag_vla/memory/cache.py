# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The last searches, so that a scene that stands still is searched once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import numpy as np

from flow_rag_vla.memory.case import Array

T = TypeVar("T")

QUANTA = 2048
"""Steps per unit of an embedding in a key: two embeddings with equal keys differ by less than 1e-3 in similarity."""


def quantised(embedding: Array) -> bytes:
    """Key of a unit vector (D,) float32: its numbers on a grid of 1 / QUANTA."""
    return np.rint(embedding * QUANTA).astype(np.int16).tobytes()


class LruCache(Generic[T]):
    """The ``size`` values used last. Thread-safe; a size of 0 keeps nothing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of values held."""
        return len(self._values)

    def get(self, key: Hashable) -> T | None:
        """The value of a key, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: T) -> None:
        """Keep a value; the one that was unused longest goes if there are too many."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.size:
                self._values.popitem(last=False)

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forget some; what is not there is ignored."""
        with self._lock:
            for key in keys:
                self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
