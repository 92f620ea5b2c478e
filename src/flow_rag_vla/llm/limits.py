# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Token buckets, bounded retries with jitter."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class TokenBucket:
    """Lets ``per_minute`` units through on average and ``burst`` at once.

    A caller takes its units at once and is told how long to wait before it goes on, so callers are served in the order
    in which they came. Not blocking and safe between threads.
    """

    def __init__(self, per_minute: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        if per_minute <= 0.0 or burst <= 0.0:
            raise ValueError(f"rate {per_minute} a minute with a burst of {burst}: both must be above 0")
        self._rate = per_minute / 60.0
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()
        self._lock = threading.Lock()

    def take(self, amount: float = 1.0) -> float:
        """Take units; return the seconds to wait before using them, 0 if they were there.

        More than the burst can be taken; it is waited for.
        """
        with self._lock:
            self._refill()
            self._level -= amount
            return max(0.0, -self._level / self._rate)

    def give_back(self, amount: float = 1.0) -> None:
        """Return units that were taken and not used."""
        with self._lock:
            self._refill()
            self._level = min(self._burst, self._level + amount)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after how long, a failed call is made again.

    The wait before retry n (from 0) is drawn evenly from 0 to min(cap, base 2^n): "full jitter", Brooker, AWS
    Architecture Blog 2015. A provider that names its own wait gets at least that.
    """

    attempts: int = 3
    base_s: float = 0.5
    cap_s: float = 8.0

    def wait_s(self, retry: int, asked_s: float | None, rng: random.Random) -> float:
        """Seconds before retry ``retry``."""
        drawn = rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0**retry))
        return drawn if asked_s is None else max(asked_s, drawn)
