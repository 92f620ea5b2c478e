# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Labeling makes way for the control loop: while ticks come late it pauses, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class LoopWatch:
    """Whether the loop needs the machine for itself, from its own reports. Any thread may ask.

    Time is of a steady clock, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._count: int | None = None
        self._until = float("-inf")
        self.pauses = 0
        """Times that labeling began to pause."""

    def report(self, late: int, tolerated: int, pause_s: float) -> None:
        """One report of the loop.

        Args:
            late: its late and skipped ticks since it started; fewer than before: it was started anew.
            tolerated: new ones from which labeling pauses; 0: it never does.
            pause_s: for how long.
        """
        with self._lock:
            before, self._count = self._count, late
            if not tolerated or before is None or late - before < tolerated:
                return
            now = self._clock()
            if now >= self._until:
                self.pauses += 1
            self._until = now + pause_s

    @property
    def paused(self) -> bool:
        """Whether labeling should wait now."""
        return self._clock() < self._until

    def wait(self, ended: threading.Event) -> None:
        """Return when it need not wait any longer, or at once when ``ended`` is set."""
        while (rest := self._until - self._clock()) > 0.0 and not ended.wait(min(rest, 0.2)):
            pass
