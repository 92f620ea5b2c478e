# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What using a case is worth, and when it retires.

Two chances of an episode's success are compared, both in the situation of one case:

- p, with the case: Beta(w m + s, w (1 - m) + f) after s successes and f failures of episodes that it shaped;
- q, without any case: Beta(w m + s0, w (1 - m) + f0) after s0 successes and f0 failures of episodes in which this very
  case came up and was not followed. The episode that the case was made of is the first of these.

m is the success rate of the case's task and phase over all episodes that no case shaped, (S + 1) / (N + 2), taken from
the whole task while fewer than ``LEAST_EPISODES`` passed through the phase; w is the weight of that prior in episodes.
So an unused case is presumed to do as well as no memory at all, which is what its situation's own failures then lower:
a case that helps one time in two where the policy alone always fails is kept, though the task's average is higher.

A case retires when P(p < q) exceeds a bound. With independent Beta posteriors

    P(p < q) = integral over x of density_q(x) * cumulated_p(x)

(the probability that B beats A; Miller 2014, "Formulas for Bayesian A/B testing", gives a closed form for whole-number
parameters, against which the quadrature here is tested). An episode counts once at most, whatever number of chunks a
case shaped, and only as far as the case had a say: a chunk that thirty cases agreed on is not thirty witnesses. What is
left over is kept until it makes up a whole episode. Cancelled ones, and those in which a person took over, are logged
and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from flow_rag_vla.core.action import CorrectionMode

LEAST_EPISODES = 5
"""Episodes without a case in a phase below which the whole task's rate stands in."""

_GRID = 8192
_REACH = 6.7
"""Points of the quadrature, and how far they go: sinh(6.7), the logit of 1e-176, both ways."""

LEAST_PARAMETER = 0.05
"""Smallest parameter of a posterior: below it nearly all of its mass is at numbers that no float tells from 0 or 1."""


class UseResult(IntEnum):
    """How an episode ended in which a case came up."""

    FAILURE = 0
    SUCCESS = 1
    CANCELLED = 2
    INTERVENED = 3
    """A person took over: the outcome is theirs."""


COUNTED = frozenset({UseResult.FAILURE, UseResult.SUCCESS})
"""Results that say something about a case."""


@dataclass(frozen=True, slots=True)
class CaseUse:
    """How a case shaped an episode. mode: NONE if it came up and was not followed; strength: the largest, 0 to 1.

    share: of the episode's outcome that is its own, 0 to 1. Each chunk has a credit of one to give, to its cases in
        proportion to their say; a case takes what it got of all chunks, at most 1
    """

    case_id: int
    mode: CorrectionMode = CorrectionMode.NONE
    strength: float = 0.0
    chunks: int = 1
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class UseRecord:
    """One entry of the log of uses."""

    use_id: int
    case_id: int
    episode_id: int
    origin: str
    stamp_ns: int
    mode: CorrectionMode
    strength: float
    chunks: int
    result: UseResult
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Episodes, and those of them that succeeded; not whole numbers where cases share an episode."""

    episodes: float = 0
    successes: float = 0

    def __str__(self) -> str:
        return f"{self.successes:.4g} of {self.episodes:.4g}"

    @property
    def rate(self) -> float:
        """Posterior mean under a uniform prior: (successes + 1) / (episodes + 2)."""
        return (self.successes + 1) / (self.episodes + 2)


@dataclass(frozen=True, slots=True)
class Beta:
    """A Beta distribution over a chance."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        """Its mean."""
        return self.a / (self.a + self.b)


@dataclass(frozen=True, slots=True)
class CreditSettings:
    """prior_weight: of the base rate, in episodes; retire_above: P(p < q) above which a case retires, 1 for never."""

    prior_weight: float = 4.0
    retire_above: float = 0.95


@dataclass(frozen=True, slots=True)
class Worth:
    """What a case is worth: p and q of the module, the base rate m, and P(p < q)."""

    with_case: Beta
    without: Beta
    base_rate: float
    chance_worse: float
    used: Counts
    passed_over: Counts

    def retires(self, settings: CreditSettings) -> bool:
        """Whether it retires."""
        return self.used.episodes > 0 and self.chance_worse > settings.retire_above

    def __str__(self) -> str:
        return (
            f"P(worse than no memory) is {self.chance_worse:.3f}: {self.used} episodes with it succeeded; without it "
            f"{self.passed_over} in this situation, {self.base_rate:.2f} in this task and phase"
        )


def worth(used: Counts, passed_over: Counts, phase: Counts, task: Counts, settings: CreditSettings) -> Worth:
    """What a case is worth, see the module.

    Args:
        used: episodes that it shaped.
        passed_over: episodes in which it came up, or was made, and nothing followed it.
        phase: episodes of its task that passed through its phase and were shaped by no case.
        task: those of its task.
        settings: prior and bound.
    """
    base = (phase if phase.episodes >= LEAST_EPISODES else task).rate
    weight = settings.prior_weight

    def posterior(counts: Counts) -> Beta:
        failures = counts.episodes - counts.successes
        return Beta(
            max(weight * base + counts.successes, LEAST_PARAMETER),
            max(weight * (1.0 - base) + failures, LEAST_PARAMETER),
        )

    with_case, without = posterior(used), posterior(passed_over)
    return Worth(with_case, without, base, chance_below(with_case, without), used, passed_over)


def chance_below(first: Beta, second: Beta) -> float:
    """P(x < y) for independent x of the first and y of the second distribution."""
    # In the logit the densities have no poles at the edges; steps that widen outwards reach both far tails and peaks.
    place = np.linspace(-_REACH, _REACH, _GRID)
    logit = np.sinh(place)
    log_x, log_rest = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    weights = []
    for beta in (first, second):
        log_density = beta.a * log_x + beta.b * log_rest
        weight = np.exp(log_density - log_density.max()) * np.cosh(place)
        weights.append(weight / weight.sum())
    below = np.cumsum(weights[0]) - 0.5 * weights[0]
    return float(min(max(np.dot(weights[1], below), 0.0), 1.0))
