# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A record of an episode becomes cases where something else was right, and successes where the policy did the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import SITUATION, EncoderStamp
from flow_rag_vla.memory.lesson import (
    DISAGREEMENT,
    SAME_SITUATION,
    Occasion,
    Situation,
    disagreement,
    distinct,
    other_action,
    other_than_person,
    split,
    successes_of,
)

KEYS = EncoderStamp(SITUATION, "r1", 16)
PICTURES = EncoderStamp("compact", "abc", 16)
OCCASION = Occasion("push", FailureType.DROP, "human", "ada took over", "left", 7)


def situation(make, seed: int, planned: float, right: float | None, **fields: object) -> Situation:
    values: dict[str, object] = {
        "stamp_ns": seed,
        "phase": "reach",
        "vector": make.unit(seed),
        "stamp": KEYS,
        "planned": make.motion(planned, 16),
        "right": None if right is None else make.motion(right, 16),
        **fields,
    }
    return Situation(**values)


def test_where_something_else_was_right_is_a_case_and_where_the_same_was_a_success(make):
    record = [
        situation(make, 1, 0.001, 0.009),
        situation(make, 2, 0.009, 0.009),
        situation(make, 3, 0.002, 0.010, phase="grasp", proprioception=np.ones(3, np.float32)),
    ]
    cases, successes = split(record, OCCASION)
    assert [(case.phase, case.correction_source, case.note, case.origin) for case in cases] == [
        ("reach", "human", "ada took over", "left"),
        ("grasp", "human", "ada took over", "left"),
    ]
    np.testing.assert_array_equal(cases[1].failed_actions, make.motion(0.002, 16))
    np.testing.assert_array_equal(cases[1].correction, make.motion(0.010, 16))
    np.testing.assert_array_equal(cases[1].proprioception, [1, 1, 1])
    assert {case.failure_type for case in cases} == {FailureType.DROP}
    ((success),) = successes
    assert (success.task, success.phase, success.episode_id, success.origin) == ("push", "reach", 7, "left")
    np.testing.assert_array_equal(success.actions, make.motion(0.009, 16))


def test_a_situation_of_which_nobody_knows_what_was_right_is_a_case_without_a_correction(make):
    cases, successes = split([situation(make, 1, 0.001, None)], OCCASION)
    assert cases[0].correction is None and cases[0].correction_source == "" and successes == []


@pytest.mark.parametrize("doubt", [{"alone": False}, {"trusted": False}])
def test_agreement_with_the_memorys_help_or_with_a_guess_is_no_success(make, doubt):
    assert split([situation(make, 1, 0.005, 0.005, **doubt)], OCCASION) == ([], [])
    cases, _ = split([situation(make, 1, 0.001, 0.010, **doubt)], OCCASION)
    assert len(cases) == 1


def test_what_an_earlier_situation_said_is_not_said_again(make):
    near, far = make.turned(make.unit(1), SAME_SITUATION + 0.01), make.turned(make.unit(1), SAME_SITUATION - 0.01)
    record = [
        situation(make, 1, 0.001, 0.009),
        situation(make, 1, 0.001, 0.010, vector=near),
        situation(make, 1, 0.001, 0.011, vector=far),
    ]
    cases, _ = split(record, OCCASION)
    assert [round(float(case.correction[0, 0]) * 1e3) for case in cases] == [9, 11]
    # Pictures of one scene are all alike: only one at rest says the same twice.
    pictures = [situation(make, 1, 0.001, 0.009, stamp=PICTURES, vector=vector) for vector in (make.unit(1), near)]
    assert len(distinct(pictures)) == 2
    assert len(distinct([*pictures, *pictures])) == 2


def test_successes_are_what_the_policy_did_alone_each_situation_once(make):
    record = [situation(make, seed, seed * 1e-3, None, alone=seed != 2) for seed in (1, 2, 3, 1)]
    found = successes_of(record, OCCASION)
    assert [round(float(item.actions[0, 0]) * 1e3) for item in found] == [1, 3]


@given(st.floats(-0.012, 0.012), st.floats(-0.012, 0.012))
def test_disagreement_counts_largest_steps_and_not_the_hand(one, other):
    first, second = np.zeros((16, 7), np.float32), np.zeros((16, 7), np.float32)
    first[:, 0], second[:, 0], second[:, 6] = one, other, 1.0
    assert disagreement(first, second) == pytest.approx(abs(one - other) / 0.012 / 2.0, abs=1e-5)
    assert other_action(first, second) == (disagreement(first, second) >= DISAGREEMENT)


def test_only_rows_that_are_neither_committed_nor_hardly_executed_are_compared(make):
    first, second = make.motion(0.0, 16), make.motion(0.0, 16)
    second[:3, 0] = second[12:, 0] = 0.012
    assert disagreement(first, second) == 0.0
    assert disagreement(make.motion(0.0, 3), make.motion(0.012, 3)) == pytest.approx(0.5)


def test_a_person_is_slower_than_a_policy_and_still_does_something_else(make):
    slow_left, slow_right, rest = make.motion(0.002, 16), make.motion(-0.002, 16), make.motion(0.0, 16)
    assert not other_action(slow_left, slow_right) and other_than_person(slow_left, slow_right)
    assert other_than_person(rest, slow_left)
    assert not other_than_person(slow_left, make.motion(0.0018, 16))
    assert not other_than_person(rest, make.motion(0.0002, 16))
    closing = rest.copy()
    closing[:, 6] = 0.0
    assert other_than_person(rest, closing) and not other_action(rest, closing)
