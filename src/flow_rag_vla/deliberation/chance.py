# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How sure a chance is after so many episodes: the Beta posterior and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

_PRIOR = 0.5
"""Jeffreys' prior of a chance, Beta(1/2, 1/2)."""


@dataclass(frozen=True, slots=True)
class Chance:
    """A chance, 0 to 1, learned from counts. mean: of the posterior; low, high: ends of the 95 % interval."""

    successes: int
    trials: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}] ({self.successes} of {self.trials})"


def chance(successes: int, trials: int, confidence: float = 0.95) -> Chance:
    """The posterior of a chance under Jeffreys' prior: Beta(s + 1/2, n - s + 1/2), equal tails.

    Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion", Statistical Science 16. Without
    trials it is the prior: nearly the whole range.

    Raises:
        ValueError: for counts that no experiment gives.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials are impossible")
    a, b = successes + _PRIOR, trials - successes + _PRIOR
    tail = (1.0 - confidence) / 2.0
    # At 0 and at n the interval reaches the end, as the authors advise.
    low = 0.0 if successes == 0 else beta_quantile(tail, a, b)
    high = 1.0 if successes == trials else beta_quantile(1.0 - tail, a, b)
    return Chance(successes, trials, a / (a + b), low, high)


def beta_quantile(share: float, a: float, b: float) -> float:
    """Where the cumulated Beta(a, b) reaches ``share``, to 1e-9."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2.0
        if beta_cumulated(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def beta_cumulated(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cumulated(1.0 - x, b, a)
    front = math.exp(
        a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    ) / a  # fmt: skip
    # Lentz' method.
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for step in range(400):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        d = 1.0 + term * d
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = 1.0 + term / c
        c = c if abs(c) > tiny else tiny
        value *= c * d
        if abs(1.0 - c * d) < 1e-12:
            break
    return front * (value - 1.0)
