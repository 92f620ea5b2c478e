# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How sure a success rate is, and the difference of two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Proportion:
    """successes of trials, with the interval's ends, each 0..1."""

    successes: int
    trials: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Successes / trials; 0 without trials."""
        return self.successes / self.trials if self.trials else 0.0

    def __str__(self) -> str:
        """For people: ``96.5 % [92.9, 98.3] (193/200)``."""
        return f"{100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] ({self.successes}/{self.trials})"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Proportion:
    """Wilson score interval of a proportion.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22. Without trials the
    interval is the whole range.

    Raises:
        ValueError: for counts that no experiment gives or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials are impossible")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}, expected between 0 and 1, both excluded")
    if trials == 0:
        return Proportion(0, 0, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    scale = 1.0 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z * math.sqrt(rate * (1.0 - rate) / trials + z * z / (4 * trials * trials)) / scale
    # At 0 and at n the ends are exact; rounding would put them a hair inside.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Proportion(successes, trials, low, high)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two rates, each 0..1, with the interval's ends, each -1..1."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """For people, in points: ``+11.0 [+4.6, +17.8]``."""
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True, slots=True)
class Pairs:
    """What became of the same start under two treatments, counted.

    both, neither: succeeded under both, under none
    fixed: under the second only; broken: under the first only
    """

    both: int
    fixed: int
    broken: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.fixed, self.broken, self.neither) < 0:
            raise ValueError(f"{self} has a negative count; count the pairs again")

    @classmethod
    def of(cls, outcomes: Iterable[tuple[bool, bool]]) -> Pairs:
        """Count (success under the first, success under the second)."""
        counts = Counter((bool(first), bool(second)) for first, second in outcomes)
        return cls(counts[True, True], counts[False, True], counts[True, False], counts[False, False])

    @property
    def total(self) -> int:
        """Pairs."""
        return self.both + self.fixed + self.broken + self.neither

    @property
    def first(self) -> int:
        """Successes under the first treatment."""
        return self.both + self.broken

    @property
    def second(self) -> int:
        """Successes under the second treatment."""
        return self.both + self.fixed


def paired_difference(pairs: Pairs, confidence: float = 0.95) -> Difference:
    """Rate under the second treatment minus rate under the first, with Newcombe's interval for paired proportions.

    Method 10 of Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17: Wilson intervals of the two rates, squared and added, less what their
    correlation (corrected for continuity when positive) takes away. Without pairs the interval is the whole range.

    Raises:
        ValueError: for a confidence outside (0, 1).
    """
    count = pairs.total
    first, second = wilson(pairs.first, count, confidence), wilson(pairs.second, count, confidence)
    if count == 0:
        return Difference(0.0, -1.0, 1.0)
    product = pairs.both * pairs.neither - pairs.fixed * pairs.broken
    numerator = max(product - count / 2, 0.0) if product > 0 else float(product)
    margins = pairs.first * (count - pairs.first) * pairs.second * (count - pairs.second)
    correlation = numerator / math.sqrt(margins) if margins else 0.0
    value = second.rate - first.rate

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2.0 * correlation * one * other + other * other))

    low = value - reach(second.rate - second.low, first.high - first.rate)
    high = value + reach(second.high - second.rate, first.rate - first.low)
    return Difference(value, max(-1.0, low), min(1.0, high))


def mcnemar_p(pairs: Pairs) -> float:
    """Two-sided p of the exact McNemar test: the chance of discordant pairs as uneven as these if neither is better.

    Twice the smaller tail of Binomial(fixed + broken, 1/2), at most 1. McNemar 1947, Psychometrika 12; exact as in
    Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13.
    """
    discordant, least = pairs.fixed + pairs.broken, min(pairs.fixed, pairs.broken)
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, count) for count in range(least + 1))
    # Integers as long as they are exact: 0.5 ** discordant is 0 for a thousand pairs.
    return float(min(1.0, 2 * tail / 2**discordant))


def cluster_bootstrap(
    clusters: Sequence[Sequence[NDArray[np.floating]]],
    generator: np.random.Generator,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Difference:
    """Mean of values that come in clusters (a training seed each) and strata (a task each), with a bootstrap interval.

    Each draw takes clusters with replacement, and within each one takes values with replacement in each stratum (the
    two-stage bootstrap of Davison and Hinkley 1997, section 3.8); the interval is that of percentiles. One cluster
    alone leaves the variance between clusters out; few make it rough.

    Args:
        clusters: for each cluster its strata, each (N,), e.g. success with memory minus success without: -1, 0 or 1.
        generator: of the draws.
        draws: how many.
        confidence: of the interval.

    Raises:
        ValueError: for a confidence outside (0, 1), or fewer than one draw.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}, expected between 0 and 1, both excluded")
    if draws < 1:
        raise ValueError(f"draws is {draws}, expected at least 1")
    filled = [[np.asarray(stratum, dtype=np.float64) for stratum in strata if len(stratum)] for strata in clusters]
    filled = [strata for strata in filled if strata]
    if not filled:
        return Difference(0.0, -1.0, 1.0)
    # (clusters, draws): sum and number of each cluster's values, drawn anew; a draw of clusters then adds some of them.
    sums = np.array(
        [
            sum(stratum[generator.integers(len(stratum), size=(draws, len(stratum)))].sum(axis=1) for stratum in strata)
            for strata in filled
        ]
    )
    sizes = np.array([sum(len(stratum) for stratum in strata) for strata in filled], dtype=np.float64)
    chosen = generator.integers(len(filled), size=(draws, len(filled)))
    # A cluster that is chosen twice is drawn twice, not counted double: take another draw of it each time.
    shifted = (np.arange(draws)[:, None] + np.arange(len(filled))[None, :] * 7919) % draws
    means = sums[chosen, shifted].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    value = float(sum(stratum.sum() for strata in filled for stratum in strata) / sizes.sum())
    return Difference(value, float(low), float(high))
