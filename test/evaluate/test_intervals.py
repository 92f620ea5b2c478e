from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.intervals import wilson


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
