"""What the failure memory has done since it was opened."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.memory.case import EncoderStamp

WINDOW = 2048
"""Searches over which latencies are given."""


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
    searches: int = 0
    cache_hits: int = 0
    search_p50_ms: float = 0.0
    search_p99_ms: float = 0.0
    threshold: float = 0.0
    calibrated: bool = False
    stamp: EncoderStamp | None = None
    calibration_id: str = ""


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
