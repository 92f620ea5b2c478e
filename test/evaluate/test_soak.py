"""Growth over a long run, and its page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.soak import MEASURES, growth, page, rows, summary


def test_growth_is_of_the_warm_process_and_one_odd_sample_says_nothing():
    warming = [10.0 * number for number in range(25)]
    assert growth(warming + [300.0] * 75) == 0.0
    assert growth(warming + [300.0] * 74 + [9000.0]) == 0.0
    assert growth([100.0] * 25 + [100.0 + 0.1 * number for number in range(75)]) == pytest.approx(6.0, abs=0.5)
    assert growth([1.0, 2.0]) == 0.0


@given(st.floats(1.0, 1e6), st.integers(8, 300))
def test_what_stays_does_not_grow(value, count):
    assert growth([value] * count) == 0.0


def test_the_page_and_the_lines_name_every_node_and_its_growth():
    at = [float(number) for number in range(40)]
    node = {"at_s": at, **{measure: [5.0 + 0.1 * one for one in at] for measure in MEASURES}}
    content = {
        "seconds": 40.0,
        "restarts": 2,
        "nodes": {"controller": node, "robot": node},
        "latency_ms": [{"at_s": one, "p50": 20.0, "p99": 30.0 + one} for one in at],
        "about": {"command": "flow_rag_vla soak", "started": "now"},
    }
    assert [row["node"] for row in rows(content)] == ["controller", "robot"]
    lines = "\n".join(summary(content))
    assert "0.7 minutes, 2 restarts" in lines and "controller" in lines and "99th percentile of a window 69.0" in lines
    text = page(content)
    assert text.count("<svg") == 2 * len(MEASURES) + 2 and "class='bad'>+" in text
