# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.statistics import STAGES, LoopStatistics, Ring, TickWatch

MS = 1_000_000


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_a_ring_summarises_its_newest_values(values: list[float], size: int):
    ring = Ring(size)
    for value in values:
        ring.add(value)
    kept, summary = values[-size:], ring.summary()
    assert (summary.count, summary.maximum, ring.total) == (len(kept), max(kept), len(values))
    assert summary.mean == pytest.approx(np.mean(kept))
    for share, value in ((50, summary.p50), (99, summary.p99)):
        # Nearest rank: the smallest value that at least so many per cent of all values do not exceed.
        assert value in kept and 100 * sum(other <= value for other in kept) >= share * len(kept)
        assert 100 * sum(other < value for other in kept) < share * len(kept)


def test_an_empty_ring_says_zero_and_a_ring_of_none_is_refused():
    assert Ring(3).summary().count == 0 and Ring(3).summary().p99 == 0.0
    with pytest.raises(ValueError, match="ring of 0"):
        Ring(0)


def watched(*starts_ms: float) -> TickWatch:
    watch = TickWatch()
    for start in starts_ms:
        watch.observe(int(start * MS))
    return watch


def test_ticks_in_time_are_neither_late_nor_skipped():
    watch = watched(0, 25, 51, 74, 110, 125)
    assert (watch.ticks, watch.late, watch.skipped) == (6, 0, 0)


def test_a_tick_more_than_half_a_period_late_counts_as_late():
    watch = watched(0, 25, 63, 75, 100)
    assert (watch.late, watch.skipped) == (1, 0)


def test_a_period_without_a_tick_counts_as_skipped():
    watch = watched(0, 25, 100, 125, 150)
    assert (watch.late, watch.skipped) == (1, 2)


def test_a_late_first_tick_does_not_make_the_schedule():
    watch = watched(10, 25, 50, 75, 99)
    assert (watch.late, watch.skipped) == (0, 0)
    assert watched(10, 25, 63).late == 1


def test_a_timer_that_begins_anew_is_not_late():
    watch = watched(0, 25, 30, 55, 80)
    assert (watch.late, watch.skipped) == (0, 0)


def test_a_restart_forgets_the_schedule_but_not_the_counts():
    watch = watched(0, 25, 100)
    watch.restart()
    assert watch.observe(9_000 * MS) == (None, False)
    assert (watch.ticks, watch.skipped) == (4, 2)


def test_figures_say_rate_errors_processor_time_and_stages():
    statistics = LoopStatistics(4)
    for start in (0, 25, 50, 76, 100, 125):
        statistics.record_tick(start * MS)
    statistics.record_cpu(300_000)
    statistics.record_stage("capture_to_command", 80 * MS)
    figures = statistics.figures()
    assert figures.rate_hz == pytest.approx(40.0)
    assert figures.window_s == pytest.approx(0.1)
    assert (figures.tick_error.maximum, figures.tick_error.count) == (pytest.approx(1.0), 4)
    assert figures.cpu.mean == pytest.approx(0.3)
    stages = dict(figures.stages)
    assert tuple(stages) == STAGES and stages["capture_to_command"].p50 == pytest.approx(80.0)


def test_a_loop_that_has_not_begun_has_no_rate():
    assert LoopStatistics(4).figures().rate_hz == 0.0
