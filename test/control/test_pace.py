# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A pace stretches plans in time: the same path, inside its share of every limit, and never faster than was asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flow_rag_vla.control.command import Episode
from flow_rag_vla.control.integrator import Clamp, MotionLimits, TargetIntegrator
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.loop import LoopSettings
from flow_rag_vla.control.pace import Pace, carried, invalid_pace, played
from flow_rag_vla.core.action import TICK_NS, ActionChunk
from flow_rag_vla.core.state import RobotState

from .harness import DOWN, MS, Rig

LIMITS = MotionLimits()
paces = st.floats(0.05, 1.0)
chunks = arrays.arrays(np.float32, (12, 7), elements=st.floats(-0.0078125, 0.0078125, width=32))


def ticks_of(actions: np.ndarray, pace: float) -> np.ndarray:
    """(N, 7): the motions of all ticks that a chunk lasts."""
    count = math.ceil(len(actions) / pace - 1e-9)
    begins = [pace * tick for tick in range(count) if pace * tick < len(actions)]
    return np.array([played(actions, begin, pace) for begin in begins])


@given(chunks, paces)
def test_a_plan_played_slower_adds_up_to_the_same_motion(actions, pace):
    moved = ticks_of(actions, pace)[:, :6].sum(axis=0)
    np.testing.assert_allclose(moved, actions[:, :6].astype(float).sum(axis=0), atol=1e-6)


@given(chunks, paces)
def test_steps_and_their_changes_keep_within_the_paces_share_of_the_plans_own(actions, pace):
    steps = ticks_of(actions, pace)[:, :3]
    plan = actions[:, :3].astype(float)
    lengths, jumps = np.linalg.norm(plan, axis=1), np.diff(plan, axis=0)
    longest, jump = lengths.max(), np.linalg.norm(jumps, axis=1).max()
    assert np.linalg.norm(steps, axis=1).max() <= pace * longest + 1e-9
    # The last window may reach behind the plan, into rest.
    assert np.linalg.norm(np.diff(steps[:-1], axis=0), axis=1).max(initial=0.0) <= pace * jump + 1e-9


@given(chunks, st.integers(0, 11))
def test_full_pace_gives_the_rows_themselves(actions, row):
    assert played(actions, row, 1.0).tobytes() == actions[row].tobytes()


@pytest.mark.parametrize("pace", [1.0, 0.7, 0.5, 0.25])
def test_the_arm_goes_round_the_same_corner_in_more_ticks_without_cutting_it(pace):
    corner = [(5, 0), *[(10, 0)] * 6, (8, 2), (4, 6), *[(0, 10)] * 6, (0, 5)]
    actions = np.array([(x / 1e3, y / 1e3, 0, 0, 0, 0.01, x > 5) for x, y in corner], dtype=np.float32)
    rig = Rig(LoopSettings(max_observation_age_ns=10_000 * MS))
    rig.episode(pace=pace)
    rig.state()
    assert rig.loop.offer_chunk(ActionChunk(1, rig.now + TICK_NS, actions, "push"), rig.now, rig.steady) is None
    commands = rig.run(math.ceil(16 / pace))
    assert all((c.mode, c.clamps, c.pace) == (Mode.FOLLOW, Clamp.NONE, pace) for c in commands)
    assert all(c.action[6] in (0.0, 1.0) for c in commands), "the hand is never played by halves"
    # Where the plan is after so many of its rows, is where the target is when they are played.
    places = np.vstack([np.zeros(3), actions[:, :3].astype(float).cumsum(axis=0)])
    for tick, command in enumerate(commands, 1):
        planned = [np.interp(min(tick * pace, 16.0), range(17), places[:, axis]) for axis in range(3)]
        np.testing.assert_allclose(command.target.position - [0.5, 0.0, 0.3], planned, atol=1e-6)


def test_the_pace_only_falls_within_an_episode_and_begins_anew_with_the_next():
    rig = Rig()
    rig.episode(pace=0.7)
    rig.state()
    rig.chunk(0.008, 0, 0, 0, 0, 0, 0.5, rows=40)
    assert [c.pace for c in rig.run(2)] == [0.7, 0.7]
    rig.episode(pace=0.5)
    rig.episode(pace=0.9)  # nobody makes it faster again
    command = rig.tick()
    assert command.pace == 0.5 and np.linalg.norm(command.action[:3]) == pytest.approx(0.004)
    rig.episode(running=False)
    assert rig.tick().pace == 1.0
    rig.episode(episode_id=2)
    rig.chunk(0.008, 0, 0, 0, 0, 0, 0.5)
    assert rig.run(3)[-1].action[0] == pytest.approx(0.008) and rig.loop.pace.value == 1.0


