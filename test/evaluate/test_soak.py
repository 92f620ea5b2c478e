# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Growth over a long run, and its page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.evaluate.soak import LEAST_WARM_UP_S, MEASURES, case_growth, growth, page, rows, summary

LONG = 600.0


def over(values: list[float], seconds: float = LONG) -> float | None:
    """Growth of samples spread evenly over a run."""
    return growth([seconds * number / len(values) for number in range(len(values))], values, seconds)


def test_growth_is_of_the_warm_process_and_one_odd_sample_says_nothing():
    warming = [10.0 * number for number in range(25)]
    assert over(warming + [300.0] * 75) == 0.0
    assert over(warming + [300.0] * 74 + [9000.0]) == 0.0
    assert over([100.0] * 25 + [100.0 + 0.1 * number for number in range(75)]) == pytest.approx(6.0, abs=0.5)


def test_what_fills_up_by_time_alone_is_warm_up_however_short_the_run_is():
    assert FailureMemoryParameters().history < LEAST_WARM_UP_S
    filling = [min(1.0 + number / LEAST_WARM_UP_S, 2.0) for number in range(180)]
    assert over(filling, 180.0) == pytest.approx(0.0, abs=1e-9)
    assert over(filling, 179.0) is None and over([1.0, 2.0]) is None
    # A node that came late: its own samples, at their own times.
    assert growth([500.0 + number for number in range(100)], [1.0] * 50 + [2.0] * 50, LONG) == 100.0


@given(st.floats(1.0, 1e6), st.integers(8, 300), st.floats(180.0, 1e5))
def test_what_stays_does_not_grow(value, count, seconds):
    assert over([value] * count, seconds) in (0.0, None)


@pytest.mark.parametrize("a_case_kb", [0.0, 6.0, 40.0])
@pytest.mark.parametrize("once_mb", [0.0, 24.0])
def test_growth_by_cases_is_told_from_what_comes_at_once_and_what_the_warm_up_takes(a_case_kb, once_mb):
    seconds, a_second = LONG, 5
    at = [float(number) for number in range(int(seconds))]
    held = [100.0 + min(one, 90.0) + a_case_kb * a_second * one / 1e3 + once_mb * (one > 400.0) for one in at]
    held[300] += 500.0
    node = {"at_s": at, **{measure: [5.0] * len(at) for measure in MEASURES}, "rss_mb": held}
    cases = [a_second * number for number in range(len(at))]
    content = {"seconds": seconds, "nodes": {"failure_memory": node}, "cases": cases, "restarts": 0, "latency_ms": []}
    found = case_growth(content)
    assert found is not None and found.cases == pytest.approx(a_second * 440, abs=10)
    # A window that holds something at once holds cases, too.
    assert found.a_case_kb == pytest.approx(a_case_kb, rel=0.05, abs=0.01)
    assert found.once_mb == pytest.approx(once_mb, abs=a_case_kb * a_second * 10.0 / 1e3 + 1e-6)
    assert f"grew by {found.a_case_kb:.1f} kB a case" in "\n".join(summary(content))
    assert case_growth({**content, "seconds": 170.0}) is None and case_growth({**content, "cases": [3] * 600}) is None


def test_the_page_and_the_lines_name_every_node_and_its_growth():
    at = [10.0 * number for number in range(40)]
    node = {"at_s": at, **{measure: [5.0 + 0.1 * one for one in at] for measure in MEASURES}}
    content = {
        "seconds": 400.0,
        "restarts": 2,
        "nodes": {"controller": node, "robot": node},
        "latency_ms": [{"at_s": one, "p50": 20.0, "p99": 30.0 + one} for one in at],
        "about": {"command": "flow_rag_vla soak", "started": "now"},
    }
    assert [row["node"] for row in rows(content)] == ["controller", "robot"]
    lines = "\n".join(summary(content))
    assert "6.7 minutes, 2 restarts" in lines and "behind the warm-up (100 s)" in lines and "controller" in lines
    assert "99th percentile of a window 420.0" in lines and "memory    44.0 MB +137.14 %" in lines
    text = page(content)
    assert text.count("<svg") == 2 * len(MEASURES) + 2 and "class='bad'>+" in text
    short = {**content, "seconds": 90.0}
    assert "no growth is told: that takes 180 s, of which 90 s are warm-up" in "\n".join(summary(short))
    assert "class='bad'>" not in page(short)
