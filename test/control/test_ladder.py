# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.ladder import LadderTimes, Mode, Reason, SafetyLadder, Steps
from flow_rag_vla.core.action import TICK_NS

MS = 1_000_000
TIMES = LadderTimes(Steps(300 * MS, 500 * MS), {Reason.STATE_TOO_OLD: Steps(0, 200 * MS)})


def following() -> SafetyLadder:
    ladder = SafetyLadder(TIMES)
    assert ladder.step(Reason.NONE, 0, 0, 0) is Mode.FOLLOW
    return ladder


def run(ladder: SafetyLadder, reason: Reason, start: int, ticks: int) -> list[Mode]:
    return [ladder.step(reason, start + k * TICK_NS, 0, 0) for k in range(ticks)]


def test_it_holds_then_decelerates_then_stops():
    modes = run(following(), Reason.CHUNK_EXHAUSTED, TICK_NS, 40)
    assert modes == [Mode.HOLD] * 12 + [Mode.DECELERATE] * 20 + [Mode.STOP] * 8


def test_each_reason_has_its_own_times():
    modes = run(following(), Reason.STATE_TOO_OLD, TICK_NS, 10)
    assert modes == [Mode.DECELERATE] * 8 + [Mode.STOP] * 2


@pytest.mark.parametrize("ticks", [1, 5, 20])
def test_following_goes_on_from_a_hold_or_a_deceleration(ticks: int):
    ladder = following()
    run(ladder, Reason.CHUNK_EXHAUSTED, TICK_NS, ticks)
    assert ladder.step(Reason.NONE, (ticks + 1) * TICK_NS, 0, 0) is Mode.FOLLOW
    assert run(ladder, Reason.CHUNK_EXHAUSTED, (ticks + 2) * TICK_NS, 1) == [Mode.HOLD]


def stopped() -> tuple[SafetyLadder, int]:
    ladder = following()
    assert run(ladder, Reason.NO_CHUNK, TICK_NS, 33)[-1] is Mode.STOP
    return ladder, 33 * TICK_NS


@pytest.mark.parametrize(
    ("chunk_after", "state_after", "mode"),
    [(0, 0, Mode.FOLLOW), (-1, 0, Mode.STOP), (0, -1, Mode.STOP), (None, 0, Mode.STOP), (0, None, Mode.STOP)],
)
def test_a_stop_is_left_only_with_a_fresh_chunk_and_a_fresh_state(chunk_after, state_after, mode):
    ladder, since = stopped()
    chunk = None if chunk_after is None else since + chunk_after
    state = None if state_after is None else since + state_after
    assert ladder.step(Reason.NONE, since + TICK_NS, chunk, state) is mode


def test_the_end_of_an_episode_is_idle_and_the_next_begins_afresh():
    ladder, since = stopped()
    assert ladder.step(Reason.EPISODE_INACTIVE, since, 0, 0) is Mode.IDLE
    assert ladder.step(Reason.NO_CHUNK, since + TICK_NS, None, 0) is Mode.HOLD


@given(st.lists(st.tuples(st.sampled_from(list(Reason)), st.integers(0, 400 * MS)), max_size=60))
def test_no_mode_falls_back_to_a_milder_one_while_there_is_a_reason(steps):
    ladder, now = following(), 0
    before = Mode.FOLLOW
    for reason, wait in steps:
        now += wait
        mode = ladder.step(reason, now, 0, 0)
        if reason not in (Reason.NONE, Reason.EPISODE_INACTIVE) and before in (Mode.HOLD, Mode.DECELERATE, Mode.STOP):
            assert mode >= before
        before = mode


def test_an_emergency_stop_stays_until_it_is_reset():
    ladder = following()
    ladder.emergency_stop(100 * MS)
    ladder.emergency_stop(900 * MS)
    for reason in Reason:
        assert ladder.step(reason, 1000 * MS, 1000 * MS, 1000 * MS) is Mode.EMERGENCY_STOP
    ladder.reset_emergency_stop(1100 * MS)
    assert ladder.step(Reason.NONE, 1100 * MS, 1000 * MS, 1000 * MS) is Mode.STOP
    assert ladder.step(Reason.NONE, 1200 * MS, 1150 * MS, 1150 * MS) is Mode.FOLLOW


def test_a_reset_without_an_emergency_stop_changes_nothing():
    ladder = following()
    ladder.reset_emergency_stop(100 * MS)
    assert ladder.step(Reason.NONE, 100 * MS, 0, 0) is Mode.FOLLOW


def test_the_target_is_let_go_evenly_over_the_deceleration():
    ladder = following()
    left = []
    for k in range(36):
        ladder.step(Reason.NO_CHUNK, (k + 1) * TICK_NS, 0, 0)
        left.append(ladder.release_ticks((k + 1) * TICK_NS, TICK_NS))
    assert left == [None] * 12 + list(range(20, 0, -1)) + [None] * 4


def test_an_emergency_stop_rests_then_lets_go_then_rests():
    ladder = following()
    ladder.emergency_stop(TICK_NS)
    left = []
    for k in range(16):
        ladder.step(Reason.NONE, (k + 1) * TICK_NS, 0, 0)
        left.append(ladder.release_ticks((k + 1) * TICK_NS, TICK_NS))
    assert left == [None] * 4 + list(range(8, 0, -1)) + [None] * 4


def test_a_direct_stop_does_not_lift_an_emergency_stop():
    ladder = following()
    ladder.emergency_stop(0)
    ladder.stop(10 * MS)
    assert ladder.step(Reason.NONE, 20 * MS, 20 * MS, 20 * MS) is Mode.EMERGENCY_STOP


def test_times_are_counted_anew_when_simulated_time_restarts():
    ladder = following()
    run(ladder, Reason.CLOCK_JUMP, 5_000 * MS, 4)
    ladder.clock_jumped(10 * MS)
    assert run(ladder, Reason.CLOCK_JUMP, 10 * MS, 13) == [Mode.HOLD] * 12 + [Mode.DECELERATE]
    ladder.stop(9_000 * MS)
    ladder.emergency_stop(9_000 * MS)
    ladder.clock_jumped(0)
    ladder.step(Reason.NONE, 0, 0, 0)
    assert ladder.release_ticks(150 * MS, TICK_NS) == 6
