# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether alarms on episodes that succeeded have become more frequent than was promised."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 200
"""Success episodes that count; older ones are forgotten, so that a change shows."""

LEVEL = 0.002
"""Chance below which so many false alarms are not put down to luck. It is asked after every episode: hence so low."""


def binomial_tail(hits: int, trials: int, rate: float) -> float:
    """Chance of at least ``hits`` in ``trials`` at ``rate`` each (the one-sided exact binomial test)."""
    if hits <= 0:
        return 1.0
    terms = (
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(count + 1)
            - math.lgamma(trials - count + 1)
            + count * math.log(rate)
            + (trials - count) * math.log1p(-rate)
        )
        for count in range(hits, trials + 1)
    )
    return min(1.0, sum(terms))


class DriftWatch:
    """Counts alarms among the last success episodes."""

    def __init__(self, rate: float, window: int = WINDOW) -> None:
        """Expect a share ``rate`` of success episodes to raise an alarm.

        Raises:
            ValueError: for a rate that is not between 0 and 1.
        """
        if not 0.0 < rate < 1.0:
            raise ValueError(f"false-alarm rate is {rate}, expected more than 0 and less than 1")
        self.rate = rate
        self._alarmed: deque[bool] = deque(maxlen=window)

    def add(self, alarmed: bool) -> None:
        """Count one episode that succeeded."""
        self._alarmed.append(alarmed)

    @property
    def alarmed(self) -> tuple[bool, ...]:
        """Whether each episode that counts raised an alarm, oldest first."""
        return tuple(self._alarmed)

    @property
    def episodes(self) -> int:
        """Success episodes that count."""
        return len(self._alarmed)

    @property
    def alarms(self) -> int:
        """How many of them raised an alarm."""
        return sum(self._alarmed)

    @property
    def p_value(self) -> float:
        """Chance of so many alarms if the calibration still holds; 1 before the first episode."""
        return binomial_tail(self.alarms, self.episodes, self.rate)

    def problem(self) -> str:
        """What is wrong and what to do; empty while nothing is."""
        if self.p_value >= LEVEL:
            return ""
        return (
            f"{self.alarms} of {self.episodes} episodes that succeeded raised an alarm, where {self.rate:.0%} was "
            f"promised (p = {self.p_value:.1g}): the calibration no longer fits; make a new one from recent runs with "
            "`flow_rag_vla calibrate runs --keep shipped` and name it by the parameter calibration"
        )
