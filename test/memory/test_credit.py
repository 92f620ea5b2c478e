# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a use is worth, and when a case retires by it."""

from __future__ import annotations

from math import lgamma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.memory.credit import Beta, CaseUse, Counts, CreditSettings, UseResult, chance_below, worth

GUIDANCE, NONE = CorrectionMode.GUIDANCE, CorrectionMode.NONE


def log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def closed_form(first: tuple[int, int], second: tuple[int, int]) -> float:
    """P(first < second) for whole numbers (Miller 2014, equation 6)."""
    from math import exp, log

    (a1, b1), (a2, b2) = first, second
    return sum(exp(log_beta(a1 + i, b2 + b1) - log(b2 + i) - log_beta(1 + i, b2) - log_beta(a1, b1)) for i in range(a2))


whole = st.tuples(st.integers(1, 80), st.integers(1, 80))


@given(whole, whole)
def test_the_quadrature_agrees_with_the_closed_form(first, second):
    assert chance_below(Beta(*first), Beta(*second)) == pytest.approx(closed_form(first, second), abs=1e-4)


@given(st.floats(0.05, 300.0), st.floats(0.05, 300.0))
def test_equal_chances_are_below_each_other_half_of_the_time(a, b):
    assert chance_below(Beta(a, b), Beta(a, b)) == pytest.approx(0.5, abs=1e-3)


def test_an_unused_case_is_presumed_to_do_as_well_as_no_memory():
    found = worth(Counts(), Counts(), Counts(50, 45), Counts(50, 45), CreditSettings())
    assert found.base_rate == pytest.approx(46 / 52) and found.chance_worse == pytest.approx(0.5, abs=1e-3)
    assert not found.retires(CreditSettings(retire_above=0.5))


def test_a_case_that_fails_where_the_policy_succeeds_retires_and_one_unlucky_use_is_not_enough():
    base, settings = Counts(50, 45), CreditSettings()
    chances = [worth(Counts(failures, 0), Counts(), base, base, settings).chance_worse for failures in range(6)]
    assert chances == sorted(chances)
    retires = [worth(Counts(failures, 0), Counts(), base, base, settings).retires(settings) for failures in range(6)]
    assert retires[:2] == [False, False] and retires[-1]
    assert not worth(Counts(5, 0), Counts(), base, base, CreditSettings(retire_above=1.0)).retires(
        CreditSettings(retire_above=1.0)
    )


def test_a_case_that_helps_half_the_time_where_the_policy_always_fails_is_kept():
    base, settings = Counts(50, 45), CreditSettings()
    assert worth(Counts(30, 15), Counts(), base, base, settings).retires(settings)
    assert not worth(Counts(30, 15), Counts(12, 0), base, base, settings).retires(settings)


def test_a_phase_that_was_hardly_passed_takes_the_rate_of_its_task():
    settings = CreditSettings()
    assert worth(Counts(), Counts(), Counts(4, 0), Counts(98, 49), settings).base_rate == 0.5
    assert worth(Counts(), Counts(), Counts(8, 0), Counts(98, 49), settings).base_rate == 0.1


def test_each_use_is_on_record_and_an_episode_counts_once(make, open_memory):
    memory = open_memory(origin="left arm")
    case_id = memory.add(make.case(1)).case_id
    uses = [CaseUse(case_id, GUIDANCE, 0.7, 3), CaseUse(case_id, CorrectionMode.NEGATIVE, 0.2, 1), CaseUse(999)]
    memory.record_uses(uses, UseResult.SUCCESS, 5)
    memory.record_uses([CaseUse(case_id, GUIDANCE, 0.5)], UseResult.CANCELLED, 6)
    memory.record_uses([CaseUse(case_id, GUIDANCE, 0.5)], UseResult.INTERVENED, 7)
    memory.record_uses([CaseUse(case_id, NONE)], UseResult.FAILURE, 8)
    case = memory.get(case_id)
    assert (case.uses, case.successes) == (1, 1)
    log = memory.ledger.uses(case_id)
    assert [(use.episode_id, use.mode, round(use.strength, 1), use.chunks, use.result) for use in log] == [
        (8, NONE, 0.0, 1, UseResult.FAILURE),
        (7, GUIDANCE, 0.5, 1, UseResult.INTERVENED),
        (6, GUIDANCE, 0.5, 1, UseResult.CANCELLED),
        (5, CorrectionMode.NEGATIVE, 0.2, 1, UseResult.SUCCESS),
        (5, GUIDANCE, 0.7, 3, UseResult.SUCCESS),
    ]
    assert {use.origin for use in log} == {"left arm"}
    assert memory.ledger.counted(case_id) == (Counts(1, 1), Counts(1, 0))
    assert [(item.origin, item.uses, item.successes) for item in case.shares] == [("left arm", 1, 1)]


def test_a_case_that_hurts_retires_with_its_reason_comes_back_on_demand_and_is_then_judged_anew(make, open_memory):
    memory = open_memory(origin="left arm")
    case_id = memory.add(make.case(1)).case_id
    for _ in range(50):
        memory.ledger.record_baseline("push", ["reach"], True)
    retired = []
    for episode in range(1, 9):
        retired += memory.record_uses([CaseUse(case_id, GUIDANCE, 1.0)], UseResult.FAILURE, episode)
    case = memory.get(case_id)
    assert [item.case_id for item in retired] == [case_id] and case.retired
    assert "P(worse than no memory)" in case.retired_reason and case.history[-1].change == "retired"
    assert memory.search(make.unit(1)).cases == ()
    memory.retire(case_id, False, "the gripper was mended")
    assert not memory.record_uses([CaseUse(case_id, GUIDANCE, 1.0)], UseResult.SUCCESS, 20)
    assert not memory.record_uses([CaseUse(case_id, GUIDANCE, 1.0)], UseResult.FAILURE, 21)
    case = memory.get(case_id)
    assert not case.retired and [item.change for item in case.history] == ["retired", "restored"]
    assert memory.worth(case).used == Counts(2, 1)


def test_a_clock_that_jumps_back_does_not_bring_old_uses_into_the_new_account(make, open_memory, monkeypatch):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    memory.record_uses([CaseUse(case_id, GUIDANCE, 1.0)], UseResult.FAILURE, 1)
    memory.retire(case_id)
    monkeypatch.setattr("time.time_ns", lambda: 1_000)
    memory.retire(case_id, False)
    memory.record_uses([CaseUse(case_id, GUIDANCE, 1.0)], UseResult.SUCCESS, 2)
    assert memory.worth(memory.get(case_id)).used == Counts(1, 1)
