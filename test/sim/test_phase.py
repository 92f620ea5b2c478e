# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Ticks of the simulator settle half-way between the commands of the control loop."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.sim.phase import MOST_SLEW_NS, WANTED_AGE_NS, period_ns


def ages_of(start_ns: int, ticks: int, jitter_ns: int = 0, drift: float = 0.0) -> list[int]:
    """Ages of the newest command at each tick, for commands every 25 ms and a simulator that locks to them.

    A period that a timer is given counts from its next tick on, as rclpy has it. ``drift``: by how much the
    simulator's clock is slow.
    """
    rng = random.Random(0)
    arrivals = [index * TICK_NS + rng.randint(0, jitter_ns) for index in range(2 * ticks)]
    now, period, newest, ages = start_ns, TICK_NS, 0, []
    for _ in range(ticks):
        while arrivals[newest + 1] <= now:
            newest += 1
        ages.append(now - arrivals[newest])
        next_period = period_ns(ages[-1])
        now += int(period * (1.0 + drift))
        period = next_period
    return ages


@given(st.integers(0, TICK_NS - 1))
def test_ticks_settle_halfway_between_two_commands(start_ns: int) -> None:
    ages = ages_of(start_ns + TICK_NS, ticks=160)
    assert all(abs(age - WANTED_AGE_NS) < 500_000 for age in ages[-40:])


@pytest.mark.parametrize("start_ms", [0, 1, 12, 24])
def test_each_tick_finds_exactly_one_new_command_though_they_jitter(start_ms: int) -> None:
    ages = ages_of(TICK_NS + start_ms * 1_000_000, ticks=1000, jitter_ns=6_000_000)
    assert all(0 < age < TICK_NS - 3_000_000 for age in ages[100:])


def test_a_clock_that_runs_slow_is_followed() -> None:
    ages = ages_of(TICK_NS, ticks=1000, drift=1e-4)
    assert all(abs(age - WANTED_AGE_NS) < 500_000 for age in ages[200:])


@pytest.mark.parametrize("age_ns", [-1, TICK_NS, 7 * TICK_NS])
def test_a_missing_command_moves_nothing(age_ns: int) -> None:
    assert period_ns(age_ns) == TICK_NS


@given(st.integers(-(10**12), 10**12))
def test_no_tick_differs_by_more_than_the_slew(age_ns: int) -> None:
    assert abs(period_ns(age_ns) - TICK_NS) <= MOST_SLEW_NS
