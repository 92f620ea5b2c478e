# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The watch over the monitor's own false alarms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.failure.drift import DriftWatch, binomial_tail


@given(trials=st.integers(1, 60), hits=st.integers(0, 60), rate=st.floats(0.01, 0.99))
def test_the_tail_is_the_sum_of_its_terms(trials, hits, rate):
    exact = sum(
        math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(min(hits, trials + 1), trials + 1)
    )
    assert binomial_tail(hits, trials, rate) == pytest.approx(exact if hits else 1.0, abs=1e-9)


def test_as_many_alarms_as_promised_are_no_problem():
    watch = DriftWatch(0.1)
    for number in range(200):
        watch.add(number % 10 == 0)
    assert watch.problem() == ""


def test_too_many_alarms_are_told_with_the_remedy_and_forgotten_once_they_cease():
    watch = DriftWatch(0.05, window=50)
    for number in range(40):
        watch.add(number % 3 == 0)
    assert "14 of 40" in watch.problem()
    assert "flow_rag_vla calibrate" in watch.problem()
    for _ in range(50):
        watch.add(False)
    assert watch.problem() == ""


def test_a_single_alarm_is_luck():
    watch = DriftWatch(0.05)
    assert (watch.p_value, watch.problem()) == (1.0, "")
    watch.add(True)
    assert watch.problem() == ""


def test_a_rate_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="rate is 1"):
        DriftWatch(1.0)
