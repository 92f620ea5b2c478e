# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What failure detection costs: processor time of rules, monitor and before/after classifier."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.failure.before_after import BeforeAfter
from flow_rag_vla.failure.calibration import Calibration
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.monitor import Monitor
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.failure.trace import Trace

FRAMES_A_TICK = 0.25
"""Ten pictures a second, forty ticks."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of processor time: a frame in the monitor, a tick in the rules, and both together a tick.

    with_ms: a frame in a monitor that asks the before/after classifier too; NaN without one
    """

    frame_ms: float
    rules_tick_ms: float
    with_ms: float = math.nan

    @property
    def tick_ms(self) -> float:
        """What a tick costs, with a frame every fourth."""
        return self.rules_tick_ms + FRAMES_A_TICK * self.frame_ms

    @property
    def with_tick_ms(self) -> float:
        """What a tick costs with the before/after classifier; NaN without one."""
        return self.rules_tick_ms + FRAMES_A_TICK * self.with_ms


def measure_cost(
    calibration: Calibration,
    traces: Sequence[Trace],
    before_after: BeforeAfter | None = None,
    *,
    frames: int = 2000,
    ticks: int = 4000,
) -> Cost:
    """Processor time of the monitor on real frames, and of the rules on a tool under way."""
    frame_ms = _frame_ms(Monitor(calibration), traces, frames)
    with_ms = math.nan if before_after is None else _frame_ms(Monitor(calibration, before_after), traces, frames)
    detector, down = FailureDetector(), np.array([1.0, 0.0, 0.0, 0.0])
    detector.start(Episode(1, "pick_and_place", 0))
    states = [
        RobotState(tick * TICK_NS, np.array([0.5 + 0.1 * math.sin(tick / 20), 0.0, 0.2]), down)
        for tick in range(1, ticks + 1)
    ]
    commands = [Command(state.stamp_ns, CartesianTarget(state.position, down, 0.08)) for state in states]
    started = time.thread_time()
    for state, command in zip(states, commands, strict=True):
        detector.offer_command(command)
        detector.update(state)
    return Cost(frame_ms, (time.thread_time() - started) * 1e3 / ticks, with_ms)


def _frame_ms(monitor: Monitor, traces: Sequence[Trace], frames: int) -> float:
    done, started = 0, time.thread_time()
    while done < frames:
        for trace in traces:
            monitor.start()
            for frame in trace.frames:
                monitor.update(frame)
            done += len(trace.frames)
            if done >= frames:
                break
    return (time.thread_time() - started) * 1e3 / done
