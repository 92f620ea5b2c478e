# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whose a gap in the command stream is: the loop's, that of a controller that was down, or the machine's."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flow_rag_vla.evaluate.chaos.journal import Line, of
from flow_rag_vla.evaluate.chaos.standstill import around
from flow_rag_vla.evaluate.chaos.stretch import Stretch
from flow_rag_vla.evaluate.chaos.watch import FOLLOW, PERIOD_NS, TAKEOVER, Gap

LOOP, DOWN, MACHINE = "loop", "controller down", "machine"

_STEPS = ("velocity", "rotation", "acceleration")
_ARM_GOES_ON_NS = 500_000_000
"""What lay in the queue of an arm that was stopped may still be read as the next round begins."""
_PUT_ELSEWHERE_NS = 1_000_000_000
"""How far a command that holds a simulated arm where it was put may be, in time, from the first word of the new scene:
they come by different ways, and the scene's may be late."""


class ProcessorWaits:
    """How long a thread stood ready without being given a processor, by the kernel's own count (``schedstat``).

    Beside it what the thread did at each reading, and on which processor it ran last.
    """

    def __init__(self) -> None:
        self._times = array("q")
        self._waited = array("q")
        self._of = array("q")
        self._processors = array("q")
        self._states = bytearray()

    def add(self, at_ns: int, pid: int, waited_ns: int, processor: int = -1, state: str = "?") -> None:
        """A reading, later than those before; ``state``, the kernel's letter: R runs, S sleeps, D waits for a disk."""
        self._times.append(at_ns)
        self._waited.append(waited_ns)
        self._of.append(pid)
        self._processors.append(processor)
        self._states += state.encode()[:1]

    def between_ns(self, stretch: Stretch) -> int:
        """The wait in a stretch, from the last reading before it to the first behind it; 0 where there is none."""
        first, last = around(self._times, stretch)
        if last <= first or self._of[first] != self._of[last]:
            return 0
        return self._waited[last] - self._waited[first]

    def processor(self, stretch: Stretch) -> int | None:
        """The processor of a thread that was on the same one before and behind a stretch; None if it was not."""
        first, last = around(self._times, stretch)
        if last <= first or self._of[first] != self._of[last] or self._processors[first] != self._processors[last]:
            return None
        return self._processors[first]

    def states(self, stretch: Stretch) -> dict[str, int]:
        """How often each state was read inside a stretch."""
        first, last = around(self._times, stretch)
        return dict(Counter(self._states[first + 1 : last].decode()).most_common())


