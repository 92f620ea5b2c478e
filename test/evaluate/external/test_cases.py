# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flow_rag_vla.evaluate.external.cases import (
    DoneWell,
    ExternalMemory,
    LabelledFailure,
    RecallSettings,
    pack_chunk,
    shuffled,
    unpack_chunk,
)
from flow_rag_vla.evaluate.external.key import KernelKey
from flow_rag_vla.memory.case import action_distance
from flow_rag_vla.memory.store import StoreError

SHAPE = (4, 3)


def failure(situation, correction=1.0, failed=-1.0, seed=0):
    place = np.asarray(situation, dtype=np.float32)
    full = [np.full(SHAPE, value, dtype=np.float32) for value in (failed, correction)]
    return LabelledFailure(seed, 0, place, place, *full)


@pytest.fixture
def make_memory():
    made = []

    def make(failures=(), path=None, **settings):
        memory = ExternalMemory("test", "p1", KernelKey(2, 1.0), SHAPE, RecallSettings(**settings), path)
        memory.remember(failures)
        made.append(memory)
        return memory

    yield make
    for memory in made:
        memory.close()


chunks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, (2, *shape), elements=st.floats(-1.0, 1.0, width=32))
)


@given(chunks)
def test_a_chunk_of_any_width_comes_back_and_keeps_its_distances(pair):
    one, other = pair
    rows = pack_chunk(one)
    assert rows.shape[1] == 7
    np.testing.assert_allclose(unpack_chunk(rows, one.shape), one, atol=1e-5)
    filled = np.sqrt(one.size / rows.size)
    wanted = float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2))) * filled
    assert action_distance(rows, pack_chunk(other)) == pytest.approx(wanted, abs=1e-4)


def test_a_situation_like_one_that_failed_brings_up_its_correction(make_memory):
    recall = make_memory([failure([0.0, 0.0]), failure([5.0, 5.0], correction=0.5)]).recall(np.array([0.01, 0.0]))
    np.testing.assert_allclose(recall.correction, 1.0, atol=1e-4)
    np.testing.assert_allclose(recall.offset, 2.0, atol=1e-4)
    np.testing.assert_allclose(recall.failed, -np.ones((1, *SHAPE)), atol=1e-4)
    assert recall.similarity > 0.99
    assert 0.9 < recall.strength <= 1.0


def test_nothing_credible_is_no_correction(make_memory):
    assert make_memory([failure([0.0, 0.0])]).recall(np.array([3.0, 0.0])) is None
    assert make_memory().recall(np.zeros(2)) is None


def test_nearer_cases_weigh_more(make_memory):
    memory = make_memory([failure([0.0, 0.0], 1.0), failure([0.6, 0.0], 0.0)], threshold=0.5)
    near, between = (memory.recall(np.array([x, 0.0])).correction.mean() for x in (0.0, 0.3))
    assert near > 0.7
    assert between == pytest.approx(0.5, abs=0.15)


def test_cases_that_contradict_each_other_are_followed_less(make_memory):
    agreeing = make_memory([failure([0.0, 0.0], 1.0), failure([0.1, 0.0], 0.95, failed=0.0)], agreement=0.5)
    contradicting = make_memory([failure([0.0, 0.0], 1.0), failure([0.1, 0.0], -1.0, failed=0.0)], agreement=0.5)
    here = np.array([0.05, 0.0])
    assert contradicting.recall(here).strength < 0.1 < 0.5 < agreeing.recall(here).strength
    assert contradicting.recall(here).agreement < agreeing.recall(here).agreement


def test_where_the_policy_mostly_succeeds_it_is_corrected_less_and_then_not_at_all(make_memory):
    failures = [failure([0.0, 0.0]), failure([3.0, 0.0], failed=0.0)]
    here = np.array([0.0, 0.0], dtype=np.float32)
    far = np.array([-9.0, 0.0], dtype=np.float32)
    memory = make_memory(failures, least_trust=0.4)
    strengths = []
    for shares in (0.0, 0.25, 0.55, 0.65):
        memory.calibrate([here] * round(20 * shares) + [far] * round(20 * (1.0 - shares)))
        strengths.append(memory.recall(here).strength)
    assert strengths[0] == strengths[1] > strengths[2] > strengths[3] > 0.0
    memory.calibrate([here] * 20)
    assert memory.recall(here) is None


def test_a_single_case_agrees_with_nobody(make_memory):
    assert make_memory([failure([0.0, 0.0])]).recall(np.zeros(2)).agreement == 0.0


def test_what_says_the_same_is_stored_once(make_memory):
    memory = make_memory([failure([0.0, 0.0])])
    assert memory.remember([failure([0.001, 0.0]), failure([2.0, 0.0])]) == 1
    assert len(memory) == 2


def test_a_calibrated_gate_leaves_calm_situations_alone(make_memory):
    calm = list(np.random.default_rng(0).normal([1.0, 0.0], 0.05, (200, 2)).astype(np.float32))
    fixed = make_memory([failure([0.0, 0.0])], threshold=0.5, least_trust=0.0)
    gated = make_memory([failure([0.0, 0.0])], threshold=0.5, least_trust=0.0, calibrate=True)
    fixed.calibrate(calm)
    gated.calibrate(calm)
    assert fixed.threshold == 0.5
    assert gated.threshold > 0.5
    assert all(fixed.recall(place) is not None for place in calm)
    assert sum(gated.recall(place) is not None for place in calm) <= 0.05 * len(calm)
    assert gated.recall(np.zeros(2)) is not None


def test_the_consensus_is_between_corrections_and_what_went_well_nearby(make_memory):
    memory = make_memory([failure([0.0, 0.0], correction=0.8)])
    here, far = np.zeros(2, dtype=np.float32), np.array([30.0, 0.0], dtype=np.float32)
    alone = memory.agreed(here, here)
    np.testing.assert_allclose(alone.correction, 0.8, atol=1e-3)
    assert alone.until == 1.0 and alone.case_ids == (1,)
    assert memory.agreed(far, far) is None
    memory.observe_done([DoneWell(1, here, here, np.full(SHAPE, -0.4, dtype=np.float32))])
    between = memory.agreed(here, here).correction
    np.testing.assert_allclose(between, 0.2, atol=0.05)


def test_a_case_that_never_helped_is_trusted_less(make_memory):
    memory = make_memory([failure([0.0, 0.0])])
    before = memory.recall(np.zeros(2))
    for _ in range(4):
        memory.record_use(before.case_ids, False)
    assert memory.recall(np.zeros(2)).strength < before.strength


def test_a_database_of_another_policy_is_refused(make_memory, tmp_path):
    make_memory([failure([0.0, 0.0])], path=tmp_path / "memory.sqlite").close()
    other = ExternalMemory("test", "p2", KernelKey(2, 1.0), SHAPE, path=tmp_path / "memory.sqlite")
    with pytest.raises(StoreError):
        other.remember([failure([1.0, 0.0])])
    other.close()


def test_a_shuffled_memory_has_the_same_situations_and_each_others_corrections():
    failures = [failure([float(number), 0.0], correction=number / 20.0) for number in range(20)]
    mixed = shuffled(failures, 3)
    assert [item.situation[0] for item in mixed] == [item.situation[0] for item in failures]
    assert sorted(item.correction[0, 0] for item in mixed) == sorted(item.correction[0, 0] for item in failures)
    assert any((one.correction != other.correction).any() for one, other in zip(mixed, failures, strict=True))
