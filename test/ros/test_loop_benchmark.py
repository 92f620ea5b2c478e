# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loop's benchmark, run briefly: its processes start, feed each other, and report."""

from __future__ import annotations

from flow_rag_vla.evaluate.benchmarks.loop import measure


def test_the_benchmark_feeds_the_loop_and_reads_both_timers():
    figures = measure(2.0)
    assert figures.loop["commands"] > 0 and figures.loop["chunks_accepted"] > 0
    assert str(1) in figures.loop["modes"], "the loop followed its chunks"
    assert figures.timer["ticks"] > 0
    assert figures.loop_cpu_ms > 0.0 and figures.timer_cpu_ms > 0.0
