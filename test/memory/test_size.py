# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a memory holds in memory: everything once, and little for each case."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np

from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.memory.consensus import ConsensusMemory
from flow_rag_vla.memory.index import make_backend
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory

DIMENSION, ROWS = 512, 16

OWN_BYTES = 4 * (DIMENSION + 2 * 7 * ROWS)
"""Of a case's own arrays: embedding, failed chunk, correction."""

MOST_A_CASE = 4 * OWN_BYTES
"""Twice is what is needed, for the index and for the whole case that answers read; the index grows by doubling."""


def rich(make, seed):
    return make.case(
        seed,
        embedding=make.unit(seed, DIMENSION),
        failed_actions=make.motion(0.001, ROWS),
        correction=make.motion(0.004, ROWS),
        correction_source="expert",
        evidence=(Evidence("gripper_width", 0.001, 0.01, "m"), Evidence("effort", 3.0, 5.0, "N")),
        note=f"the gripper closed on nothing, {seed}",
    )


def done(make, seed, case, episode_id=1):
    return SuccessSituation(case.task, case.phase, case.stamp, make.unit(seed), make.motion(0.002), episode_id)


def test_each_case_that_is_learned_and_answered_with_costs_a_few_times_its_own_bytes(make, database):
    memory, _ = FailureMemory.open(database, make_index=make_backend("faiss", "cpu"))
    warm, count = 100, 500
    cases = [rich(make, seed) for seed in range(count)]
    tracemalloc.start()
    try:
        for number, case in enumerate(cases):
            stored = memory.add(case)
            assert stored.accepted
            memory.cases([stored.case_id])
            memory.search(case.embedding, task=case.task)
            if number == warm:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        memory.close()
    assert grown < MOST_A_CASE * (count - warm), grown / (count - warm)


def test_a_change_has_its_own_case_read_again_and_no_other(make, open_memory):
    memory = open_memory()
    first, second = (memory.add(make.case(seed)).case_id for seed in (1, 2))
    before = memory.cases([first, second])
    memory.edit(first, note="looked at")
    memory.add(make.case(3))
    after = memory.cases([first, second])
    assert after[first].note == "looked at"
    assert after[second] is before[second]
    memory.retire(second)
    assert memory.cases([second])[second].retired


def test_a_case_that_is_credited_is_read_again(make, open_memory):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    assert memory.cases([case_id])[case_id].uses == 0
    memory.record_use([case_id], success=True)
    assert memory.cases([case_id])[case_id].uses == 1


def test_what_was_read_before_a_change_does_not_answer_after_it(make, open_memory, monkeypatch):
    memory = open_memory()
    case_id = memory.add(make.case(1)).case_id
    read = memory.store.get

    def overtaken(ids):
        found = read(ids)
        monkeypatch.setattr(memory.store, "get", read)
        memory.edit(case_id, note="changed meanwhile")
        return found

    monkeypatch.setattr(memory.store, "get", overtaken)
    assert memory.cases([case_id])[case_id].note == ""
    assert memory.cases([case_id])[case_id].note == "changed meanwhile"


def test_a_case_that_another_program_changed_is_read_again_once_that_was_seen(make, open_memory):
    memory, other = open_memory(), open_memory()
    case_id = memory.add(make.case(1)).case_id
    assert memory.cases([case_id])[case_id].note == ""
    other.refresh()
    other.edit(case_id, note="by the console")
    assert memory.refresh()
    assert memory.cases([case_id])[case_id].note == "by the console"


def test_stored_successes_are_held_once_for_all_who_ask_until_they_change(make, open_memory):
    memory = open_memory()
    case = make.case(1)
    memory.add(case)
    memory.observe_done([done(make, seed, case) for seed in range(10, 14)])
    held = memory.successes(case.stamp)
    place = held[case.task, case.phase]
    assert all(np.shares_memory(item.embedding, place.vectors) for item in place.situations)
    consensus = ConsensusMemory(memory, deferred=True)
    consensus.renew(case.stamp)
    memory.add(make.case(2))
    assert memory.successes(case.stamp) is held
    memory.observe_done([done(make, 14, case, 2)])
    more = memory.successes(case.stamp)[case.task, case.phase]
    assert len(more.situations) == 5 and more.vectors.shape == (5, 16)
    stored = {item.success_id: item.embedding for item in memory.ledger.successes(case.stamp)}
    assert all(np.array_equal(item.embedding, stored[item.success_id]) for item in more.situations)
