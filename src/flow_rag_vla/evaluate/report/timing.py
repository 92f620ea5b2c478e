# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How well the loop kept its time, and how long each stage of the pipeline took."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.evaluate.report.digest import MODES, Command, Digest


@dataclass(frozen=True, slots=True)
class LoopTiming:
    """Intervals between consecutive commands.

    errors_ms: (N,) float64, |interval - 25 ms|; missing: ticks of which the bag has no command
    source: which times the intervals are taken from, in words
    """

    errors_ms: NDArray[np.float64]
    rate_hz: float
    late: int
    missing: int
    source: str

    @property
    def p50_ms(self) -> float:
        """Median error."""
        return float(np.percentile(self.errors_ms, 50)) if self.errors_ms.size else float("nan")

    @property
    def p99_ms(self) -> float:
        """99th percentile of the error."""
        return float(np.percentile(self.errors_ms, 99)) if self.errors_ms.size else float("nan")

    @property
    def max_ms(self) -> float:
        """Largest error."""
        return float(self.errors_ms.max()) if self.errors_ms.size else float("nan")


@dataclass(frozen=True, slots=True)
class Stage:
    """Latency of one stage. values_ms: (N,) float64, milliseconds."""

    name: str
    meaning: str
    values_ms: NDArray[np.float64]

    @property
    def p50_ms(self) -> float:
        """Median."""
        return float(np.percentile(self.values_ms, 50))

    @property
    def p99_ms(self) -> float:
        """99th percentile."""
        return float(np.percentile(self.values_ms, 99))


@dataclass(frozen=True, slots=True)
class ModeSpan:
    """A stretch in which the controller stayed in one mode; reception times in ns."""

    mode: str
    start_ns: int
    end_ns: int


def loop_timing(digest: Digest) -> LoopTiming | None:
    """Timing from the commands; None if there are fewer than two.

    The controller's own stamps are used. Simulated time only advances in whole ticks, so there the times of
    reception are, which add what the middleware and the recorder's machine did.
    """
    commands = digest.commands
    if len(commands) < 2:
        return None
    simulated = digest.simulated_clock
    times = np.array([item.log_ns if simulated else item.stamp_ns for item in commands], dtype=np.int64)
    ticks = np.array([item.tick for item in commands], dtype=np.int64)
    step = np.diff(ticks)
    whole = step == 1
    intervals = np.diff(times)[whole]
    errors = np.abs(intervals - TICK_NS) * 1e-6
    # Ticks count from the controller's start: a smaller one means that it was restarted, not that ticks are missing.
    missing = int((step[step > 1] - 1).sum())
    mean = float(intervals.mean()) if intervals.size else float("nan")
    return LoopTiming(
        errors_ms=errors,
        rate_hz=1e9 / mean if mean > 0 else float("nan"),
        late=int((intervals > 1.5 * TICK_NS).sum()),
        missing=missing,
        source="times of reception (time was simulated)" if simulated else "stamps of the commands",
    )


def stages(digest: Digest) -> tuple[Stage, ...]:
    """Latency of each stage, joined on the capture stamp that is passed on unchanged from the image to the command.

    Times of reception at the recorder mark the ends of stages, so each includes one hop of the middleware.
    """
    embedded = {item.stamp_ns: item.log_ns for item in digest.embeddings}
    answered = {item.stamp_ns: item.log_ns for item in digest.answers}
    chunks = {item.chunk_id: item for item in digest.chunks}
    first: dict[int, Command] = {}
    for command in digest.commands:
        if command.chunk_id and command.chunk_id not in first:
            first[command.chunk_id] = command
    captured = {stamp: digest.received_at(stamp) for stamp in embedded}
    followed = [(chunk, first[key]) for key, chunk in chunks.items() if key in first]
    rows = (
        (
            "capture to embedding",
            "from the images' stamp to their embedding",
            [embedded[stamp] - start for stamp, start in captured.items() if start is not None],
        ),
        (
            "embedding to correction",
            "search of the failure memory, in parallel with the policy",
            [log - embedded[stamp] for stamp, log in answered.items() if stamp in embedded],
        ),
        (
            "embedding to chunk",
            "policy, its wait for the correction included",
            [chunk.log_ns - embedded[chunk.stamp_ns] for chunk in chunks.values() if chunk.stamp_ns in embedded],
        ),
        (
            "chunk to command",
            "until the first tick that follows it",
            [command.log_ns - chunk.log_ns for chunk, command in followed],
        ),
        (
            "capture to command",
            "the whole way from light to motion",
            [
                command.log_ns - start
                for chunk, command in followed
                if (start := digest.received_at(chunk.stamp_ns)) is not None
            ],
        ),
    )
    return tuple(
        Stage(name, meaning, np.array(values, dtype=np.float64) * 1e-6) for name, meaning, values in rows if values
    )


def mode_spans(digest: Digest, start_ns: int = 0, stop_ns: int = 2**63 - 1) -> tuple[ModeSpan, ...]:
    """Modes of the controller over time, equal neighbours joined."""
    spans: list[ModeSpan] = []
    first, last = (bisect.bisect_left(digest.commands, at, key=lambda item: item.log_ns) for at in (start_ns, stop_ns))
    for command in digest.commands[first:last]:
        mode = MODES[command.mode] if command.mode < len(MODES) else f"mode {command.mode}"
        if spans and spans[-1].mode == mode:
            spans[-1] = ModeSpan(mode, spans[-1].start_ns, command.log_ns)
        else:
            if spans:
                spans[-1] = ModeSpan(spans[-1].mode, spans[-1].start_ns, command.log_ns)
            spans.append(ModeSpan(mode, command.log_ns, command.log_ns))
    return tuple(spans)
