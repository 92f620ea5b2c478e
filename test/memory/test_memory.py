# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the memory keeps, refuses, forgets, finds and credits."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.cache import LruCache, quantised
from flow_rag_vla.memory.case import CaseError
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.pruning import SAMPLE, candidates, case_value, nearest_others
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import CaseFilter, EncoderMismatchError, StoreError, UnknownCaseError


def test_the_nearest_case_of_the_same_task_and_phase_is_found(make, open_memory):
    memory = open_memory(threshold=0.5)
    base = make.unit(0)
    ids = [memory.add(make.case(embedding=make.turned(base, value))).case_id for value in (0.95, 0.7, 0.3)]
    elsewhere = memory.add(make.case(embedding=base, phase="grasp")).case_id
    result = memory.search(base, stamp=memory.stamp, task="push", phase="reach")
    assert [item.case_id for item in result.cases] == ids[:2]
    assert result.threshold == 0.5
    np.testing.assert_allclose([item.similarity for item in result.cases], [0.95, 0.7], atol=1e-5)
    assert [item.case_id for item in memory.search(base, task="push").cases] == [elsewhere, *ids[:2]]
    assert [item.case_id for item in memory.search(base, k=1, threshold=-1.0).cases] == [elsewhere]
    assert memory.search(base, task="stack").cases == ()


def test_an_empty_memory_finds_nothing_and_takes_any_encoder(make, open_memory):
    memory = open_memory()
    assert memory.stamp is None
    assert memory.search(make.unit(0, 5)).cases == ()
    assert memory.recalibrate() is None


def test_a_query_that_does_not_fit_is_refused(make, open_memory):
    memory = open_memory()
    memory.add(make.case(1))
    with pytest.raises(EncoderMismatchError, match="dinov2"):
        memory.search(make.unit(1), stamp=make.case(1, encoder="dinov2").stamp)
    with pytest.raises(CaseError, match=r"shape \(8,\)"):
        memory.search(make.unit(1, 8))
    with pytest.raises(CaseError, match="k is 0"):
        memory.search(make.unit(1), k=0)


