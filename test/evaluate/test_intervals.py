# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flow_rag_vla.evaluate.intervals import (
    Difference,
    Pairs,
    cluster_bootstrap,
    mcnemar_p,
    paired_difference,
    wilson,
)


@given(trials=st.integers(1, 2000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_the_interval_holds_the_rate_and_stays_in_range(trials: int, share: float, confidence: float) -> None:
    found = wilson(round(share * trials), trials, confidence)
    assert 0.0 <= found.low <= found.rate <= found.high <= 1.0


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Computed by hand from the formula; the first two are in Newcombe 1998, Statistics in Medicine 17, table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (200, 200, 0.9812, 1.0)],
)
def test_published_intervals_are_reproduced(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_more_trials_narrow_the_interval() -> None:
    few, many = wilson(9, 10), wilson(900, 1000)
    assert many.high - many.low < few.high - few.low


def test_without_trials_nothing_is_known() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high, wilson(0, 0).rate) == (0.0, 1.0, 0.0)


def test_impossible_counts_are_refused() -> None:
    for successes, trials in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match=f"{successes} successes of {trials}"):
            wilson(successes, trials)
    with pytest.raises(ValueError, match=r"confidence is 1\.0"):
        wilson(1, 2, 1.0)


def test_it_reads_well() -> None:
    assert str(wilson(193, 200)) == "96.5 % [93.0, 98.3] (193/200)"


COUNTS = st.integers(0, 300)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_paired_difference_lies_in_its_interval_and_turns_over_with_the_treatments(both, fixed, broken, neither):
    there = paired_difference(Pairs(both, fixed, broken, neither))
    back = paired_difference(Pairs(both, broken, fixed, neither))
    assert -1.0 <= there.low <= there.value <= there.high <= 1.0
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


@pytest.mark.parametrize(
    ("both", "first_only", "second_only", "neither", "low", "high"),
    [
        # Published example tables; their limits were computed apart from this module, first minus second.
        (36, 12, 2, 0, 0.0569, 0.3404),
        (1, 1, 7, 12, -0.5069, -0.0256),
        (14, 5, 0, 22, 0.0115, 0.2265),
    ],
)
def test_paired_intervals_of_known_tables_are_reproduced(both, first_only, second_only, neither, low, high) -> None:
    found = paired_difference(Pairs(both, second_only, first_only, neither))
    assert -found.high == pytest.approx(low, abs=6e-5)
    assert -found.low == pytest.approx(high, abs=6e-5)


def test_without_pairs_no_difference_is_known() -> None:
    assert paired_difference(Pairs(0, 0, 0, 0)) == Difference(0.0, -1.0, 1.0)
    assert mcnemar_p(Pairs(10, 0, 0, 5)) == 1.0


@given(fixed=COUNTS, broken=COUNTS, rest=COUNTS)
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(fixed, broken, rest) -> None:
    expected = stats.binomtest(fixed, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    assert mcnemar_p(Pairs(rest, fixed, broken, 0)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_stays_a_number_for_many_pairs() -> None:
    assert 0.0 < mcnemar_p(Pairs(0, 900, 300, 0)) < 1e-60
    assert mcnemar_p(Pairs(0, 3000, 3000, 0)) == 1.0


@given(successes=COUNTS, failures=COUNTS, confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_scipy(successes, failures, confidence) -> None:
    trials = successes + failures
    if trials == 0:
        return
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    found = wilson(successes, trials, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_pairs_are_counted_from_outcomes() -> None:
    outcomes = [(True, True)] * 3 + [(False, True)] * 2 + [(True, False)] + [(False, False)] * 4
    assert Pairs.of(outcomes) == Pairs(both=3, fixed=2, broken=1, neither=4)
    with pytest.raises(ValueError, match="negative"):
        Pairs(1, -1, 0, 0)


def test_a_bootstrap_of_one_cluster_is_that_of_its_values() -> None:
    values = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], p=[0.05, 0.75, 0.2], size=150)
    found = cluster_bootstrap([[values]], np.random.default_rng(2), draws=4000)
    known = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(3))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(known.confidence_interval.low, abs=0.015)
    assert found.high == pytest.approx(known.confidence_interval.high, abs=0.015)


def test_checkpoints_that_disagree_widen_the_interval() -> None:
    values = np.array([0.0, 1.0] * 100)
    alike = cluster_bootstrap([[values], [values], [values]], np.random.default_rng(0))
    apart = cluster_bootstrap([[values * 0.0], [values], [values * 0.0 + 1.0]], np.random.default_rng(0))
    assert apart.value == pytest.approx(alike.value)
    assert apart.high - apart.low > 4 * (alike.high - alike.low)


@given(st.lists(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=8), max_size=3), max_size=3))
def test_a_bootstrap_stays_in_range_and_repeats(raw) -> None:
    clusters = [[np.array(stratum) for stratum in strata] for strata in raw]
    first, second = (cluster_bootstrap(clusters, np.random.default_rng(5), draws=50) for _ in range(2))
    assert first == second
    assert -1.0 <= first.low <= first.high <= 1.0


def test_a_bootstrap_without_sense_is_refused() -> None:
    for settings, text in (({"confidence": 1.0}, "confidence"), ({"draws": 0}, "draws")):
        with pytest.raises(ValueError, match=text):
            cluster_bootstrap([[np.ones(2)]], np.random.default_rng(0), **settings)
