# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the failure memory has done since it was opened."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from flow_rag_vla.memory.case import EncoderStamp
from flow_rag_vla.memory.index import CaseIndex

WINDOW = 2048
"""Searches over which latencies are given."""


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """How searches are answered at the moment.

    kind: the way of the largest group, in words
    recall: the lowest that a group measured of itself, 1 where every search is a full scan
    waiting: vectors that are scanned exactly because the compressed parts do not have them yet
    source: where the index came from at the start
    """

    kind: str = "empty"
    recall: float = 1.0
    waiting: int = 0
    megabytes: float = 0.0
    building: bool = False
    source: str = ""
    problem: str = ""

    @staticmethod
    def of(index: CaseIndex | None, source: str, problem: str) -> IndexStatistics:
        """Those of an index of active cases."""
        states = [] if index is None else list(index.states().values())
        if not states:
            return IndexStatistics(source=source, problem=problem)
        return IndexStatistics(
            max(states, key=lambda state: state.vectors).kind,
            min(state.recall for state in states),
            sum(state.waiting for state in states),
            sum(state.megabytes for state in states),
            any(state.building for state in states),
            source,
            problem or next((state.problem for state in states if state.problem), ""),
        )


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """Counts since start, and latencies of the last searches in milliseconds (0 before the first)."""

    cases: int = 0
    retired: int = 0
    capacity: int = 0
    added: int = 0
    refused_duplicates: int = 0
    refused_invalid: int = 0
    pruned: int = 0
    refused_guard: int = 0
    success_situations: int = 0
    searches: int = 0
    cache_hits: int = 0
    search_p50_ms: float = 0.0
    search_p99_ms: float = 0.0
    threshold: float = 0.0
    calibrated: bool = False
    stamp: EncoderStamp | None = None
    calibration_id: str = ""
    index: IndexStatistics = field(default_factory=IndexStatistics)
    damage: str = ""


class Latencies:
    """The last ``WINDOW`` durations. Thread-safe."""

    def __init__(self) -> None:
        self._values = np.zeros(WINDOW, dtype=np.float32)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, milliseconds: float) -> None:
        """Take one in."""
        with self._lock:
            self._values[self._count % WINDOW] = milliseconds
            self._count += 1

    def percentiles(self) -> tuple[float, float]:
        """The median and the 99th percentile; zeros before the first."""
        with self._lock:
            values = self._values[: min(self._count, WINDOW)].copy()
        if values.size == 0:
            return 0.0, 0.0
        middle, high = np.percentile(values, [50, 99])
        return float(middle), float(high)
