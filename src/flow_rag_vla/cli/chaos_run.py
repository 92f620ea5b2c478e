# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A suite of faults: one graph, one fault a round, and what must hold of the whole run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.bringup.chaos_graph import ARM, COMMAND_TIMEOUT_S
from flow_rag_vla.cli.chaos_cases import AcknowledgedCases
from flow_rag_vla.cli.chaos_faults import Faults
from flow_rag_vla.cli.chaos_recovery import Recovery
from flow_rag_vla.cli.chaos_rig import RECOVERY_TIMEOUT_S, ChaosError, ChaosRig
from flow_rag_vla.evaluate.chaos.journal import Line, holds, of, stalls
from flow_rag_vla.evaluate.chaos.plan import PAUSE, Fault
from flow_rag_vla.evaluate.chaos.rounds import Round
from flow_rag_vla.evaluate.chaos.stretch import Stretch
from flow_rag_vla.evaluate.chaos.verdict import LOOP, GapVerdict, arm_violations, judge_gap, stream_violations
from flow_rag_vla.evaluate.chaos.watch import FOLLOW, PERIOD_NS, Gap
from flow_rag_vla.nodes.chaos_client import LOST
from flow_rag_vla.nodes.words_client import LOST as UNANSWERED


class ChaosRun:
    """One graph, brought up once, and its rounds. Use as a context manager.

    rig: the graph, and what stands beside it
    """

    def __init__(self, folder: Path, seed: int, *, simulated: bool = False, also: Sequence[str] = ()) -> None:
        """The graph on the mock arm, or in simulation; also: nodes of ``chaos_graph.ALSO``."""
        random = np.random.default_rng(seed + 1)
        self.rounds: list[Round] = []
        self.rig = ChaosRig(folder, seed, simulated=simulated, also=also)
        self._cases = AcknowledgedCases(self.rig.client, random)
        self._recovery = Recovery(self.rig, self._cases)
        self._faults = Faults(self.rig, self._cases, self._recovery, random)

    def __enter__(self) -> ChaosRun:
        self.rig.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.rig.__exit__(*error)

    def inject(self, fault: Fault) -> Round:
        """One round: the fault, its end, and the wait until the graph does again what it did before.

        Raises:
            ChaosError: if the graph ended.
        """
        monitor = self.rig.monitor
        monitor.read()
        first = len(monitor.lines)
        done = Round(len(self.rounds) + 1, fault, time.monotonic_ns())
        self.rounds.append(done)
        self._faults.strike(done)
        self._recovery.await_following(done, first)
        done.end_ns = time.monotonic_ns()
        for line in of(monitor.lines[first:], "mode"):
            if line["mode"] != FOLLOW:
                done.reactions[str(line["reason"])] += 1
        return done

    def finish(self) -> dict[str, Any]:
        """Check what must hold of the whole run, and give its content for the report."""
        # One that was interrupted says nothing, unless it is why the run ended.
        self.rounds = [done for done in self.rounds if done.end_ns or done.problems]
        rig = self.rig
        gone, unknown = self._cases.missing()
        self._look_for_answers()
        # What came last is written half a second later.
        time.sleep(0.6)
        rig.monitor.read()
        rig.pulse.read()
        lines = rig.monitor.lines
        late = stalls(rig.pulse.lines)
        gaps = self._gaps(lines, late)
        count = of(lines, "count")[-1] if of(lines, "count") else {}
        return {
            "rounds": [done.told() for done in self.rounds],
            "violations": self._violations(lines, gaps, gone, unknown),
            "gaps": [_told_gap(one, self._round_at(one.gap.start_ns)) for one in gaps],
            "loop_gaps": sum(one.owner == LOOP for one in gaps),
            "timer_gaps": sum(one.end_ns - one.start_ns > PERIOD_NS for one in late),
            "stop_delays_ms": [line["delay_ms"] for line in of(lines, "stopped")],
            "commands": count.get("commands", 0),
            "lost_ticks": count.get("lost", 0),
            "first_command_s": rig.first_command_s,
            "first_follow_s": rig.first_follow_s,
            "cases": {
                "acknowledged": self._cases.stored,
                "lost": self._cases.lost,
                "destroyed": self._cases.destroyed,
            },
            "episodes": rig.client.episodes,
            "outcomes": dict(Counter(told.outcome for told in rig.client.told)),
            "taken_up": sum(done.taken_up for done in self.rounds),
            "words": {} if rig.words is None else dict(rig.words.outcomes),
            "notes": rig.notes,
        }

    def _violations(
        self, lines: Sequence[Line], gaps: Sequence[GapVerdict], gone: Sequence[int], unknown: Sequence[int]
    ) -> list[dict[str, Any]]:
        """What the monitor saw, gaps that nothing excuses, what went wrong in a round, and cases that are gone."""
        found = stream_violations(lines, gaps, self._round_at)
        paused = (done for done in self.rounds if (done.fault.kind, done.fault.target) == (PAUSE, ARM))
        stopped = [Stretch(done.start_ns, done.end_ns) for done in paused]
        found += arm_violations(lines, stopped, self._round_at)
        found += [
            {"kind": kind, "text": text, "round": done.number} for done in self.rounds for kind, text in done.problems
        ]
        if gone:
            found.append({"kind": "lost", "text": f"acknowledged cases {gone} are gone", "round": 0})
        if unknown:
            text = f"the memory did not answer for {len(unknown)} acknowledged cases"
            found.append({"kind": "not answered", "text": text, "round": 0})
        return found

    def _gaps(self, lines: Sequence[Line], late: Sequence[Stretch]) -> list[GapVerdict]:
        """Each gap in the stream of commands, judged; late: intervals of the empty timer that were."""
        unheld = holds(lines, "NO_COMMAND", time.monotonic_ns())
        machine, timeout_ns = self.rig.machine, int(COMMAND_TIMEOUT_S * 1e9)
        judged = []
        for line in of(lines, "gap"):
            gap = Gap(int(line["start_ns"]), int(line["ns"]))
            stretch = Stretch(gap.start_ns, gap.end_ns)
            still, stolen_ns = machine.still(stretch), machine.stolen_ns(stretch)
            judged.append(judge_gap(gap, late, machine.waits, self._faults.down, unheld, timeout_ns, still, stolen_ns))
        return judged

    def _look_for_answers(self) -> None:
        """After the last round commands in words are answered again, and no goal was lost."""
        rig, last = self.rig, self.rounds[-1] if self.rounds else None
        if last is not None and any(told.outcome == LOST for told in rig.client.told):
            last.problems.append(("episode", "the episode manager did not know a goal that it had accepted"))
        words = rig.words
        # A graph that ended answers nothing; that it did is told already.
        if words is None or last is None or rig.ended:
            return

        def answered() -> int:
            return sum(count for outcome, count in words.outcomes.items() if outcome != UNANSWERED)

        before = answered()
        try:
            if not rig.until(lambda: answered() > before):
                last.problems.append(("words", f"no command in words was answered for {RECOVERY_TIMEOUT_S:g} s"))
        except ChaosError as error:
            last.problems.append(("graph ended", str(error)))

    def _round_at(self, at_ns: int) -> int:
        found = [done.number for done in self.rounds if done.start_ns <= at_ns + PERIOD_NS]
        return found[-1] if found else 0


def _told_gap(one: GapVerdict, number: int) -> dict[str, Any]:
    return {
        "ms": one.gap.ms,
        "owner": one.owner,
        "held": one.held,
        "wrong": one.wrong,
        "waited_ms": one.waited_ms,
        "stolen_ms": one.stolen_ms,
        "still_ms": one.still_ms,
        "states": dict(one.states),
        "round": number,
    }