def test_rows_played_stay_played_when_the_pace_falls():
    pace = Pace()
    pace.begin(1.0)
    assert pace.rows(0, 10 * TICK_NS) == 10
    assert pace.lower(0.5, 10 * TICK_NS) and not pace.lower(0.8, 11 * TICK_NS)
    assert pace.rows(0, 10 * TICK_NS) == 10.0
    assert pace.rows(0, 14 * TICK_NS) == 12.0
    assert pace.rows(12 * TICK_NS, 14 * TICK_NS) == 1.0
    assert pace.rows(20 * TICK_NS, 14 * TICK_NS) == 0.0


@given(st.lists(st.tuples(st.floats(0.05, 1.0), st.integers(1, 8)), min_size=1, max_size=12))
def test_rows_played_stay_played_however_often_the_pace_falls(changes):
    pace, now, played_before = Pace(), 0, 0.0
    for value, ticks in changes:
        pace.lower(value, now)
        assert pace.rows(0, now) == pytest.approx(played_before)
        now += ticks * TICK_NS
        played_before += ticks * pace.value
        assert pace.rows(0, now) == pytest.approx(played_before)


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
def test_after_a_clock_jump_a_pace_that_had_fallen_plays_every_row(jump_ms):
    rig = Rig()
    rig.episode()
    rig.state()
    rig.chunk()
    rig.tick()
    rig.episode(pace=0.5)
    rig.tick()
    rig.now += jump_ms * MS
    rig.tick()
    rig.chunk(stamp_ns=rig.now + TICK_NS)
    assert [command.chunk_index for command in rig.run(6)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("pace", [math.nan, 0.0, -0.5, 1.0001, math.inf])
def test_an_episode_whose_pace_makes_no_sense_is_not_followed_and_says_so(pace):
    rig = Rig()
    assert invalid_pace(pace) is not None
    rig.state()
    told = rig.loop.set_episode(_episode(rig, pace), rig.now, rig.steady)
    assert told is not None and "above 0 and at most 1" in told
    rig.chunk()
    command = rig.tick()
    assert (command.mode, command.reason) == (Mode.IDLE, Reason.EPISODE_INACTIVE)
    assert told in command.reason_text and not command.action[:6].any()
    # Also in the middle of one that was followed.
    rig.episode(episode_id=2)
    rig.state()
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW
    rig.loop.set_episode(_episode(rig, pace, 2), rig.now, rig.steady)
    assert rig.run(4)[-1].mode is Mode.IDLE


def _episode(rig: Rig, pace: float, number: int = 1) -> Episode:
    return Episode(number, True, False, "push", rig.now - 500 * MS, None, pace)


@pytest.mark.parametrize("pace", [0.05, 0.5])
def test_braking_is_never_weakened(pace):
    rig = Rig()
    rig.episode()
    rig.state()
    rig.chunk(0.012, 0, 0, 0, 0, 0, 0.5)
    rig.run(4)
    rig.episode(pace=pace)  # at full speed, asked to be careful: slower at once
    assert np.linalg.norm(rig.run(2)[-1].action[:3]) <= 0.012 * pace + 1e-9
    rig.loop.emergency_stop("now", rig.steady)
    assert not rig.run(2)[-1].action[:3].any()


@given(st.lists(st.tuples(*[st.floats(-0.05, 0.05)] * 3), min_size=2, max_size=30), paces)
def test_whatever_is_asked_the_target_keeps_within_the_paces_share_of_the_limits(wanted, pace):
    integrator, here = TargetIntegrator(), np.array([0.5, 0.0, 0.3])
    integrator.pace = pace
    before = np.zeros(3)
    for x, y, z in wanted:
        target, sent, _ = integrator.advance(np.array([x, y, z, x, y, z, 1.0]), RobotState(0, here, DOWN))
        step = target.position - here
        assert np.linalg.norm(step) <= pace * LIMITS.translation + 1e-9
        assert np.linalg.norm(sent[3:6]) <= pace * LIMITS.rotation + 1e-6
        gathered = np.linalg.norm(step) - np.linalg.norm(before)
        assert gathered <= pace * LIMITS.translation_change + 1e-9
        here, before = target.position, step


@given(paces, st.integers(0, 40))
def test_a_chunk_goes_on_where_the_one_before_is_at_that_pace(pace, ticks):
    rows = np.arange(16, dtype=np.float32)[:, None].repeat(7, axis=1)
    before = ActionChunk(1, 1000, rows, "push")
    after = carried(before, 1000 + ticks * TICK_NS, pace)
    if pace == 1.0:
        assert after is before
        return
    expected = round(pace * ticks)
    assert after.stamp_ns == 1000 + ticks * TICK_NS and len(after.actions) == max(0, 16 - expected)
    assert not len(after.actions) or after.actions[0, 0] == expected
    assert carried(None, 5, pace) is None and carried(before, 0, pace) is before


def test_a_chunk_that_would_be_over_at_full_pace_still_has_rows_at_half_of_it():
    for pace, refused in ((1.0, True), (0.5, False)):
        rig = Rig()
        rig.episode(pace=pace)
        rig.state()
        assert (rig.chunk(age_ms=500, rows=16) is not None) is refused
        if not refused:
            assert rig.tick().chunk_index == 10
