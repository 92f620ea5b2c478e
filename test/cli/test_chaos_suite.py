# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a chaos suite counts of cases that were acknowledged, and what it says where the graph is gone or silent."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the suite asks a ROS graph")

from flow_rag_vla.cli import chaos_cases
from flow_rag_vla.cli.chaos_cases import AcknowledgedCases
from flow_rag_vla.cli.chaos_faults import Faults
from flow_rag_vla.cli.chaos_recovery import Recovery
from flow_rag_vla.cli.chaos_rig import ChaosError
from flow_rag_vla.cli.chaos_run import ChaosRun
from flow_rag_vla.evaluate.chaos.plan import CORRUPT, KILL, Fault
from flow_rag_vla.evaluate.chaos.rounds import Round


class Memory:
    """A memory's side of the client."""

    def __init__(self) -> None:
        self.has: set[int] = set()
        self.answers = True
        self.cases = 0
        self._last = 100

    def pattern(self, timeout_s: float) -> Any:
        return "like this" if self.answers and self.cases else None

    def add_case(self, pattern: Any, random: np.random.Generator, timeout_s: float) -> int | None:
        self._last += 1
        self.has.add(self._last)
        self.cases += 1
        return self._last

    def has_case(self, number: int, timeout_s: float) -> bool | None:
        return number in self.has if self.answers else None


@pytest.fixture
def memory() -> Memory:
    made = Memory()
    made.cases = 1
    return made


@pytest.fixture
def cases(memory: Memory) -> AcknowledgedCases:
    return AcknowledgedCases(memory, np.random.default_rng(0))  # type: ignore[arg-type]


def test_a_case_that_is_gone_is_counted_once_as_lost_or_as_destroyed(memory: Memory, cases: AcknowledgedCases) -> None:
    assert cases.store(1, 3) == 3 and cases.store(2, 2) == 2
    memory.has -= {101, 104}
    assert cases.gone(1) == [101] and cases.gone() == [101, 104]
    cases.strike_off(cases.gone(1), destroyed=False)
    cases.strike_off(cases.gone(), destroyed=True)
    assert (cases.stored, cases.lost, cases.destroyed) == (5, 1, 1)
    assert cases.missing() == ([], [])
    memory.has -= {105}
    assert cases.missing() == ([105], []) and cases.lost == 2


def test_a_memory_that_does_not_answer_is_told_from_one_that_lost_cases(
    memory: Memory, cases: AcknowledgedCases
) -> None:
    cases.store(1, 2)
    memory.answers = False
    assert cases.gone() == [] and cases.missing() == ([], [101, 102]) and cases.lost == 0


def faults(memory: Memory, cases: AcknowledgedCases) -> tuple[Faults, Recovery]:
    rig: Any = SimpleNamespace(client=memory)
    recovery = Recovery(rig, cases)
    return Faults(rig, cases, recovery, np.random.default_rng(0)), recovery


def test_a_memory_that_takes_no_case_is_a_problem_and_one_that_is_empty_a_note(
    memory: Memory, cases: AcknowledgedCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_cases, "RECOVERY_TIMEOUT_S", 0.3)
    striking, _ = faults(memory, cases)
    silent = Round(1, Fault(KILL, "failure_memory"), 0)
    memory.answers = False
    striking._store(silent, 1)
    assert silent.problems and silent.problems[0][0] == "memory" and not silent.notes
    empty = Round(2, Fault(KILL, "failure_memory"), 0)
    memory.cases = 0
    striking._store(empty, 1)
    assert empty.notes == ["the memory has no case yet to make others like"] and not empty.problems


def test_what_a_kill_took_is_not_put_down_to_a_damage_that_is_done_later(
    memory: Memory, cases: AcknowledgedCases
) -> None:
    _, recovery = faults(memory, cases)
    cases.store(1, 2)
    memory.has -= {101}
    later = Round(2, Fault(CORRUPT, "failure_memory"), 0)
    recovery.look_for_cases(later)
    assert later.problems == [("lost", "acknowledged cases [101] are gone")]
    memory.has -= {102}
    recovery.count_destroyed(later)
    assert (cases.lost, cases.destroyed) == (1, 1)


@pytest.mark.parametrize("moved", [True, False])
def test_the_watchdog_is_asked_of_a_bridge_that_moved_the_arm(
    memory: Memory, cases: AcknowledgedCases, moved: bool
) -> None:
    alive: list[dict[str, Any]] = []
    hold = {"what": "hold", "ns": 0, "text": "" if moved else "NO_COMMAND: none yet"}
    pids = iter((1, 2))

    def read() -> None:
        if alive:
            alive[0]["ns"] = time.monotonic_ns()
            lines.extend(alive[:])
            alive.clear()

    def pid(name: str) -> int:
        alive.append({"what": "alive", "node": name, "ns": 0})
        return next(pids, 2)

    lines: list[dict[str, Any]] = [hold]
    client = SimpleNamespace(running=0)
    monitor = SimpleNamespace(lines=lines, read=read)
    rig: Any = SimpleNamespace(
        client=client, monitor=monitor, pid=pid, check=lambda: None, signal=lambda name, number: 1
    )
    done = Round(1, Fault(KILL, "robot"), 0)
    Faults(rig, cases, Recovery(rig, cases), np.random.default_rng(0)).strike(done)
    assert done.back is not None
    assert [kind for kind, _ in done.problems] == (["watchdog"] if moved else [])


@pytest.mark.parametrize("ended", ["episode_manager ended", ""])
def test_a_graph_that_ended_still_gives_a_report(ended: str) -> None:
    def until(found: object) -> bool:
        raise ChaosError("the controller ended")

    run = ChaosRun.__new__(ChaosRun)
    run.rounds = [Round(1, Fault(KILL, "controller"), 0)]
    rig: Any = SimpleNamespace(client=SimpleNamespace(told=[]), words=SimpleNamespace(outcomes={}), until=until)
    rig.ended = ended
    run.rig = rig
    run._look_for_answers()
    # One that ends while an answer is waited for says so; that another ended is told by whoever ran the rounds.
    assert run.rounds[0].problems == ([] if ended else [("graph ended", "the controller ended")])
