# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How the time of a bag passes while it is played: at a rate, not at all, or one step at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Playback:
    """Lets bag time pass no faster than asked, and tells it on the way, in small steps.

    One thread plays: it calls `begin` and `until`. Any other may pause, resume, step and end it meanwhile.
    """

    def __init__(
        self, tell: Callable[[int], None], rate: Callable[[], float], period_s: Callable[[], float], *, paused: bool
    ) -> None:
        """Stand still at no time yet.

        Args:
            tell: gets the bag's time, nanoseconds, whenever it has moved on.
            rate: seconds of the bag a second, asked at every step; call `changed` when it is another.
            period_s: seconds of the bag from one telling to the next, at most.
            paused: whether time stands still until `resume` or `step`.
        """
        self._tell, self._rate, self._period_s = tell, rate, period_s
        self._condition = threading.Condition()
        self._paused = paused
        self._steps_ns = 0
        self._ended = False
        self._told_ns = 0
        self._anchor: tuple[int, int, float] | None = None

    @property
    def paused(self) -> bool:
        """Whether time stands still but for steps."""
        return self._paused

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be played."""
        return self._ended

    def pause(self) -> None:
        """Stand still; steps that were asked for and not made are forgotten."""
        with self._condition:
            self._paused, self._steps_ns = True, 0
            self._condition.notify_all()

    def resume(self) -> None:
        """Go on at the rate."""
        with self._condition:
            self._paused = False
            self._condition.notify_all()

    def step(self, step_ns: int) -> None:
        """Go on for so much bag time, then stand still."""
        with self._condition:
            self._paused = True
            self._steps_ns += step_ns
            self._condition.notify_all()

    def changed(self) -> None:
        """The rate is another: ask for it now."""
        with self._condition:
            self._condition.notify_all()

    def end(self) -> None:
        """Let nobody wait any longer."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def begin(self, position_ns: int) -> None:
        """Begin, or begin again, at a moment of the bag, nanoseconds; it is told."""
        self._anchor, self._told_ns = None, position_ns
        self._tell(position_ns)

    def until(self, stamp_ns: int) -> bool:
        """Wait until bag time has reached a moment, nanoseconds; False when it ended before."""
        period_ns = int(self._period_s() * 1e9)
        while self._told_ns < stamp_ns:
            target_ns = min(stamp_ns, self._told_ns + period_ns)
            if not self._reached(target_ns):
                return False
            self._told_ns = target_ns
            self._tell(target_ns)
        return not self._ended

    def _reached(self, target_ns: int) -> bool:
        with self._condition:
            while not self._ended:
                if self._paused:
                    self._anchor = None
                    if self._steps_ns > 0:
                        self._steps_ns = max(0, self._steps_ns - (target_ns - self._told_ns))
                        return True
                    self._condition.wait()
                    continue
                rate = self._rate()
                if self._anchor is None or self._anchor[2] != rate:
                    self._anchor = time.monotonic_ns(), self._told_ns, rate
                began_ns, from_ns, _ = self._anchor
                left_ns = began_ns + int((target_ns - from_ns) / rate) - time.monotonic_ns()
                if left_ns <= 0:
                    return True
                self._condition.wait(left_ns * 1e-9)
        return False
