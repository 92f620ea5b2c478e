# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the whole machine stood still: nearly no process ran, and no program had the processors meanwhile."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from flow_rag_vla.evaluate.chaos.stretch import Stretch

BEAT_NS = 20_000_000
"""How often a thread of each node wakes, whatever the node does and hears (``nodes.clock_guard``)."""

SILENCE_NS = 3 * BEAT_NS
"""So long without a beat is no chance."""

FEW_BEATS = 0.2
"""Share of the beats that were due, up to which a stretch between two readings counts as silent."""

MOST, LEAST_PROCESSES = 0.8, 5
"""Share of the watched processes that must be silent at once, and how many there must be."""

LARGEST_BUSY = 0.5
"""Share of the processors' time. Where more of it was used, somebody had them: that is no standstill."""


@dataclass
class _Process:
    thread: int
    count: int
    since_ns: int
    """Of the silence that lasts, if one does: the last reading at which a beat was seen."""

    seen_ns: int
    watched: list[Stretch] = field(default_factory=list)
    silent: list[Stretch] = field(default_factory=list)
    first_ns: int = 0


class Heartbeats:
    """When each of the watched processes was silent, from how often a thread of it had been given a processor."""

    def __init__(self) -> None:
        self._processes: dict[str, _Process] = {}

    def add(self, at_ns: int, counts: Mapping[str, tuple[int, int]]) -> None:
        """A reading, later than those before.

        Args:
            at_ns: steady time.
            counts: by name of the process: the thread's number and how often it ran. One that is not there is down.
        """
        for name, known in self._processes.items():
            if counts.get(name, (-1, 0))[0] != known.thread:
                self._end(known)
        for name, (thread, count) in counts.items():
            one = self._processes.get(name)
            if one is None:
                one = self._processes[name] = _Process(-1, 0, 0, 0)
            if one.thread != thread:
                one.thread, one.count, one.since_ns, one.seen_ns, one.first_ns = thread, count, at_ns, at_ns, at_ns
                continue
            # A reader that was held up itself sees the beats of the edges, too.
            if (count - one.count) * BEAT_NS > FEW_BEATS * (at_ns - one.seen_ns):
                self._silence(one, one.seen_ns)
                one.since_ns = at_ns
            one.count, one.seen_ns = count, at_ns

    def still(self, stretch: Stretch) -> list[Stretch]:
        """The parts of a stretch in which most of the processes were silent."""
        watched = [[*one.watched, Stretch(one.first_ns, one.seen_ns)] for one in self._processes.values()]
        silent = [[*one.silent, *_long(one.since_ns, one.seen_ns)] for one in self._processes.values()]
        inside = [part for parts in (*watched, *silent) for part in parts if part.overlap_ns(stretch)]
        edges = {stretch.start_ns, stretch.end_ns}
        edges |= {edge for part in inside for edge in (part.start_ns, part.end_ns)}
        places = sorted(edge for edge in edges if stretch.start_ns <= edge <= stretch.end_ns)
        found: list[Stretch] = []
        for start, end in pairwise(places):
            part = Stretch(start, end)
            there = sum(any(part.overlap_ns(one) for one in parts) for parts in watched)
            quiet = sum(any(part.overlap_ns(one) for one in parts) for parts in silent)
            if there < LEAST_PROCESSES or quiet < MOST * there:
                continue
            if found and found[-1].end_ns == start:
                part = Stretch(found.pop().start_ns, end)
            found.append(part)
        return found

    def _end(self, one: _Process) -> None:
        if one.thread < 0:
            return
        self._silence(one, one.seen_ns)
        one.watched.append(Stretch(one.first_ns, one.seen_ns))
        one.thread = -1
        one.first_ns = one.since_ns = one.seen_ns

    @staticmethod
    def _silence(one: _Process, end_ns: int) -> None:
        one.silent += _long(one.since_ns, end_ns)


class Processors:
    """What the processors did, by the kernel's count: busy for somebody, or taken away by the host (``steal``)."""

    def __init__(self, count: int) -> None:
        self._times = array("q")
        self._busy = array("q")
        self._stolen = [array("q") for _ in range(count)]

    def add(self, at_ns: int, busy_ns: int, stolen_ns: Sequence[int]) -> None:
        """A reading, later than those before: all processors' busy time so far, and of each what was stolen."""
        self._times.append(at_ns)
        self._busy.append(busy_ns)
        for series, value in zip(self._stolen, stolen_ns, strict=True):
            series.append(value)

    def busy(self, stretch: Stretch) -> float:
        """Share of the processors' time that somebody had, from the reading before to the one behind; 1 if unknown."""
        first, last = around(self._times, stretch)
        if last <= first:
            return 1.0
        lasted = (self._times[last] - self._times[first]) * len(self._stolen)
        return (self._busy[last] - self._busy[first]) / lasted

    def stolen_ns(self, processor: int | None, stretch: Stretch) -> int:
        """What the host took of one processor, from the reading before to the one behind; 0 if unknown."""
        first, last = around(self._times, stretch)
        if processor is None or not 0 <= processor < len(self._stolen) or last <= first:
            return 0
        return self._stolen[processor][last] - self._stolen[processor][first]


def standstill(beats: Heartbeats, processors: Processors, stretch: Stretch) -> list[Stretch]:
    """The parts of a stretch in which the machine stood still.

    Where programs had the processors while others waited, that is no standstill: what the loop waited for is counted by
    its own thread's wait.
    """
    return [part for part in beats.still(stretch) if processors.busy(part) <= LARGEST_BUSY]


def around(times: Sequence[int], stretch: Stretch) -> tuple[int, int]:
    """Where the last reading before a stretch and the first behind it are; not larger if there is none."""
    first = max(bisect_right(times, stretch.start_ns) - 1, 0)
    return first, min(bisect_left(times, stretch.end_ns), len(times) - 1)


def _long(start_ns: int, end_ns: int) -> list[Stretch]:
    return [Stretch(start_ns, end_ns)] if end_ns - start_ns >= SILENCE_NS else []
