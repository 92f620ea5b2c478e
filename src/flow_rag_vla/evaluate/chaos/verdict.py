"""Whose a gap in the command stream is: the loop's, that of a controller that was down, or the machine's."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from flow_rag_vla.evaluate.chaos.watch import PERIOD_NS, Gap

LOOP, DOWN, MACHINE = "loop", "controller down", "machine"


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when to when, steady nanoseconds."""

    start_ns: int
    end_ns: int

    def overlap_ns(self, other: Stretch) -> int:
        """How much both have in common."""
        return max(0, min(self.end_ns, other.end_ns) - max(self.start_ns, other.start_ns))


class ProcessorWaits:
    """How long a thread stood ready without being given a processor, by the kernel's own count (``schedstat``)."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._waited: list[int] = []
        self._of: list[int] = []

    def add(self, at_ns: int, pid: int, waited_ns: int) -> None:
        """A reading of the count, later than those before."""
        self._times.append(at_ns)
        self._waited.append(waited_ns)
        self._of.append(pid)

    def between_ns(self, stretch: Stretch) -> int:
        """The wait in a stretch, from the last reading before it to the first behind it; 0 where there is none."""
        first = max(bisect_right(self._times, stretch.start_ns) - 1, 0)
        last = min(bisect_left(self._times, stretch.end_ns), len(self._times) - 1)
        if last <= first or self._of[first] != self._of[last]:
            return 0
        return self._waited[last] - self._waited[first]


@dataclass(frozen=True, slots=True)
class GapVerdict:
    """One gap and what is to be said of it.

    held: whether the receiving end named a hold during it
    wrong: whether it should not be
    waited_ms: how long the loop's thread waited for a processor meanwhile
    """

    gap: Gap
    owner: str
    held: bool
    wrong: bool
    waited_ms: float = 0.0


def judge_gap(
    gap: Gap,
    stalls: Sequence[Stretch],
    waits: ProcessorWaits,
    down: Sequence[Stretch],
    holds: Sequence[Stretch],
    timeout_ns: int,
) -> GapVerdict:
    """Whose the gap is, and whether it was held.

    Args:
        gap: more than two periods without a command.
        stalls: intervals between two ticks of an empty timer beside the loop that were late.
        waits: how long the loop's thread waited for a processor.
        down: when the controller was killed, paused or starting.
        holds: when the receiving end held for want of commands.
        timeout_ns: silence after which the receiving end holds. A hold is due one of its periods later, so that a gap
            up to two periods longer than this need not have one.
    """
    stretch = Stretch(gap.start_ns, gap.end_ns)
    # The receiving end says so when it has noticed, and takes it back with the first command.
    held = any(hold.overlap_ns(Stretch(gap.start_ns, gap.end_ns + PERIOD_NS)) > 0 for hold in holds)
    if any(stretch.overlap_ns(Stretch(one.start_ns - PERIOD_NS, one.end_ns)) > 0 for one in down):
        due = gap.end_ns - gap.start_ns > timeout_ns + 2 * PERIOD_NS
        return GapVerdict(gap, DOWN, held, due and not held)
    near = Stretch(gap.start_ns - PERIOD_NS, gap.end_ns + PERIOD_NS)
    stalled = sum(near.overlap_ns(Stretch(one.start_ns, one.end_ns)) for one in stalls)
    waited = waits.between_ns(stretch)
    # Without what the machine took there would have been no gap: an empty timer lost as much, or the loop was ready to
    # run and was not let.
    length = gap.end_ns - gap.start_ns
    if (stalled and stalled + PERIOD_NS >= length) or length - waited <= 2 * PERIOD_NS:
        return GapVerdict(gap, MACHINE, held, False, waited / 1e6)
    return GapVerdict(gap, LOOP, held, not held, waited / 1e6)