@dataclass(frozen=True, slots=True)
class GapVerdict:
    """One gap and what is to be said of it.

    held: whether the receiving end named a hold during it
    wrong: whether it should not be
    waited_ms: how long the loop's thread waited for a processor meanwhile
    stolen_ms: how long the host had taken the loop's processor away
    still_ms: how long nearly no process of the graph ran, and nobody else
    states: how often the loop's thread was seen to run, sleep or wait for a disk
    """

    gap: Gap
    owner: str
    held: bool
    wrong: bool
    waited_ms: float = 0.0
    stolen_ms: float = 0.0
    still_ms: float = 0.0
    states: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Length, owner and evidence."""
        said = f"{self.gap.ms:.0f} ms, {self.owner}, {self.waited_ms:.0f} ms of it ready to run"
        if self.stolen_ms:
            said += f", {self.stolen_ms:.0f} ms its processor was taken by the host"
        if self.still_ms:
            said += f", {self.still_ms:.0f} ms nearly nothing ran"
        if self.states:
            said += f" (seen {', '.join(f'{state} {count}' for state, count in self.states.items())})"
        return said


def judge_gap(
    gap: Gap,
    stalls: Sequence[Stretch],
    waits: ProcessorWaits,
    down: Sequence[Stretch],
    holds: Sequence[Stretch],
    timeout_ns: int,
    still: Sequence[Stretch] = (),
    stolen_ns: int = 0,
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
        still: when the whole machine stood still.
        stolen_ns: how long the host had taken the loop's processor meanwhile.
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
    stood = sum(stretch.overlap_ns(one) for one in still)
    # Without what the machine took there would have been no gap: an empty timer lost as much, or the loop was ready to
    # run and was not let, or its processor was gone, or nothing ran at all. Not the sum: one stall is counted by each.
    length = gap.end_ns - gap.start_ns
    machine = stalled and stalled + PERIOD_NS >= length
    machine = machine or length - max(waited, stolen_ns, stood) <= 2 * PERIOD_NS
    return GapVerdict(
        gap,
        MACHINE if machine else LOOP,
        held,
        not machine and not held,
        waited / 1e6,
        stolen_ns / 1e6,
        stood / 1e6,
        waits.states(stretch),
    )


def why_not_taken_up(episode: int, running: int | None, told: tuple[str, str] | None) -> str:
    """What is wrong with an episode whose manager was killed and started again; empty if it went on.

    Args:
        episode: the number of the one that ran.
        running: of the one that the new manager says is running, 0 if none is; None if it said nothing.
        told: outcome and reason of the episode, as whoever asked for it was told; None while it was not.
    """
    if told is not None and told[0] in ("success", "failure"):
        return ""
    if told is not None:
        return f"episode {episode} did not go on: {told[0]}, {told[1]}"
    if running == episode:
        return ""
    said = "the new episode manager said nothing" if running is None else "nothing was said of it"
    return f"episode {episode} did not go on: {said}"


def put_elsewhere(line: Line, scenes: Sequence[int]) -> bool:
    """Whether a step that is too large is that of a simulated arm which was put elsewhere, and is held there.

    A reset of the scene does that, and a simulator that is started anew. A command that follows must not jump then
    either.

    Args:
        line: a violation, as the monitor wrote it down.
        scenes: steady times in nanoseconds at which another scene was first heard of.
    """
    if line["kind"] not in _STEPS or line.get("mode", FOLLOW) in (FOLLOW, TAKEOVER):
        return False
    return any(abs(int(line["ns"]) - scene) <= _PUT_ELSEWHERE_NS for scene in scenes)


def arm_violations(
    lines: Sequence[Line], stopped: Sequence[Stretch], round_at: Callable[[int], int]
) -> list[dict[str, Any]]:
    """Where the arm counted commands that break its limits.

    An arm that is stopped counts when it goes on: what was sent meanwhile comes at once, to one that has not moved.

    Args:
        lines: what the monitor wrote.
        stopped: the rounds in which the arm's own process was stopped.
        round_at: the number of the round at a steady time in nanoseconds; 0 before the first.
    """
    found, before = [], 0
    for line in of(lines, "arm violations"):
        count, at_ns = int(line["count"]), int(line["ns"])
        if count > before and not any(one.start_ns <= at_ns <= one.end_ns + _ARM_GOES_ON_NS for one in stopped):
            text = f"the arm refused {count - before} commands that break its limits"
            found.append({"kind": "arm", "text": text, "round": round_at(at_ns)})
        before = count
    return found


def stream_violations(
    lines: Sequence[Line], gaps: Sequence[GapVerdict], round_at: Callable[[int], int]
) -> list[dict[str, Any]]:
    """What is wrong with the stream of commands: what the monitor named, and the gaps that nothing excuses.

    Args:
        lines: what the monitor wrote.
        gaps: each gap, judged.
        round_at: the number of the round at a steady time in nanoseconds; 0 before the first.
    """
    scenes = [int(line["ns"]) for line in of(lines, "scene")]
    named = [
        {"kind": line["kind"], "text": line["text"], "round": round_at(int(line["ns"]))}
        for line in of(lines, "violation")
        if not put_elsewhere(line, scenes)
    ]
    return named + [{"kind": "gap", "text": one.text, "round": round_at(one.gap.start_ns)} for one in gaps if one.wrong]
