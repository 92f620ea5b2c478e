# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses

import pytest

from flow_rag_vla.evaluate.benchmarks.loop import LoopFigures

ERRORS = {"rate_hz": 40.0, "p50_ms": 0.1, "p99_ms": 3.0, "max_ms": 9.0}
LOOP = ERRORS | {"cpu_mean_ms": 0.6, "cpu_max_ms": 1.4, "stages": {"capture_to_command": [70.0, 80.0, 90.0]}}
FIGURES = LoopFigures(60.0, LOOP, ERRORS | {"p99_ms": 2.0}, 1.4, 0.5, 0, 0)


def test_the_loop_is_measured_against_the_timer_beside_it():
    assert FIGURES.error_ratio == pytest.approx(1.5)
    assert FIGURES.added_cpu_ms == pytest.approx(0.9)
    assert FIGURES.reached


@pytest.mark.parametrize(
    "change",
    [{"loop_cpu_ms": 1.6}, {"skipped": 1}, {"timer": ERRORS | {"p99_ms": 1.4}}],
)
def test_each_target_can_be_missed(change):
    assert not dataclasses.replace(FIGURES, **change).reached


def test_a_tick_that_the_machine_took_from_both_is_no_fault_of_the_loop():
    assert dataclasses.replace(FIGURES, skipped=2, timer_skipped=2).reached


def test_the_table_names_ratio_target_and_stages():
    table = FIGURES.table()
    assert "ratio 1.50, target at most 2" in table
    assert "added 0.900, target at most 1" in table
    assert "capture_to_command" in table