@pytest.mark.parametrize(
    ("change", "duplicate"),
    [
        ({}, True),
        ({"note": "another note"}, True),
        ({"failure_type": FailureType.DROP}, False),
        ({"phase": "grasp"}, False),
        ({"task": "stack"}, False),
        ({"failed_actions": "other"}, False),
        ({"embedding": "near"}, True),
        ({"embedding": "far"}, False),
    ],
)
def test_a_duplicate_has_the_same_type_the_same_situation_and_the_same_action(make, open_memory, change, duplicate):
    memory = open_memory()
    first = memory.add(make.case(1))
    assert first.accepted
    words = {
        "other": make.motion(0.01),
        "near": make.turned(make.unit(1), 0.99),
        "far": make.turned(make.unit(1), 0.97),
    }
    fields = {name: words.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
    second = memory.add(make.case(1, **fields))
    assert second.accepted is not duplicate
    if duplicate:
        assert second.case_id == first.case_id and f"case {first.case_id} is the same failure" in second.message
    assert memory.statistics().refused_duplicates == int(duplicate)
    assert memory.statistics().cases == 2 - int(duplicate)


def test_a_duplicate_among_many_alike_situations_is_still_found_by_its_action(make, open_memory):
    memory = open_memory()
    for step in range(20):
        assert memory.add(make.case(1, failed_actions=make.motion(0.01 * step))).accepted
    assert not memory.add(make.case(1, failed_actions=make.motion(0.13))).accepted


def test_a_duplicate_that_knows_the_correction_says_where_to_put_it(make, open_memory):
    memory = open_memory()
    memory.add(make.case(1))
    result = memory.add(make.case(1, correction=make.motion(0.01), correction_source="expert"))
    assert "edit it to store the one given" in result.message


def test_what_was_retired_does_not_come_back_by_itself(make, open_memory):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    memory.retire(case_id, True, "it hurt")
    assert memory.search(make.unit(1)).cases == ()
    assert memory.get(case_id).retired_reason == "it hurt"
    again = memory.add(make.case(1))
    assert not again.accepted and again.case_id == case_id
    memory.retire(case_id, False)
    assert [item.case_id for item in memory.search(make.unit(1)).cases] == [case_id]
    assert (memory.statistics().cases, memory.statistics().retired) == (1, 0)
    assert memory.get(case_id).retired_reason == ""


def test_an_edited_case_is_found_as_it_is_now(make, open_memory):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    memory.search(make.unit(1))
    edited = memory.edit(
        case_id, correction=make.motion(0.01), failure_type=FailureType.DROP, note="dropped", correction_source="expert"
    )
    assert (edited.failure_type, edited.note, edited.correction_source) == (FailureType.DROP, "dropped", "expert")
    found = memory.search(make.unit(1)).cases[0].summary
    assert (found.group.failure_type, found.has_correction) == (FailureType.DROP, True)
    np.testing.assert_array_equal(memory.cases([case_id])[case_id].correction, make.motion(0.01))
    memory.edit(case_id, forget_correction=True)
    assert memory.get(case_id).correction is None
    assert not memory.search(make.unit(1)).cases[0].summary.has_correction
    with pytest.raises(CaseError, match="correction has 2 rows"):
        memory.edit(case_id, correction=make.motion(0.01, 2))
    for act in (memory.get, memory.retire, memory.edit):
        with pytest.raises(UnknownCaseError):
            act(999)


def test_credit_is_the_beta_posterior_mean_and_survives_reopening(make, open_memory):
    memory = open_memory()
    first, second = (memory.add(make.case(seed)).case_id for seed in (1, 2))
    for success in (True, True, False):
        memory.record_use([first, first, 999], success)
    memory.record_use([999], True)
    found = memory.search(make.unit(1)).cases[0]
    assert (found.summary.uses, found.summary.successes, found.credit) == (3, 2, 3 / 5)
    assert memory.search(make.unit(2)).cases[0].credit == 0.5
    again = open_memory()
    assert again.search(make.unit(1)).cases[0].credit == 3 / 5
    assert again.get(second).uses == 0


def test_a_repeated_search_comes_from_the_cache_until_something_changes(make, open_memory):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    query = make.turned(make.unit(1), 0.99)
    first, second = memory.search(query), memory.search(query)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert first.cases == second.cases
    assert not memory.search(query, task="push").from_cache
    assert not memory.search(query, k=2).from_cache
    assert not memory.search(query, threshold=0.1).from_cache
    memory.record_use([case_id], True)
    after = memory.search(query)
    assert not after.from_cache and after.cases[0].summary.uses == 1
    memory.add(make.case(embedding=query, failed_actions=make.motion(0.01)))
    assert len(memory.search(query).cases) == 2
    statistics = memory.statistics()
    assert (statistics.searches, statistics.cache_hits) == (7, 1)
    assert statistics.search_p99_ms >= statistics.search_p50_ms > 0.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60), st.integers(0, 4))
def test_the_cache_holds_what_was_used_last(steps, size):
    cache: LruCache[int] = LruCache(size)
    order: list[int] = []
    for put, key in steps:
        if put:
            cache.put(key, key * 10 + 1)
            order = [item for item in order if item != key] + [key]
        else:
            kept = order[-size:] if size else []
            assert cache.get(key) == (key * 10 + 1 if key in kept else None)
            if key in kept:
                order = [item for item in kept if item != key] + [key]
        order = order[-size:] if size else []
        assert len(cache) == len(order)


