# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What could have been done instead, by doing it in the simulator, and corrections that only a check lets in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.deliberation.admission import NotAdmittedError, admit_checked, check_in_simulation
from flow_rag_vla.deliberation.diagnosis import FailureSeen, by_template
from flow_rag_vla.deliberation.regret import Advice, Outcome, Regret, ranked_cases, regret_of, to_collect, write_regrets
from flow_rag_vla.deliberation.rehearsal import AS_TAKEN, Way, rehearse
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
from flow_rag_vla.llm.schemas import Offset
from flow_rag_vla.memory.memory import FailureMemory

FAILS = Start(60004, 60004)
"""A push in the near strip in which the shipped policy pushes too hard, and not with its next two draws of noise."""

outcomes = st.builds(Outcome, st.text(min_size=1), st.floats(0.0, 1.0), st.booleans())
regrets = st.builds(
    Regret,
    st.builds(Start, st.integers(0, 9), st.just(0)),
    outcomes,
    st.lists(outcomes, max_size=4, unique_by=lambda one: one.way).map(tuple),
    st.lists(st.integers(1, 9), max_size=4, unique=True).map(tuple),
)


@given(st.lists(regrets, max_size=8))
def test_regret_is_never_negative_and_ranks_every_case_and_failed_start_once(found):
    assert all(0.0 <= one.regret <= 1.0 and one.closed == 0.0 for one in found)
    ranked = ranked_cases(found)
    assert sorted(worth.case_id for worth in ranked) == sorted({case for one in found for case in one.cases})
    wanted = to_collect(found)
    assert len(wanted) == sum(not one.taken.success for one in found)
    assert sum(one.advice is Advice.PRACTISE for one in wanted) == sum(one.advice is Advice.PRACTISE for one in found)


def test_a_start_asks_for_what_its_ways_say(tmp_path):
    failed, done = Outcome("as taken", 0.2, False), Outcome("x", 0.9, True)
    memory = replace(done, way="memory")
    start = Start(1, 1)
    assert Regret(start, failed, (failed,)).advice is Advice.SHOW
    assert Regret(start, failed, (done,)).advice is Advice.PRACTISE
    keeps = Regret(start, failed, (done, memory), (3, 4), ("memory",))
    assert keeps.advice is Advice.KEEP and keeps.closed == pytest.approx(0.7)
    assert Regret(start, done, ()).advice is Advice.NOTHING
    hurts = Regret(start, failed, (Outcome("memory", 0.1, False),), (4,), ("memory",))
    assert [(worth.case_id, round(worth.closed, 3)) for worth in ranked_cases([keeps, hurts])] == [(3, 0.7), (4, 0.3)]
    write_regrets(tmp_path / "regret.jsonl", [keeps, hurts])
    assert (tmp_path / "regret.jsonl").read_text(encoding="utf-8").count('"advice"') == 2


@pytest.mark.parametrize(
    "fields", [{"shift": ((0.0, 0.0),)}, {"speed_scale": 0.0}, {"speed_scale": float("nan")}, {"noise": -1}]
)
def test_ways_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="expected"):
        Way("wrong", **fields)


@pytest.fixture(scope="module")
def rig():
    made = Rig(simulated_spec("push", "held_out_strip"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def taken(rig):
    return rehearse(rig, FAILS)


def test_a_failed_start_fails_again_and_another_way_is_regretted(rig, taken):
    found = regret_of(rig, FAILS, ways=(Way("other noise", 1),), cases=(5,))
    assert not found.taken.success and found.taken.value == pytest.approx(taken.value, abs=1e-6)
    assert found.others[0].success and found.advice is Advice.PRACTISE
    # How near the failed try came differs between processors.
    assert found.regret == pytest.approx(found.others[0].value - taken.value, abs=1e-6) and found.regret > 0.25
    assert taken.fact.peak_force > 0.0 and taken.fact.moved_others == 0.0 and taken.fact.variant == "held_out_strip"
    with pytest.raises(ValueError, match="name of its own"):
        regret_of(rig, FAILS, ways=(AS_TAKEN,))


def test_only_a_proposal_that_succeeds_twice_gets_into_the_memory(rig, taken, tmp_path):
    report = taken.reports[0]
    seen = FailureSeen(taken.kind, "push", report.phase.value, report.evidence, report.confidence)
    diagnosis = by_template(seen)
    assert diagnosis.proposal == "slower" and diagnosis.evidence
    aside = diagnosis.model_copy(update={"proposal": "offset", "offset": Offset(dx_mm=50, dy_mm=-50, dz_mm=0)})
    check = check_in_simulation(rig, FAILS, aside, taken)
    assert check.failed and not check.passed and check.successes == (False,)
    memory, _ = FailureMemory.open(tmp_path / "memory.db")
    try:
        with pytest.raises(NotAdmittedError, match="0 of 1 attempts succeeded"):
            admit_checked(rig, memory, check)
        assert memory.statistics().cases == 0
        higher = diagnosis.model_copy(update={"proposal": "offset", "offset": Offset(dx_mm=0, dy_mm=0, dz_mm=10)})
        again = check_in_simulation(rig, FAILS, higher, taken)
        assert again.passed and again.successes == (True, True)
        cases = memory.cases(admit_checked(rig, memory, again, "it pushed too hard"))
        assert cases and {case.correction_source for case in cases.values()} == {"language_model"}
        note = next(iter(cases.values())).note
        assert note.startswith("it pushed too hard; checked in simulation: offset: 2 of 2")
    finally:
        memory.close()
    asked = diagnosis.model_copy(update={"proposal": "ask_a_person"})
    with pytest.raises(NotAdmittedError, match="is not of start 7"):
        check_in_simulation(rig, Start(7, 7), diagnosis, taken)
    with pytest.raises(NotAdmittedError, match="ask a person"):
        check_in_simulation(rig, FAILS, asked)
