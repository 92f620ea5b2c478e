# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.memory.case import EncoderStamp, FailureCase
from flow_rag_vla.memory.consensus import ConsensusMemory, ConsensusSettings
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import EncoderMismatchError

STAMP = EncoderStamp("compact", "abc", 16)
OpenMemory = Callable[..., FailureMemory]


@pytest.fixture
def memory(open_memory: OpenMemory) -> FailureMemory:
    return open_memory(successes_kept=1000)


def remember(memory: FailureMemory, *cases: FailureCase) -> None:
    # What is tried here is the answer, not what may be stored: no guard, no look for duplicates.
    memory.add_all(cases)


def corrected(make, vector: np.ndarray, step: float, **fields: object) -> FailureCase:
    return make.case(embedding=vector, correction=make.motion(step), correction_source="expert", **fields)


def succeed(memory: FailureMemory, make, vectors: list[np.ndarray], *, episodes: list[int] | None = None) -> None:
    memory.observe_done(
        [
            SuccessSituation(
                "push", "reach", STAMP, vector, make.motion(0.001), number if episodes is None else episodes[number]
            )
            for number, vector in enumerate(vectors)
        ]
    )


def ask(memory: FailureMemory, key: np.ndarray, **settings: object):
    return ConsensusMemory(memory, ConsensusSettings(**{"sharpness": 2.5, "mass": 0.05, **settings})).answer(
        key, stamp=STAMP, task="push", phase="reach", stamp_ns=7
    )


def test_an_empty_memory_has_nothing_to_say(memory: FailureMemory, make) -> None:
    answer = ask(memory, make.unit(1))
    assert answer.correction.mode is CorrectionMode.NONE
    assert answer.correction.stamp_ns == 7


def test_as_it_ships_a_few_cases_of_something_alike_say_nothing_and_one_of_the_same_situation_does(
    memory: FailureMemory, make
) -> None:
    key = make.unit(1)
    remember(memory, *(corrected(make, make.turned(key, 0.78, seed), 0.004) for seed in (2, 3, 4)))
    asked = ConsensusMemory(memory)
    answer = asked.answer(key, stamp=STAMP, task="push", phase="reach", stamp_ns=7)
    assert answer.correction.mode is CorrectionMode.NONE and len(answer.found.cases) == 3
    remember(memory, corrected(make, make.turned(key, 0.9, 5), 0.004))
    answer = asked.answer(key, stamp=STAMP, task="push", phase="reach", stamp_ns=8)
    assert answer.correction.mode is CorrectionMode.GUIDANCE