@given(st.integers(0, 2**32 - 1), st.integers(2, 64))
def test_embeddings_with_equal_keys_are_equally_similar_to_anything(seed, dimension):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(2, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = (rows[0] + generator.uniform(-1e-4, 1e-4, dimension)).astype(np.float32)
    if quantised(near) == quantised(rows[0].astype(np.float32)):
        assert abs(near @ rows[1] - rows[0] @ rows[1]) < 4e-3


def test_a_full_memory_forgets_the_least_telling_case_and_no_last_of_a_kind(make, open_memory):
    memory = open_memory(capacity=5, duplicate_similarity=1.1)
    base = make.unit(0)
    lonely = memory.add(make.case(7, task="stack")).case_id
    helped = memory.add(make.case(embedding=make.turned(base, 0.99, 1), uses=9, successes=9)).case_id
    hurt = memory.add(make.case(embedding=make.turned(base, 0.99, 2), uses=9, successes=0)).case_id
    unused = memory.add(make.case(embedding=make.turned(base, 0.99, 3))).case_id
    apart = memory.add(make.case(embedding=-base)).case_id
    assert memory.add(make.case(50)).pruned == (hurt,)
    assert memory.add(make.case(51)).pruned == (unused,)
    left = {case.case_id for case in memory.page(CaseFilter())[1]}
    assert {lonely, helped, apart} <= left and len(left) == 5
    assert memory.statistics().pruned == 2
    assert all(item.case_id in left for item in memory.search(base, k=9, threshold=-1.0).cases)


def test_of_two_cases_side_by_side_the_one_without_a_correction_goes(make, open_memory):
    memory = open_memory(capacity=3, duplicate_similarity=1.1)
    base = make.unit(0)
    known = memory.add(make.case(embedding=base, correction=make.motion(0.01), correction_source="expert")).case_id
    beside = memory.add(make.case(embedding=make.turned(base, 0.999), failed_actions=make.motion(0.01))).case_id
    memory.add(make.case(embedding=-base))
    assert memory.add(make.case(embedding=make.unit(9))).pruned == (beside,)
    assert memory.get(known).correction is not None


def test_a_memory_full_of_singular_cases_refuses_and_says_what_to_do(make, open_memory):
    memory = open_memory(capacity=2)
    memory.add(make.case(1, task="push"))
    memory.add(make.case(2, task="stack"))
    result = memory.add(make.case(3, task="open_drawer"))
    assert not result.accepted and "raise the parameter capacity" in result.message
    assert memory.add(make.case(4, task="push")).accepted
    assert memory.statistics().cases == 2


def test_a_retired_case_returns_only_where_there_is_room(make, open_memory):
    memory = open_memory(capacity=1)
    case_id = memory.add(make.case(1)).case_id
    memory.retire(case_id)
    memory.add(make.case(2))
    with pytest.raises(StoreError, match="full with 1 cases"):
        memory.retire(case_id, False)
    memory.retire(case_id, True, "still")
    assert memory.get(case_id).retired_reason == "still"


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=40))
def test_no_group_dies_out_and_the_capacity_holds(make, tmp_path_factory, arrivals):
    path = tmp_path_factory.mktemp("memory") / "m.db"
    memory, _ = FailureMemory.open(path, MemorySettings(capacity=8), NumpyIndex)
    seen: set[str] = set()
    for seed, phase, kind in arrivals:
        case = make.case(seed, phase=str(phase), failure_type=kind)
        if memory.add(case).accepted:
            seen.add(str(case.group))
        held = Counter(str(case.group) for case in memory.page(CaseFilter())[1])
        assert set(held) == seen and sum(held.values()) <= 8
        assert memory.statistics().cases == sum(held.values())
    memory.close()


def test_a_large_memory_is_pruned_from_a_sample_of_its_pruneable_cases(make, open_memory):
    memory = open_memory(duplicate_similarity=1.1)
    memory.add_all([make.case(seed) for seed in range(200)])
    memory.add_all([make.case(1000 + seed, phase="grasp") for seed in range(40)])
    memory.add(make.case(9, task="stack"))
    generator = np.random.default_rng(0)
    index = memory._shelf.index
    assert index is not None
    sampled = candidates(index, make.case(phase="release").group, generator)
    assert sum(len(ids) for ids in sampled.values()) == SAMPLE
    assert {str(group) for group in sampled} == {"push/reach/grasp_failure", "push/grasp/grasp_failure"}
    for group, ids in sampled.items():
        assert set(ids.tolist()) <= set(index.members(group).tolist())
    with_stack = candidates(index, make.case(task="stack").group, generator)
    assert sum(len(ids) for ids in with_stack.values()) == SAMPLE


def test_the_nearest_other_case_counts_twins_and_arrivals(make, open_memory):
    memory = open_memory(duplicate_similarity=1.1)
    base = make.unit(0)
    ids = [memory.add(make.case(embedding=vector)).case_id for vector in (base, base, make.turned(base, 0.5))]
    index = memory._shelf.index
    assert index is not None
    group = make.case().group
    members = np.array(ids, dtype=np.int64)
    np.testing.assert_allclose(nearest_others(index, group, members, None), [1.0, 1.0, 0.5], atol=1e-5)
    arriving = make.turned(base, 0.5)
    np.testing.assert_allclose(nearest_others(index, group, members, arriving), [1.0, 1.0, 1.0], atol=1e-5)


