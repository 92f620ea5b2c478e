# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loop's view of time: jumps of the node's clock, and the tick that a moment belongs to.

Two clocks run side by side. Stamps, and so the rows of a chunk, live on the node's clock, which may be set, slewed or
simulated. Ages that safety hangs on live on a steady clock, which never jumps. All times are integer nanoseconds.
"""

from __future__ import annotations

from flow_rag_vla.core.action import TICK_NS


class ClockWatch:
    """Notices when the node's clock moves otherwise than the steady one."""

    def __init__(self, tolerance_ns: int) -> None:
        self.tolerance_ns = tolerance_ns
        self.steady_back_ns = 0
        """How far the steady clock itself ran back at the last call: more than 0 on simulated time only."""
        self._last: tuple[int, int] | None = None

    def observe(self, now_ns: int, steady_ns: int) -> int:
        """Give the size of a jump since the last call, positive forwards; 0 if there was none.

        On simulated time both clocks are the same one; there a steady clock that runs backwards is the jump.
        """
        last, self._last = self._last, (now_ns, steady_ns)
        self.steady_back_ns = 0
        if last is None:
            return 0
        elapsed, steady = now_ns - last[0], steady_ns - last[1]
        self.steady_back_ns = max(0, -steady)
        if steady < 0:
            return elapsed if elapsed < 0 else steady
        return elapsed - steady if abs(elapsed - steady) > self.tolerance_ns else 0


class TickSchedule:
    """The moment that a tick stands for, free of its jitter.

    Rows of a chunk are chosen by ``floor((t - stamp) / TICK)``. With the measured time as ``t``, jitter across the edge
    of a row would use one row twice and leave the next one out; with the scheduled time every row is used once.
    """

    def __init__(self) -> None:
        self._scheduled_ns: int | None = None

    def at(self, now_ns: int) -> int:
        """Scheduled time of the tick that starts at ``now_ns``, at most half a period away from it."""
        scheduled = now_ns if self._scheduled_ns is None else self._scheduled_ns + TICK_NS
        if 2 * abs(now_ns - scheduled) > TICK_NS:
            scheduled = now_ns
        self._scheduled_ns = scheduled
        return scheduled

    @property
    def scheduled_ns(self) -> int | None:
        """Scheduled time of the last tick; None before the first."""
        return self._scheduled_ns

    def expect(self, scheduled_ns: int) -> None:
        """Take this for the scheduled time of the next tick: a replay keeps the phase of the recorded loop."""
        self._scheduled_ns = scheduled_ns - TICK_NS

    def restart(self) -> None:
        """Take the next tick's own time as its scheduled one."""
        self._scheduled_ns = None
