# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How long what a benchmark repeats took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; ``cpu_p99`` of processor time, which other programs do not lengthen (0: not measured)."""

    p50: float
    p99: float
    maximum: float
    count: int
    cpu_p99: float = 0.0

    @staticmethod
    def of(milliseconds: Sequence[float], processor: Sequence[float] = (0.0,)) -> Latency:
        """Percentiles of measurements."""
        values = np.asarray(milliseconds)
        middle, high = np.percentile(values, [50, 99])
        busy = float(np.percentile(np.asarray(processor), 99))
        return Latency(float(middle), float(high), float(values.max()), len(values), busy)
