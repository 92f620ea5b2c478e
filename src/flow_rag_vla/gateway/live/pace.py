# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How often the page is fed: less while the 40 Hz loop is late, and not at all while nobody looks."""

from __future__ import annotations

import threading
from dataclasses import dataclass

HIGHEST = 3
"""Each level halves the rates; the highest leaves an eighth."""

BACK_OFF_S = 10.0
"""How long a level stays after the last late tick."""

PATIENCE_S = 4.0
"""How long after a page's last request it counts as looked at: a page that reloads keeps the subscriptions."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Pictures and data a second, and the level that led to them."""

    image_hz: float
    data_hz: float
    level: int


class Pace:
    """Rates from what the loop reports. Any thread may call it."""

    def __init__(self, image_hz: float, data_hz: float) -> None:
        self._image_hz, self._data_hz = image_hz, data_hz
        self._level, self._since_s = 0, 0.0
        self._late: int | None = None
        self._lock = threading.Lock()

    def configure(self, image_hz: float, data_hz: float) -> None:
        """Take other rates; how far they are lowered stays."""
        with self._lock:
            self._image_hz, self._data_hz = image_hz, data_hz

    def report(self, late_ticks: int, now_s: float) -> None:
        """Take in the loop's count of late and skipped ticks since it started; a smaller one is a new loop's."""
        with self._lock:
            before, self._late = self._late, late_ticks
            if before is not None and late_ticks > before:
                self._level, self._since_s = min(self._level + 1, HIGHEST), now_s

    def rates(self, now_s: float) -> Rates:
        """The rates now; ``now_s`` is of a steady clock."""
        with self._lock:
            while self._level and now_s - self._since_s >= BACK_OFF_S:
                self._level -= 1
                self._since_s += BACK_OFF_S
            share = 0.5**self._level
            return Rates(self._image_hz * share, self._data_hz * share, self._level)


class Audience:
    """Who looks. A page counts from each of its requests on for ``PATIENCE_S``; a hidden page asks for nothing."""

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._viewers: dict[int, tuple[float, float]] = {}
        self._count = 0
        self._left = (float("-inf"), float("-inf"))
        """When those who have gone last asked for data and for pictures."""

    def enter(self) -> int | None:
        """A viewer's number, or None if there are too many."""
        with self._lock:
            if len(self._viewers) >= self._capacity:
                return None
            self._count += 1
            self._viewers[self._count] = (float("-inf"), float("-inf"))
            return self._count

    def looked(self, viewer: int, images: bool, now_s: float) -> None:
        """One request of a viewer."""
        with self._lock:
            before = self._viewers[viewer][1]
            self._viewers[viewer] = now_s, now_s if images else before

    def leave(self, viewer: int) -> None:
        """The viewer has gone; those who reload are back before what they saw is given up."""
        with self._lock:
            data, images = self._viewers.pop(viewer)
            self._left = max(self._left[0], data), max(self._left[1], images)

    @property
    def size(self) -> int:
        """Pages that are open."""
        return len(self._viewers)

    def looking(self, now_s: float) -> bool:
        """Whether anybody looks at data."""
        return self._latest(0) > now_s - PATIENCE_S

    def looking_at_images(self, now_s: float) -> bool:
        """Whether anybody looks at pictures."""
        return self._latest(1) > now_s - PATIENCE_S

    def _latest(self, what: int) -> float:
        with self._lock:
            return max([self._left[what], *(seen[what] for seen in self._viewers.values())])
