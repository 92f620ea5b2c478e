# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How the loop does: tick errors, processor time and stage latencies in rings of fixed size.

Recording costs the same at every tick and allocates nothing; figures are worked out when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import TICK_NS


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, 99th percentile (nearest rank) and maximum of ``count`` values; zeros without any."""

    count: int
    p50: float
    p99: float
    maximum: float
    mean: float


class Ring:
    """The last ``size`` values."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a ring of {size} values cannot hold any; use at least 1")
        self._values: NDArray[np.float64] = np.zeros(size)
        self._size = size
        self._next = 0
        self.total = 0
        """Values seen, those overwritten included."""

    def add(self, value: float) -> None:
        """Add one value, in place of the oldest when full."""
        self._values[self._next] = value
        self._next = (self._next + 1) % self._size
        self.total += 1

    def summary(self) -> Summary:
        """Figures over the values held."""
        count = min(self.total, self._size)
        if count == 0:
            return Summary(0, 0.0, 0.0, 0.0, 0.0)
        ranked = np.sort(self._values[:count])
        p50, p99 = ranked[-(-count // 2) - 1], ranked[-(-count * 99 // 100) - 1]
        return Summary(count, float(p50), float(p99), float(ranked[-1]), float(ranked.mean()))


class TickWatch:
    """Compares the ticks with a schedule of one every 25 ms.

    late: started more than half a period after its time
    skipped: periods in which no tick started
    """

    def __init__(self) -> None:
        self.ticks = 0
        self.late = 0
        self.skipped = 0
        self._last_ns: int | None = None
        self._expected_ns = 0

    def observe(self, steady_ns: int) -> tuple[int | None, bool]:
        """Note a tick; give its interval in nanoseconds (None for the first) and whether it was late."""
        self.ticks += 1
        last, self._last_ns = self._last_ns, steady_ns
        if last is None:
            self._expected_ns = steady_ns + TICK_NS
            return None, False
        lateness = steady_ns - self._expected_ns
        late = 2 * lateness > TICK_NS
        if late:
            self.late += 1
            missed = lateness // TICK_NS
            self.skipped += missed
            self._expected_ns += (1 + missed) * TICK_NS
        elif 2 * lateness < -TICK_NS:
            # Earlier than any timer with a phase: its schedule began anew, and so does this one.
            self._expected_ns = steady_ns + TICK_NS
        else:
            self._expected_ns += TICK_NS
            if lateness < 0:
                # The first tick may have been late itself; the earliest phase seen is the schedule.
                self._expected_ns += lateness
        return steady_ns - last, late

    def restart(self) -> None:
        """Begin a schedule with the next tick; what was counted stays."""
        self._last_ns = None


STAGES = ("capture_to_chunk", "chunk_to_command", "capture_to_command")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of the last window (milliseconds), and counts since the start."""

    window_s: float
    rate_hz: float
    tick_error: Summary
    cpu: Summary
    stages: tuple[tuple[str, Summary], ...]
    ticks: int
    late: int
    skipped: int
    starved: int


class LoopStatistics:
    """Gathers the loop's figures over the last ``window_ticks`` ticks."""

    def __init__(self, window_ticks: int) -> None:
        self.watch = TickWatch()
        self.starved = 0
        self._errors = Ring(window_ticks)
        self._intervals = Ring(window_ticks)
        self._cpu = Ring(window_ticks)
        self._stages = {name: Ring(window_ticks) for name in STAGES}

    def record_tick(self, steady_ns: int) -> bool:
        """Note that a tick starts; give whether it is late."""
        interval, late = self.watch.observe(steady_ns)
        if interval is not None:
            self._intervals.add(interval / 1e6)
            self._errors.add(abs(interval - TICK_NS) / 1e6)
        return late

    def record_cpu(self, cpu_ns: int) -> None:
        """Note the processor time of one tick's body."""
        self._cpu.add(cpu_ns / 1e6)

    def record_stage(self, stage: str, latency_ns: int) -> None:
        """Note the latency of one of ``STAGES``."""
        self._stages[stage].add(latency_ns / 1e6)

    def figures(self) -> Statistics:
        """Figures now."""
        intervals = self._intervals.summary()
        window = intervals.mean * intervals.count / 1e3
        return Statistics(
            window_s=window,
            rate_hz=1e3 / intervals.mean if intervals.mean > 0.0 else 0.0,
            tick_error=self._errors.summary(),
            cpu=self._cpu.summary(),
            stages=tuple((name, ring.summary()) for name, ring in self._stages.items()),
            ticks=self.watch.ticks,
            late=self.watch.late,
            skipped=self.watch.skipped,
            starved=self.starved,
        )
