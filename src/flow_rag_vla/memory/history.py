# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was seen, felt and done lately, by time stamp."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

T = TypeVar("T")

JUMP_NS = 1_000_000_000
"""A stamp this far behind the newest is a clock that was set back, as when a bag starts over; the past is dropped."""


class Series(Generic[T]):
    """Values in the order of their stamps, as far back as ``span_ns`` from the newest.

    The last value before that is kept too: where only changes are noted, it is the one that was in force there.
    """

    def __init__(self, span_ns: int) -> None:
        self.span_ns = span_ns
        self._stamps: list[int] = []
        self._values: list[T] = []

    def __len__(self) -> int:
        """Number of values."""
        return len(self._stamps)

    def append(self, stamp_ns: int, value: T) -> None:
        """Take a value in; one that comes a little late finds its place, a clock set back empties the series."""
        if self._stamps and stamp_ns < self._stamps[-1] - JUMP_NS:
            self.clear()
        place = bisect_right(self._stamps, stamp_ns)
        self._stamps.insert(place, stamp_ns)
        self._values.insert(place, value)
        old = bisect_right(self._stamps, self._stamps[-1] - self.span_ns) - 1
        # In strides: moving a whole list at every append would cost more than the values are worth.
        if old >= 64 or old > len(self._stamps) // 2:
            del self._stamps[:old], self._values[:old]

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._values.clear()

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> tuple[int, T] | None:
        """Stamp and value nearest to a time, the earlier of two equals; None beyond the tolerance."""
        place = bisect_left(self._stamps, stamp_ns)
        best: int | None = None
        for candidate in (place - 1, place):
            if 0 <= candidate < len(self._stamps) and (
                best is None or abs(self._stamps[candidate] - stamp_ns) < abs(self._stamps[best] - stamp_ns)
            ):
                best = candidate
        if best is None or abs(self._stamps[best] - stamp_ns) > tolerance_ns:
            return None
        return self._stamps[best], self._values[best]

    def at(self, stamp_ns: int) -> T | None:
        """The newest value not newer than a time; None if there is none."""
        place = bisect_right(self._stamps, stamp_ns)
        return self._values[place - 1] if place else None

    def between(self, after_ns: int, until_ns: int) -> list[tuple[int, T]]:
        """Stamps and values in (after, until], oldest first."""
        first, last = bisect_right(self._stamps, after_ns), bisect_right(self._stamps, until_ns)
        return list(zip(self._stamps[first:last], self._values[first:last], strict=True))
