# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.queue import ChunkQueue, ChunkRefusal
from flow_rag_vla.core.action import TICK_NS, ActionChunk

MS = 1_000_000
NOW = 10**18


def chunk(chunk_id: int = 1, stamp: int = NOW, rows: int = 16, task: str = "push", **others) -> ActionChunk:
    actions = np.full((rows, 7), chunk_id, dtype=np.float32)
    return ActionChunk(chunk_id, stamp, actions, task, **others)


def opened(not_before: int = NOW - 10_000 * MS, task: str = "push") -> ChunkQueue:
    queue = ChunkQueue(600 * MS, 50 * MS)
    queue.open(task, not_before)
    return queue


def refusal(queue: ChunkQueue, offered: ActionChunk, now: int = NOW) -> ChunkRefusal | None:
    refused = queue.offer(offered, now, 0)
    return None if refused is None else refused.refusal


@given(st.integers(0, 16 * TICK_NS - 1))
def test_the_row_is_that_of_the_ticks_since_the_observation(elapsed: int):
    queue = opened()
    queue.offer(chunk(), NOW, 0)
    assert queue.row(NOW + elapsed) == elapsed // TICK_NS


def test_a_chunk_is_used_up_after_its_last_row():
    queue = opened()
    queue.offer(chunk(rows=4), NOW, 0)
    assert queue.row(NOW + 4 * TICK_NS - 1) == 3
    assert queue.row(NOW + 4 * TICK_NS) is None


def test_without_a_chunk_there_is_no_row():
    assert opened().row(NOW) is None


def test_a_newer_observation_takes_over_at_the_row_of_its_own_delay():
    queue = opened()
    queue.offer(chunk(1, NOW - 200 * MS), NOW, 0)
    assert refusal(queue, chunk(2, NOW - 80 * MS)) is None
    assert (queue.held.chunk.chunk_id, queue.row(NOW)) == (2, 3)


def test_the_same_observation_planned_again_replaces_the_plan():
    queue = opened()
    queue.offer(chunk(1), NOW, 0)
    assert refusal(queue, chunk(2)) is None


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (chunk(5), ChunkRefusal.DUPLICATE),
        (chunk(4), ChunkRefusal.OLDER),
        (chunk(6, NOW - TICK_NS), ChunkRefusal.OLDER),
        (chunk(6, NOW + 51 * MS), ChunkRefusal.FUTURE),
        (chunk(6, NOW - 10_001 * MS), ChunkRefusal.OTHER_EPISODE),
        (chunk(6, NOW + MS, task="stack"), ChunkRefusal.OTHER_TASK),
    ],
)
def test_what_a_chunk_is_refused_for_is_named_and_counted(offered: ActionChunk, why: ChunkRefusal):
    queue = opened()
    queue.offer(chunk(5), NOW, 0)
    refused = queue.offer(offered, NOW, 0)
    assert refused is not None and refused.refusal is why
    assert f"chunk {offered.chunk_id}" in refused.text
    assert queue.refused == {why: 1} and queue.refusals == 1
    assert queue.held.chunk.chunk_id == 5 and queue.accepted == 1


def test_a_chunk_older_than_the_limit_is_refused():
    assert refusal(opened(), chunk(1, NOW - 601 * MS, rows=100)) is ChunkRefusal.TOO_OLD
    assert refusal(opened(), chunk(1, NOW - 599 * MS, rows=100)) is None


def test_a_chunk_whose_rows_are_all_over_on_arrival_is_refused():
    assert refusal(opened(), chunk(1, NOW - 100 * MS, rows=4)) is ChunkRefusal.EXHAUSTED
    assert refusal(opened(), chunk(1, NOW - 99 * MS, rows=4)) is None


@pytest.mark.parametrize("actions", [np.zeros((0, 7)), np.zeros((4, 6)), np.zeros(7), np.full((2, 7), np.nan)])
def test_a_malformed_chunk_is_refused(actions: np.ndarray):
    assert refusal(opened(), ActionChunk(1, NOW, actions.astype(np.float32))) is ChunkRefusal.INVALID


def test_nothing_is_taken_outside_an_episode():
    queue = opened()
    queue.offer(chunk(), NOW, 0)
    queue.close()
    assert queue.held is None
    assert refusal(queue, chunk(2, NOW + MS)) is ChunkRefusal.NO_EPISODE


def test_what_was_captured_before_a_clock_jump_is_refused():
    queue = opened()
    queue.offer(chunk(), NOW, 0)
    queue.drop(NOW + 500 * MS)
    assert queue.held is None
    assert refusal(queue, chunk(2, NOW + 499 * MS), NOW + 510 * MS) is ChunkRefusal.CLOCK_JUMP
    assert refusal(queue, chunk(3, NOW + 500 * MS), NOW + 510 * MS) is None


def test_a_robot_that_was_moved_lets_no_chunk_of_the_episode_before_in():
    queue = opened(not_before=NOW)
    queue.drop(NOW - 100 * MS, ChunkRefusal.DISPLACED)
    assert refusal(queue, chunk(1, NOW - 50 * MS), NOW + MS) is ChunkRefusal.OTHER_EPISODE
    queue.drop(NOW + 100 * MS, ChunkRefusal.DISPLACED)
    assert refusal(queue, chunk(2, NOW + 50 * MS), NOW + 110 * MS) is ChunkRefusal.DISPLACED
    queue.drop(NOW - 500 * MS)
    assert refusal(queue, chunk(3, NOW - 499 * MS), NOW - 490 * MS) is None, "a clock that was set back"


def test_a_chunk_slightly_ahead_of_the_clock_begins_at_its_first_row():
    queue = opened()
    assert refusal(queue, chunk(1, NOW + 40 * MS)) is None
    assert queue.row(NOW) == 0


def test_a_chunk_or_an_episode_without_a_task_fits_any():
    assert refusal(opened(), chunk(task="")) is None
    assert refusal(opened(task=""), chunk(task="stack")) is None


@given(st.permutations(list(range(12))), st.data())
def test_order_and_repetition_of_arrival_do_not_matter(order: list[int], data):
    repeated = data.draw(st.lists(st.sampled_from(order), max_size=12))
    queue = opened()
    for index in [*order, *repeated]:
        queue.offer(chunk(index, NOW - (12 - index) * 10 * MS), NOW, 0)
    assert queue.held.chunk.chunk_id == 11
    assert queue.accepted + queue.refusals == 12 + len(repeated)


def test_the_age_of_an_observation_grows_on_the_steady_clock():
    queue = opened()
    queue.offer(chunk(1, NOW - 70 * MS), NOW, 1_000 * MS)
    assert queue.held.age_ns(1_030 * MS) == 100 * MS
