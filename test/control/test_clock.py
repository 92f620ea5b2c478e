# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.clock import ClockWatch, TickSchedule
from flow_rag_vla.core.action import TICK_NS

MS = 1_000_000


def test_clocks_that_move_together_do_not_jump():
    watch = ClockWatch(200 * MS)
    assert [watch.observe(10**18 + k * TICK_NS, k * TICK_NS) for k in range(10)] == [0] * 10


@given(st.integers(201, 10_000_000), st.sampled_from([-1, 1]))
def test_a_step_of_the_node_clock_is_a_jump_in_either_direction(step_ms: int, sign: int):
    watch = ClockWatch(200 * MS)
    watch.observe(10**18, 0)
    assert watch.observe(10**18 + sign * step_ms * MS + TICK_NS, TICK_NS) == sign * step_ms * MS
    assert watch.observe(10**18 + sign * step_ms * MS + 2 * TICK_NS, 2 * TICK_NS) == 0


def test_a_late_tick_is_no_jump():
    watch = ClockWatch(200 * MS)
    watch.observe(10**18, 0)
    assert watch.observe(10**18 + 5000 * MS, 5000 * MS) == 0


def test_simulated_time_that_starts_again_is_a_jump():
    watch = ClockWatch(200 * MS)
    watch.observe(8000 * MS, 8000 * MS)
    assert watch.observe(25 * MS, 25 * MS) == -7975 * MS
    assert watch.steady_back_ns == 7975 * MS
    watch.observe(50 * MS, 50 * MS)
    assert watch.steady_back_ns == 0


def test_a_clock_that_is_set_back_leaves_the_steady_one():
    watch = ClockWatch(200 * MS)
    watch.observe(10**18, 0)
    assert watch.observe(10**18 - 8000 * MS, TICK_NS) < 0 and watch.steady_back_ns == 0


@given(st.integers(0, TICK_NS - 1), st.lists(st.integers(-10 * MS, 10 * MS), min_size=2, max_size=60))
def test_jitter_neither_repeats_nor_skips_a_row(phase: int, jitter: list[int]):
    schedule = TickSchedule()
    jitter[0] = 0
    rows = [(schedule.at(phase + k * TICK_NS + error)) // TICK_NS for k, error in enumerate(jitter)]
    assert (np.diff(rows) == 1).all()


def test_the_schedule_follows_when_a_tick_is_left_out():
    schedule = TickSchedule()
    schedule.at(0)
    assert schedule.at(3 * TICK_NS) == 3 * TICK_NS
    assert schedule.at(4 * TICK_NS + MS) == 4 * TICK_NS


def test_a_restarted_schedule_takes_the_next_tick_as_it_comes():
    schedule = TickSchedule()
    schedule.at(0)
    schedule.restart()
    assert schedule.at(TICK_NS + 7 * MS) == TICK_NS + 7 * MS
