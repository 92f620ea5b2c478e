# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a process says that it costs."""

import time

import psutil

from flow_rag_vla.core.process_figures import ProcessFigures


def test_memory_is_what_the_system_says():
    figures = ProcessFigures().read()
    assert 0.5 < figures["memory_mb"] * 1e6 / psutil.Process().memory_info().rss < 2.0
    assert figures["threads"] >= 1


def test_a_rate_is_what_was_done_since_the_last_reading(monkeypatch):
    now = [10_000_000_000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    figures = ProcessFigures()
    assert "rate_hz" not in figures.read(5), "the first count has nothing to be compared with"
    now[0] += 2_000_000_000
    assert figures.read(85)["rate_hz"] == 40.0
    now[0] += 1_000_000_000
    assert "rate_hz" not in figures.read(3), "a count that fell began anew"
    assert "rate_hz" not in figures.read(None)


def test_the_share_of_a_core_is_that_of_the_time_in_between(monkeypatch):
    wall, cpu = [0], [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: wall[0])
    monkeypatch.setattr(time, "process_time_ns", lambda: cpu[0])
    figures = ProcessFigures()
    wall[0], cpu[0] = 1_000_000_000, 250_000_000
    assert figures.read()["cpu_percent"] == 25.0
    wall[0] = 2_000_000_000
    assert figures.read()["cpu_percent"] == 0.0
