"""Whose a gap in the command stream is: the loop's, that of a controller that was down, or the machine's."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class GapVerdict:
    """One gap and what is to be said of it.

    held: whether the receiving end named a hold during it
    wrong: whether it should not be
    """

    gap: Gap
    owner: str
    held: bool
    wrong: bool


def judge_gap(
    gap: Gap, stalls: Sequence[Stretch], down: Sequence[Stretch], holds: Sequence[Stretch], timeout_ns: int
) -> GapVerdict:
    """Whose the gap is, and whether it was held.

    Args:
        gap: more than two periods without a command.
        stalls: intervals between two ticks of an empty timer beside the loop that were late.
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
    # What the loop lost beyond one period, an empty timer lost as well.
    if stalled and stalled + PERIOD_NS >= gap.end_ns - gap.start_ns:
        return GapVerdict(gap, MACHINE, held, False)
    return GapVerdict(gap, LOOP, held, not held)
