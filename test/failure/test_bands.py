# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Bands, thresholds and p-values: what conformal prediction promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.failure.bands import STEP_S, TOLERANCE, Band, bands_for, conformal_threshold, fit_band, p_value

finite = st.floats(-1e6, 1e6)


@given(peaks=st.lists(finite, min_size=1, max_size=200), rate=st.sampled_from([0.02, 0.05, 0.2]))
def test_the_threshold_is_passed_by_no_more_than_its_share_or_by_none(peaks, rate):
    threshold = conformal_threshold(peaks, rate)
    assert sum(peak > threshold for peak in peaks) <= rate * (len(peaks) + 1)
    if math.ceil((len(peaks) + 1) * (1 - rate)) > len(peaks):
        assert threshold == math.inf


@given(peaks=st.lists(finite, min_size=1, max_size=100), peak=finite)
def test_a_p_value_is_a_rank_and_falls_as_the_peak_rises(peaks, peak):
    ordered = np.sort(peaks)
    value = p_value(ordered, peak)
    assert 1 / (len(peaks) + 1) <= value <= 1.0
    assert value >= p_value(ordered, peak + 1.0)
    assert p_value(ordered, math.nan) == 1.0


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_alarm_and_p_value_say_the_same(rate):
    peaks = np.sort(np.random.default_rng(0).normal(size=99))
    threshold = conformal_threshold(peaks.tolist(), rate)
    for peak in np.linspace(-3, 4, 200):
        assert (peak > threshold) == (p_value(peaks, peak) <= rate)


def test_fresh_episodes_of_the_same_kind_pass_the_threshold_as_often_as_promised():
    rng, passed = np.random.default_rng(1), []
    for _ in range(400):
        drawn = rng.exponential(size=80)
        passed.append(drawn[-1] > conformal_threshold(drawn[:-1].tolist(), 0.1))
    assert 0.05 < np.mean(passed) < 0.15


def curves(count: int = 20, seed: int = 0):
    rng = np.random.default_rng(seed)
    times = [np.arange(rng.integers(15, 25)) * 0.1 for _ in range(count)]
    return times, [3.0 * time + (1.0 + time) * rng.normal(0.0, 0.1, len(time)) for time in times]


def test_a_band_follows_mean_and_width_over_time_and_holds_its_last_value():
    band = fit_band(*curves(200))
    # The highest within a third of a second: what rises may come a little earlier.
    assert band.at(1.0)[0] == pytest.approx(3.0 * (1.0 + TOLERANCE * STEP_S), abs=0.1)
    assert band.at(1.8)[1] > band.at(0.2)[1]
    assert band.at(50.0) == band.at(1000.0)
    assert band.standardised(1.0, band.at(1.0)[0] + 2.0 * band.at(1.0)[1]) == pytest.approx(2.0)


def test_episodes_of_different_length_and_missing_values_make_one_band():
    times, values = curves()
    values[0][:5] = math.nan
    values[1][:] = math.nan
    band = fit_band(times, values)
    assert np.isfinite(band.mean).all()
    assert (band.width > 0.0).all()


def test_a_score_that_never_changes_still_has_a_width():
    times, values = curves()
    band = fit_band(times, [np.ones_like(value) for value in values])
    assert (band.width > 0.0).all()
    assert band.standardised(0.5, 1.0) == 0.0


def test_too_few_episodes_are_refused():
    times, values = curves(3)
    with pytest.raises(ValueError, match="3 episodes"):
        fit_band(times, values)


def test_nan_stays_nan():
    assert math.isnan(Band(np.zeros(3), np.ones(3)).standardised(0.1, math.nan))


def test_a_band_is_never_narrower_than_was_asked_for():
    times, values = curves()
    band = fit_band(times, [value * 1e-3 for value in values], least=0.5)
    assert (band.width >= 0.5).all()


def test_a_goal_without_bands_of_its_own_gets_those_of_its_task():
    own, shared = (Band(np.zeros(2), np.ones(2)),), (Band(np.ones(2), np.ones(2)),)
    bands = {"push/yellow_cylinder": own, "push": shared}
    assert bands_for(bands, "push", "yellow_cylinder") is own
    assert bands_for(bands, "push", "red_cube") is bands_for(bands, "push", "") is shared
    assert bands_for(bands, "stack", "red_cube") is None