def test_with_much_noise_the_correction_is_the_mean_weighted_by_similarity(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    near, far = make.turned(key, 0.9, 1), make.turned(key, 0.5, 2)
    remember(memory, corrected(make, near, 0.002), corrected(make, far, 0.008))
    answer = ask(memory, key, sharpness=2.0, mass=0.1, ridge=1e6)
    weights = np.array([0.9, 0.5])
    expected = float(weights @ [0.002, 0.008] / weights.sum())
    assert answer.correction.mode is CorrectionMode.GUIDANCE
    assert answer.correction.until == 1.0
    np.testing.assert_allclose(answer.correction.actions[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(answer.correction.actions[:, 6], 1.0, rtol=1e-6)
    assert answer.failures == pytest.approx(np.square(weights).sum(), rel=1e-4)
    shares = np.square(weights) / np.square(weights).sum()
    np.testing.assert_allclose(answer.shares, shares, rtol=1e-4)


def line(angle: float) -> np.ndarray:
    """Situations on a way: unit vectors whose cosine falls with the distance on it."""
    width, count = 0.3, 8
    frequencies = np.random.default_rng(5).normal(size=count) / width
    phases = np.concatenate([np.cos(frequencies * angle), np.sin(frequencies * angle)])
    return (phases / np.linalg.norm(phases)).astype(np.float32)


def test_where_the_right_action_changes_along_the_way_the_answer_changes_with_it(memory: FailureMemory, make) -> None:
    """At the end of what is known a mean lags behind; a regression goes on with the slope, within what was done."""
    places = np.linspace(0.0, 0.6, 7)
    remember(memory, *(corrected(make, line(place), 0.001 + 0.01 * place) for place in places))
    error = {}
    for ridge in (0.01, 1e6):
        found = ask(memory, line(0.55), ridge=ridge).correction.actions[:, 0]
        error[ridge] = float(np.abs(found - 0.0065).max())
        assert found.max() <= 0.007 + 1e-6
    assert error[0.01] < 0.5 * error[1e6]


def test_what_was_done_where_it_went_well_has_its_say_in_the_answer(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, corrected(make, make.turned(key, 0.9, 1), 0.008))
    alone = ask(memory, key).correction.actions[0, 0]
    succeed(memory, make, [make.turned(key, 0.98, seed) for seed in range(2, 8)])
    answer = ask(memory, key)
    assert alone == pytest.approx(0.008)
    # Six successes at 0.001 that are nearer: the answer is close to theirs, and the case's share of it is small.
    assert 0.001 < answer.correction.actions[0, 0] < 0.004
    assert answer.correction.case_ids == (1,) and sum(answer.shares) == pytest.approx(answer.confidence)


def misread(make, vector: np.ndarray, metres: float, **fields: object) -> FailureCase:
    return corrected(make, vector, 0.008, misreading=np.array([metres, 0.0, 0.0]), **fields)


def test_where_misreadings_explain_most_of_what_failed_the_target_is_moved(memory: FailureMemory, make) -> None:
    places = np.linspace(0.0, 0.6, 7)
    remember(memory, *(misread(make, line(place), 0.01 + 0.02 * place) for place in places))
    answer = ask(memory, line(0.25), ridge=0.01)
    assert answer.correction.mode is CorrectionMode.SHIFT and answer.correction.actions is None
    np.testing.assert_allclose(answer.correction.shift, [0.015, 0.0, 0.0], atol=5e-4)
    assert set(answer.correction.case_ids) <= set(range(1, 8)) and len(answer.shares) == len(answer.correction.case_ids)
    # Never farther than anything was misread.
    assert 0.0 <= ask(memory, line(0.65), ridge=1e-3).correction.shift[0] <= 0.022 + 1e-6


def test_the_target_is_moved_less_the_less_alike_the_situation_is(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, misread(make, key, 0.02))
    shifts = [ask(memory, make.turned(key, cosine, 2)).correction.shift[0] for cosine in (0.99, 0.8, 0.4)]
    assert shifts == sorted(shifts, reverse=True) and 0.0 < shifts[-1] < 0.5 * shifts[0] < 0.02


def test_where_misreadings_explain_little_the_chunks_are_followed(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(
        memory,
        misread(make, make.turned(key, 0.7, 2), 0.02),
        corrected(make, make.turned(key, 0.9, 3), 0.004),
        corrected(make, make.turned(key, 0.9, 4), 0.004),
    )
    assert ask(memory, key).correction.mode is CorrectionMode.GUIDANCE
    assert ask(memory, key, misread=0.1).correction.mode is CorrectionMode.SHIFT
    assert ask(memory, key, misread=2.0).correction.mode is CorrectionMode.GUIDANCE


def test_a_memory_that_may_only_move_the_target_leaves_the_rest_alone(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, corrected(make, key, 0.004))
    assert ask(memory, key, misread=0.0).correction.mode is CorrectionMode.NONE


def test_a_misreading_is_said_without_knowing_what_would_have_been_right(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    off = np.array([0.02, 0.0, 0.0])
    remember(memory, make.case(embedding=make.turned(key, 0.95, 2), misreading=off))
    answer = ask(memory, key)
    assert answer.correction.mode is CorrectionMode.SHIFT and answer.correction.shift[0] > 0.01
    # Where chunks are asked for, a case that knows none has no say in them.
    assert ask(memory, key, misread=2.0).correction.mode is CorrectionMode.NONE
    remember(memory, corrected(make, make.turned(key, 0.9, 3), 0.004))
    answer = ask(memory, key, misread=2.0)
    assert answer.correction.mode is CorrectionMode.GUIDANCE and answer.correction.case_ids == (2,)
    assert len(answer.shares) == 1


def test_successes_of_another_horizon_speak_against_but_say_no_action(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, corrected(make, make.turned(key, 0.9, 1), 0.008))
    memory.observe_done([SuccessSituation("push", "reach", STAMP, key, make.motion(0.001, 9), 1)])
    answer = ask(memory, key)
    assert answer.correction.actions[0, 0] == pytest.approx(0.008) and answer.successes > 0.5


def test_the_cases_used_come_most_similar_first(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(
        memory, corrected(make, make.turned(key, 0.6, 1), 0.002), corrected(make, make.turned(key, 0.95, 2), 0.002)
    )
    assert ask(memory, key).correction.case_ids == (2, 1)


def test_a_place_where_the_policy_mostly_succeeds_is_left_alone(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, corrected(make, make.turned(key, 0.9), 0.002))
    assert ask(memory, key).correction.mode is CorrectionMode.GUIDANCE
    succeed(memory, make, [make.turned(key, 0.95, seed) for seed in range(5)])
    answer = ask(memory, key, confidence=0.4)
    assert answer.correction.mode is CorrectionMode.NONE
    assert answer.confidence < answer.gate


def test_a_far_case_is_no_reason_to_act(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, corrected(make, make.turned(key, 0.3), 0.002))
    answer = ask(memory, key, sharpness=2.5)
    assert answer.correction.mode is CorrectionMode.NONE
    assert answer.failures < ConsensusSettings().mass


def test_the_gate_lets_no_more_successes_pass_than_was_said(memory: FailureMemory, make) -> None:
    """Successes and failures that cannot be told apart: the gate has to rise until few successes pass."""
    rng = np.random.default_rng(0)
    centre = make.unit(1)
    around = [make.turned(centre, float(rng.uniform(0.6, 0.95)), seed) for seed in range(240)]
    remember(memory, *(corrected(make, vector, 0.002) for vector in around[:80]))
    succeed(memory, make, around[80:160])
    consensus = ConsensusMemory(memory, ConsensusSettings(confidence=0.0, false_retrieval_rate=0.1))
    passed = [
        consensus.answer(vector, stamp=STAMP, task="push", phase="reach", stamp_ns=1).correction.mode
        is CorrectionMode.GUIDANCE
        for vector in around[160:]
    ]
    # 80 exchangeable draws at 10 %: more than 20 % would be a chance of 1 in 200.
    assert np.mean(passed) <= 0.2
    assert consensus.gate("push", "reach", STAMP) > 0.3


def test_a_success_is_judged_without_its_own_episode(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(memory, corrected(make, make.turned(key, 0.9), 0.002))
    same = [make.turned(key, 0.99, seed) for seed in range(8)]
    succeed(memory, make, same, episodes=[5] * 8)
    alone = ConsensusMemory(memory, ConsensusSettings(confidence=0.0, false_retrieval_rate=0.2))
    # Nothing else speaks for these successes, so each of them looks like a failure: the gate closes the place.
    assert alone.gate("push", "reach", STAMP) > 0.99


def test_the_answer_changes_with_the_memory(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    consensus = ConsensusMemory(memory)
    assert consensus.answer(key, stamp=STAMP, task="push", phase="reach", stamp_ns=1).correction.mode is (
        CorrectionMode.NONE
    )
    remember(memory, corrected(make, make.turned(key, 0.95), 0.002))
    assert consensus.answer(key, stamp=STAMP, task="push", phase="reach", stamp_ns=2).correction.mode is (
        CorrectionMode.GUIDANCE
    )


def test_a_case_that_disappointed_says_less_and_in_the_end_nothing(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(
        memory,
        corrected(make, make.turned(key, 0.9, 1), 0.002),
        corrected(make, make.turned(key, 0.9, 2), 0.008, uses=6, successes=1),
        corrected(make, make.turned(key, 0.9, 3), 0.02, uses=40, successes=0),
    )
    answer = ask(memory, key, sharpness=1.0, minimum_credit=0.2, ridge=1e6)
    assert answer.correction.case_ids == (1, 2)
    trust = 2.0 * 2 / 8
    np.testing.assert_allclose(answer.correction.actions[:, 0], (0.002 + trust * 0.008) / (1 + trust), rtol=1e-3)


def test_cases_of_another_phase_or_without_a_correction_have_no_say(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    remember(
        memory,
        corrected(make, make.turned(key, 0.9, 1), 0.002, phase="grasp"),
        make.case(embedding=make.turned(key, 0.9, 2)),
    )
    assert ask(memory, key).correction.mode is CorrectionMode.NONE


def test_keys_of_another_kind_are_refused(memory: FailureMemory, make) -> None:
    remember(memory, corrected(make, make.unit(1), 0.002))
    with pytest.raises(EncoderMismatchError):
        ConsensusMemory(memory).answer(
            make.unit(1), stamp=EncoderStamp("situation", "x", 16), task="push", phase="reach", stamp_ns=1
        )


@pytest.mark.parametrize(
    ("name", "value"), [("neighbours", 0), ("confidence", 1.5), ("sharpness", 0.0), ("false_retrieval_rate", 1.5)]
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        ConsensusSettings(**{name: value})


def closing(make, step: float, at: int, horizon: int = 12) -> np.ndarray:
    """A chunk that moves and closes the hand from a row on."""
    actions = make.motion(step, horizon)
    actions[at:, 6] = 0.0
    return actions


def test_of_two_acts_the_one_with_more_weight_is_done_and_not_what_lies_between(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    # Two go on toward the thing, one closes the hand where it is; a success closes it, too.
    onward = [make.case(embedding=make.turned(key, 0.9, seed), failed_actions=make.motion(0.0, 12)) for seed in (1, 2)]
    onward = [replace(case, correction=closing(make, 0.008, 12), correction_source="expert") for case in onward]
    stays = make.case(embedding=make.turned(key, 0.8, 3), failed_actions=make.motion(0.001, 12))
    stays = replace(stays, correction=closing(make, 0.0, 0), correction_source="expert")
    remember(memory, *onward, stays)
    situation = SuccessSituation("push", "reach", STAMP, make.turned(key, 0.7, 4), closing(make, 0.0, 0), 1)
    memory.observe_done([situation])
    answer = ask(memory, key)
    np.testing.assert_allclose(answer.correction.actions, closing(make, 0.008, 12), atol=1e-6)
    # The others had no say, so they are neither named nor credited.
    assert answer.correction.case_ids == (1, 2) and len(answer.shares) == 2
    assert sum(answer.shares) < 1.0
    between = ask(memory, key, by_act=False).correction
    assert 0.001 < between.actions[0, 0] < 0.007 and between.case_ids == (1, 2, 3)


def test_where_successes_do_what_is_done_no_case_is_credited_for_it(memory: FailureMemory, make) -> None:
    key = make.unit(1)
    case = make.case(embedding=make.turned(key, 0.6, 1), failed_actions=make.motion(0.0, 12))
    remember(memory, replace(case, correction=closing(make, 0.0, 0), correction_source="expert"))
    memory.observe_done(
        [
            SuccessSituation("push", "reach", STAMP, make.turned(key, 0.95, seed), closing(make, 0.006, 8), 1)
            for seed in (2, 3)
        ]
    )
    answer = ask(memory, key)
    np.testing.assert_allclose(answer.correction.actions, closing(make, 0.006, 8), atol=1e-6)
    assert answer.correction.case_ids == (1,) and answer.shares == (0.0,)


@pytest.mark.parametrize("horizon", [1, 2, 3, 16])
def test_chunks_of_any_length_are_told_apart_by_when_they_close(memory: FailureMemory, make, horizon: int) -> None:
    key = make.unit(1)
    case = make.case(embedding=key, failed_actions=make.motion(0.0, horizon))
    remember(memory, replace(case, correction=closing(make, 0.004, 0, horizon), correction_source="expert"))
    np.testing.assert_allclose(ask(memory, key).correction.actions, closing(make, 0.004, 0, horizon), atol=1e-6)