@given(st.integers(0, 50), st.integers(0, 50), st.floats(-1, 1), st.floats(-1, 1))
def test_value_falls_with_nearness_and_rises_with_success(uses, successes, near, nearer):
    successes = min(successes, uses)
    low, high = sorted((near, nearer))
    assert case_value(uses, successes, False, low) >= case_value(uses, successes, False, high)
    assert case_value(uses + 1, successes + 1, False, near) >= case_value(uses, successes, False, near)
    assert case_value(uses + 1, successes, False, near) <= case_value(uses, successes, False, near)
    assert case_value(uses, successes, True, near) > case_value(uses, successes, False, near)


def test_a_change_by_another_program_is_loaded(make, open_memory):
    memory, other = open_memory(), open_memory()
    case_id = memory.add(make.case(1)).case_id
    assert not memory.refresh()
    assert other.refresh() and other.stamp == memory.stamp
    other.retire(case_id)
    assert memory.refresh()
    assert memory.search(make.unit(1)).cases == ()


def test_successes_that_another_program_stored_are_what_new_cases_are_tried_on(make, open_memory):
    memory, other = open_memory(), open_memory()
    memory.add(make.case(1))
    assert other.refresh()
    before = other.guard()
    assert other.guard() is before
    situation = SuccessSituation("push", "reach", memory.stamp, make.unit(1), make.motion(0.001), 1)
    memory.observe_done([situation])
    assert other.refresh()
    assert other.statistics().success_situations == 1 and other.guard() is not before


def test_new_settings_hold_for_the_next_search(make, open_memory):
    memory = open_memory(threshold=0.9)
    memory.add(make.case(1))
    query = make.turned(make.unit(1), 0.7)
    assert memory.search(query).cases == ()
    memory.configure(MemorySettings(threshold=0.5))
    assert len(memory.search(query).cases) == 1


def test_invalid_cases_are_counted(open_memory):
    memory = open_memory()
    memory.refuse()
    assert memory.statistics().refused_invalid == 1


def test_who_only_asks_does_not_wait_for_a_change(make, open_memory):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    answers: list[object] = []

    def ask() -> None:
        answers.append(memory.search(make.unit(1)).cases[0].case_id)
        answers.append(memory.cases([case_id])[case_id].case_id)
        answers.append(memory.successes(memory.stamp))
        answers.append(memory.duplicate_of(make.case(1)))
        memory.refuse()
        answers.append(memory.statistics().refused_invalid)

    thread = threading.Thread(target=ask, daemon=True)
    with memory.changing():
        thread.start()
        thread.join(60.0)
        assert answers == [case_id, case_id, {}, case_id, 1]


def test_readers_see_whole_cases_while_a_writer_adds_edits_and_retires(make, open_memory):
    memory = open_memory(capacity=40, duplicate_similarity=1.1)
    ids = [memory.add(make.case(seed)).case_id for seed in range(10)]
    done = threading.Event()
    problems: list[BaseException] = []
    reads = [0, 0, 0]

    def read(seed: int) -> None:
        try:
            # Readers that never rest would leave the writer waiting for the interpreter, not for the memory.
            while not done.wait(0.001):
                for item in memory.search(make.unit(seed), k=5, threshold=-1.0, task="push").cases:
                    case = memory.cases([item.case_id]).get(item.case_id)
                    if case is not None and not case.retired:
                        assert abs(float(case.embedding @ make.unit(seed)) - item.similarity) < 1e-4
                        reads[seed] += 1
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    try:
        for step in range(60):
            memory.add(make.case(100 + step))
            memory.record_use([ids[step % 10]], True)
            memory.edit(memory.add(make.case(300 + step)).case_id, note="edited")
    finally:
        done.set()
        for reader in readers:
            reader.join(timeout=30)
    assert problems == []
    assert min(reads) > 0
    assert memory.statistics().cases == 40
