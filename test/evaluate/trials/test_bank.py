# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.trials.bank import (
    DATABASE,
    EPISODES,
    BankEpisode,
    CaseBank,
    GrowingBank,
    TemporaryMemory,
    open_bank,
    shuffled_corrections,
)
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec
from flow_rag_vla.evaluate.trials.variants import InForce
from flow_rag_vla.memory.ledger import SuccessSituation


def grow(folder: Path, make_case, first: int, last: int, *, finish: bool = True) -> None:
    """Episodes ``first`` to ``last``: the odd ones fail and leave two cases, the even ones leave a situation."""
    for place in range(first, last + 1):
        with GrowingBank(folder, place) as bank:
            failed = place % 2 == 1
            ids = [bank.memory.add(make_case(10 * place + number)).case_id for number in (1, 2)] if failed else []
            if not failed and bank.memory.stamp is not None:
                bank.memory.observe_success([("push", "reach", make_case(1000 + place).embedding)])
            if ids:
                bank.memory.record_use(ids, success=True)
            if finish:
                bench = "x" if place < 4 else "y"
                bank.finish(BankEpisode(place, bench, Start(place, place), not failed, tuple(ids), int(not failed)))


@pytest.fixture
def folder(tmp_path: Path, make_case) -> Path:
    grow(tmp_path / "bank", make_case, 0, 5)
    return tmp_path / "bank"


def state(folder: Path) -> tuple[object, ...]:
    bank = CaseBank(folder)
    with bank.memory() as held:
        situations = held.memory.store.situations(8)
    cases = [(case.case_id, case.uid, case.uses, case.successes) for case in bank.cases()]
    return cases, bank.episodes, [(task, phase, vector.tobytes()) for task, phase, vector in situations]


def test_a_bank_says_what_it_was_built_from(folder: Path) -> None:
    bank = open_bank(folder)
    assert [item.place for item in bank.episodes] == list(range(6))
    assert bank.failed_starts() == (Start(1, 1), Start(3, 3), Start(5, 5))
    assert bank.failed_starts("y") == (Start(5, 5),)
    assert len(bank.cases()) == 6


@pytest.mark.parametrize("variant", ["consensus", "shuffled+by_cause", "relocation", "rewind_by_cause", "steadfast"])
def test_a_consensus_is_not_asked_of_failures_that_only_look_alike(folder: Path, make_case, variant: str) -> None:
    spec = SimulatedSpec("push", "plain", "a@1", cases=str(folder))
    with pytest.raises(TrialError, match="flow_rag_vla practice"):
        spec.check(variant)
    spec.check("guide")
    assert spec.in_force == InForce("dispatch", "dispatch")
    case = make_case(1)
    with GrowingBank(folder, 6) as bank:
        bank.memory.observe_done(
            [SuccessSituation("push", "reach", case.stamp, case.embedding, case.failed_actions, 7)]
        )
    spec.check(variant)
    # What on means can be run: whatever the graph does where that is so.
    assert spec.in_force == InForce("by_cause", "dispatch")
    assert replace(spec, source="takeover", cases=None).in_force == InForce("by_cause", "by_cause")


def test_a_consensus_grows_by_practice_only() -> None:
    with pytest.raises(TrialError, match="--source takeover or rehearsal"):
        SimulatedSpec("push", "plain", "a@1", workspace="somewhere").check("online+by_cause")
    SimulatedSpec("push", "plain", "a@1", workspace="somewhere", source="takeover").check("online+by_cause")


def test_a_memory_is_cut_to_the_first_episodes_of_each_bench_under_the_cases_own_ids(folder: Path) -> None:
    bank = CaseBank(folder)
    for episodes, expected in ((1, []), (2, [*bank.episodes[1].cases, *bank.episodes[5].cases]), (9, None)):
        with bank.memory(episodes=episodes) as held:
            kept = [case_id for case_id in range(1, 20) if held.memory.cases([case_id])]
        assert kept == (expected if expected is not None else [case.case_id for case in bank.cases()])


def test_using_a_memory_changes_nothing_in_the_bank(folder: Path) -> None:
    before = state(folder)
    with CaseBank(folder).memory() as held:
        held.memory.retire(1)
        held.memory.record_use([2], success=True)
    assert state(folder) == before


@pytest.mark.parametrize("finished", [False, True])
def test_an_episode_that_was_interrupted_leaves_no_trace(folder: Path, make_case, finished: bool) -> None:
    before = state(folder)
    # The process dies in the middle of episode 6, or before the run has kept its result.
    with GrowingBank(folder, 6) as bank:
        bank.memory.add(make_case(77))
        bank.memory.record_use([1, 2], success=True)
        bank.memory.observe_success([("push", "reach", make_case(78).embedding)])
        if finished:
            bank.finish(BankEpisode(6, "y", Start(6, 6), False, (7,)))
    assert state(folder) != before
    with GrowingBank(folder, 6):
        pass
    assert state(folder) == before


def test_a_growing_memory_that_begins_anew_is_empty(folder: Path) -> None:
    with GrowingBank(folder, 0) as bank:
        assert bank.cases == 0
    assert CaseBank(folder).episodes == []


def test_a_bank_with_missing_episodes_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="lacks some of the 9 episodes"):
        GrowingBank(folder, 9)
    with pytest.raises(TrialError, match="lacks some of the 1 episodes"):
        GrowingBank(tmp_path / "new", 1)
    with pytest.raises(TrialError, match="--collect"):
        open_bank(tmp_path / "nowhere")
    (folder / EPISODES).unlink()
    with pytest.raises(TrialError, match="not known which cases"):
        CaseBank(folder).memory(episodes=2)


def test_a_half_written_episode_is_dropped_and_a_damaged_one_named(folder: Path) -> None:
    lines = (folder / EPISODES).read_bytes()
    (folder / EPISODES).write_bytes(lines[:-20])
    assert len(CaseBank(folder).episodes) == 5
    (folder / EPISODES).write_bytes(b"{}\n" + lines)
    with pytest.raises(TrialError, match="line 1"):
        CaseBank(folder)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database" * 100)
    with pytest.raises(TrialError, match=DATABASE):
        open_bank(tmp_path)


def test_the_revision_follows_what_the_bank_knows(folder: Path, make_case) -> None:
    before = CaseBank(folder).revision
    assert CaseBank(folder).revision == before
    with TemporaryMemory(CaseBank(folder).cases()) as held:
        assert held.memory.statistics().cases == 6
    grow(folder, make_case, 6, 7)
    assert CaseBank(folder).revision != before


@given(count=st.integers(0, 12), seed=st.integers(0, 100))
def test_shuffling_moves_every_correction_within_its_task_and_nothing_else(make_case, count: int, seed: int) -> None:
    cases = [make_case(number, task="push" if number % 3 else "stack") for number in range(1, count + 1)]
    cases.append(make_case(99, correction=None))
    mixed = shuffled_corrections(cases, np.random.default_rng(seed))
    assert [case.uid for case in mixed] == [case.uid for case in cases]
    for task in ("push", "stack"):
        before = [case.correction for case in cases if case.task == task and case.correction is not None]
        after = [case.correction for case in mixed if case.task == task and case.correction is not None]
        assert sorted(item[0, 0] for item in before) == sorted(item[0, 0] for item in after)
        if len(before) > 1:
            assert not any(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert mixed[-1].correction is None
