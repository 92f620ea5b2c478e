# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Each rule on signals made by hand: when it speaks, how often, and with which evidence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.rules import Persistence
from flow_rag_vla.failure.thresholds import RuleThresholds

LIMITS = RuleThresholds()
EFFORT = LIMITS.grasp_hold_effort * 4


def types(reports):
    return [report.failure_type for report in reports]


def test_a_hand_that_closes_on_nothing_is_a_grasp_failure_told_once(signals):
    signals.run(0.5, (0.0, 0.0, -0.1))
    told = signals.close(0.0, EFFORT) + signals.run(2.0, (0.0, 0.0, 0.05))
    assert types(told) == [FailureType.GRASP_FAILURE]
    width = next(item for item in told[0].evidence if item.name == "gripper_width")
    assert (width.value, width.threshold, width.unit) == (0.0, LIMITS.grasp_empty_width, "m")
    assert told[0].phase is Phase.REACH or told[0].phase is Phase.GRASP
    assert "nothing between the fingers" in told[0].description


def test_each_further_attempt_that_misses_is_told_again(signals):
    for _ in range(3):
        signals.run(0.5, (0.05, 0.0, 0.0))
        signals.close(0.0, EFFORT)
        signals.open()
    assert types(signals.reports) == [FailureType.GRASP_FAILURE] * 3


def test_the_onset_of_a_grasp_failure_is_the_observation_behind_the_closing_command(signals):
    signals.run(0.5)
    signals.observation_stamp_ns = signals.stamp_ns - 75_000_000
    seen = signals.observation_stamp_ns
    (told,) = signals.close(0.0, EFFORT)
    assert told.onset_ns == seen
    assert told.phase is Phase.REACH


def test_the_onset_of_a_grasp_failure_without_an_observation_is_the_closing_command(signals):
    signals.run(0.5)
    closing_ns = signals.stamp_ns + 25_000_000
    (told,) = signals.close(0.0, EFFORT)
    assert told.onset_ns == closing_ns


def test_fingers_that_stop_without_pressing_hold_nothing(signals):
    (told,) = signals.close(0.04, 0.0)
    assert told.failure_type is FailureType.GRASP_FAILURE
    assert "0.0 N" in told.description


def test_a_hold_and_its_release_are_no_failure(signals):
    signals.close(0.04, EFFORT)
    signals.run(1.0, (0.0, 0.05, 0.1))
    signals.open()
    signals.run(1.0, (0.0, 0.0, 0.1))
    assert signals.reports == []


def test_pushing_with_a_closed_hand_is_no_grasp_failure(make_signals):
    signals = make_signals().start("push")
    signals.close(0.0, EFFORT)
    signals.run(1.0, (0.1, 0.0, 0.0))
    assert signals.reports == []


def test_a_held_object_that_slips_out_is_a_drop(signals):
    signals.close(0.04, EFFORT)
    signals.run(1.0, (0.0, 0.05, 0.1))
    held_ns = signals.stamp_ns
    signals.width, signals.effort = 0.0, 1.0
    told = signals.run(1.0, (0.0, 0.05, 0.0))
    assert types(told) == [FailureType.DROP]
    assert told[0].onset_ns == held_ns
    assert told[0].phase is Phase.TRANSPORT


def test_a_hand_that_stops_pressing_has_dropped_what_it_held(signals):
    signals.close(0.04, EFFORT)
    signals.run(0.5, (0.0, 0.0, 0.1))
    signals.effort = 0.0
    assert types(signals.run(0.5, (0.0, 0.0, 0.1))) == [FailureType.DROP]


def test_an_effort_that_flickers_is_no_drop(signals):
    signals.close(0.04, EFFORT)
    for _ in range(10):
        signals.effort = 0.0
        signals.run(0.025, (0.0, 0.0, 0.1))
        signals.effort = EFFORT
        signals.run(0.1, (0.0, 0.0, 0.1))
    assert signals.reports == []


def test_what_was_pinched_for_an_instant_was_never_held(signals):
    signals.opening = 0.0
    signals.width = 0.03
    signals.run(0.15)
    signals.effort = EFFORT
    signals.run(0.125)
    signals.width, signals.effort = 0.0, 1.0
    assert types(signals.run(0.5)) == [FailureType.GRASP_FAILURE]


def pinched(signals, ticks: int, velocity: tuple[float, float, float], width: float = 0.04) -> list:
    """Close on something that presses back for so many ticks, with the hand under way, and lose it."""
    signals.opening, signals.width = 0.0, width
    signals.run(LIMITS.grasp_settle_time)
    signals.effort = EFFORT
    signals.run(0.025 * (ticks + 1), velocity)
    signals.width, signals.effort = 0.0, 1.0
    return signals.run(1.0, velocity)


@pytest.mark.parametrize("ticks", [0, 2, 4, 5])
def test_a_hand_that_pulls_away_at_once_and_slips_off_has_not_grasped_and_drops_nothing(signals, ticks):
    signals.run(0.5, (0.0, 0.0, -0.1))
    signals.observation_stamp_ns = signals.stamp_ns - 75_000_000
    seen = signals.observation_stamp_ns
    (told,) = pinched(signals, ticks, (-0.4, 0.0, 0.0))
    # The phase alone says that something was carried.
    assert signals.detector.phase is Phase.TRANSPORT or ticks < 2
    assert (told.failure_type, told.detector, told.onset_ns) == (FailureType.GRASP_FAILURE, "grasp_failure", seen)
    assert told.phase is Phase.REACH
    held = {item.name: item for item in told.evidence}
    assert held["hold_time"].value == pytest.approx(0.025 * ticks)
    assert held["carried"].value == pytest.approx(0.01 * ticks)
    assert "slipped out" in told.description


def test_what_moved_with_the_hand_for_a_while_was_held_and_its_loss_is_a_drop(signals):
    (told,) = pinched(signals, 6, (-0.4, 0.0, 0.0))
    assert (told.failure_type, told.phase) == (FailureType.DROP, Phase.TRANSPORT)
    assert told.onset_ns == told.stamp_ns - 25_000_000
    assert "for 0.15 s left the hand" in told.description


def test_motion_after_the_fingers_have_lost_it_does_not_make_a_grasp_a_drop(signals):
    signals.opening, signals.width = 0.0, 0.06
    signals.run(LIMITS.grasp_settle_time)
    signals.effort = EFFORT
    signals.run(0.4)
    # The hand lifts, the fingers slide off what they pinched: for a moment they are neither firm nor empty.
    signals.effort = 0.5
    told = signals.run(1.0, (0.0, 0.0, 0.4))
    assert types(told) == [FailureType.GRASP_FAILURE]
    assert signals.detector.phase is Phase.TRANSPORT


def test_what_was_held_for_long_without_moving_is_dropped(signals):
    told = pinched(signals, round(LIMITS.drop_min_hold / 0.025), (0.0, 0.0, 0.0))
    assert types(told) == [FailureType.DROP]


@given(ticks=st.integers(0, 40), speed=st.floats(0.0, 0.4), width=st.floats(0.013, 0.075))
def test_what_leaves_a_closed_hand_is_one_failure_whatever_it_is_called(
    make_signals: Callable, ticks: int, speed: float, width: float
):
    signals = make_signals().start()
    told = pinched(signals, ticks, (0.0, speed, 0.0), width)
    held, carried = 0.025 * ticks, 0.025 * ticks * speed
    if abs(carried - LIMITS.carry_distance) > 1e-6:
        was = held > LIMITS.drop_min_hold - 1e-6 or (
            carried > LIMITS.carry_distance and held > LIMITS.drop_min_carry - 1e-6
        )
        assert types(told) == [FailureType.DROP if was else FailureType.GRASP_FAILURE]
    assert len(told) == 1 and told[0].confidence == 0.95


def test_a_hold_is_not_as_far_as_the_one_before_it(signals):
    pinched(signals, 8, (0.4, 0.0, 0.0))
    signals.open()
    assert types(pinched(signals, 3, (0.0, 0.0, 0.0))) == [FailureType.GRASP_FAILURE]
    assert types(signals.reports) == [FailureType.DROP, FailureType.GRASP_FAILURE]


def test_after_a_drop_the_next_empty_grasp_is_told_too(signals):
    signals.close(0.04, EFFORT)
    signals.run(0.5, (0.0, 0.0, 0.1))
    signals.width = 0.0
    signals.run(0.5, (0.0, 0.0, 0.1))
    signals.open()
    signals.close(0.0, EFFORT)
    assert types(signals.reports) == [FailureType.DROP, FailureType.GRASP_FAILURE]


def test_a_force_beyond_the_need_of_the_phase_is_a_collision(signals):
    signals.run(0.5, (0.1, 0.0, 0.0))
    signals.force = (0.0, 3.0, LIMITS.collision_force_free + 20)
    told = signals.run(1.0)
    assert types(told) == [FailureType.COLLISION]
    assert "along z" in told[0].description
    names = {item.name: item for item in told[0].evidence}
    assert names["peak_force"].value >= names["external_force"].threshold


def test_a_collision_is_told_again_only_after_it_has_ended(signals):
    for pause in (0.1, 0.1, LIMITS.rearm_time + LIMITS.merge_time + 0.2):
        signals.force = (0.0, 0.0, 2 * LIMITS.collision_force_free)
        signals.run(0.3, (0.1, 0.0, 0.0))
        signals.force = (0.0, 0.0, 0.0)
        signals.run(pause, (0.1, 0.0, 0.0))
    signals.force = (0.0, 0.0, 2 * LIMITS.collision_force_free)
    signals.run(0.3, (0.1, 0.0, 0.0))
    assert types(signals.reports) == [FailureType.COLLISION] * 2


def test_a_single_spike_of_force_is_no_collision(signals):
    signals.force = (0.0, 0.0, 300.0)
    signals.run(0.025)
    signals.force = (0.0, 0.0, 0.0)
    signals.run(0.5, (0.1, 0.0, 0.0))
    assert signals.reports == []


def test_a_tool_that_stays_away_from_its_target_is_misaligned(signals):
    signals.lead = (LIMITS.misalignment_distance + 0.005, 0.0, 0.0)
    told = signals.run(1.0, (0.02, 0.0, 0.0))
    assert types(told) == [FailureType.MISALIGNMENT]
    assert "away from its target" in told[0].description


def test_a_lag_within_a_fast_motion_is_no_misalignment(signals):
    for _ in range(5):
        signals.lead = (LIMITS.misalignment_distance + 0.005, 0.0, 0.0)
        signals.run(LIMITS.misalignment_time / 2, (0.2, 0.0, 0.0))
        signals.lead = (0.005, 0.0, 0.0)
        signals.run(0.1, (0.1, 0.0, 0.0))
    assert signals.reports == []


def test_a_blocked_tool_that_also_feels_the_obstacle_is_one_failure(signals):
    signals.force, signals.lead = (2 * LIMITS.collision_force_free, 0.0, 0.0), (0.04, 0.0, 0.0)
    assert types(signals.run(2.0)) == [FailureType.COLLISION]


def test_an_episode_beyond_its_time_is_told_once(make_signals):
    signals = make_signals().start(timeout=2.0)
    signals.run(1.9, (0.0, 0.05, 0.0))
    assert signals.reports == []
    told = signals.run(1.0, (0.0, -0.05, 0.0))
    assert types(told) == [FailureType.TIMEOUT]
    assert [item.name for item in told[0].evidence] == ["episode_time"]


def test_a_phase_beyond_its_time_is_told_once(signals):
    told = signals.run(LIMITS.timeout_reach - 0.1, (0.02, 0.0, 0.0))
    assert told == []
    told = signals.run(3.0, (0.02, 0.0, 0.0))
    assert types(told) == [FailureType.TIMEOUT]
    assert "reach" in told[0].description


def test_a_tool_that_stands_still_makes_no_progress(signals):
    told = signals.run(LIMITS.stall_time + 1.0)
    assert types(told) == [FailureType.TIMEOUT]
    assert "not moved" in told[0].description
    assert told[0].onset_ns == told[0].stamp_ns - round(LIMITS.stall_time / 0.025) * 25_000_000


def test_waiting_for_the_first_chunk_is_no_timeout(signals):
    signals.following = False
    signals.run(LIMITS.stall_time * 3)
    assert signals.reports == []


@given(width=st.floats(0.013, 0.075), effort=st.floats(2.5, 60.0), force=st.floats(0.0, 14.0))
def test_any_firm_hold_and_any_light_contact_is_no_failure(
    make_signals: Callable, width: float, effort: float, force: float
):
    signals = make_signals().start()
    signals.run(0.3, (0.0, 0.0, -0.1))
    signals.force = (0.0, 0.0, force)
    signals.close(width, effort)
    signals.run(0.5, (0.0, 0.1, 0.1))
    signals.open()
    assert signals.reports == []


@given(
    conditions=st.lists(st.booleans(), max_size=200),
    hold=st.integers(0, 6),
    release=st.integers(1, 8),
)
def test_a_persistent_condition_speaks_only_when_held_and_only_once_until_it_was_absent(conditions, hold, release):
    watch = Persistence(hold * 0.025, release * 0.025)
    run, absent, armed = 0, 10_000, True
    for tick, condition in enumerate(conditions):
        onset = watch.update(tick * 25_000_000, condition)
        run = run + 1 if condition else 0
        if condition:
            expected = armed and run > hold
            absent = 0
            if expected:
                armed = False
        else:
            expected = False
            absent += 1
            if absent >= release:
                armed = True
        assert (onset is not None) == expected
        if onset is not None:
            assert onset == (tick - run + 1) * 25_000_000


@pytest.mark.parametrize("task", ["pick_and_place", "push", "stack", "open_drawer"])
def test_nothing_is_told_before_an_episode_or_after_it(make_signals, task):
    signals = make_signals(FailureDetector())
    signals.force, signals.opening, signals.width = (500.0, 0.0, 0.0), 0.0, 0.0
    assert signals.run(2.0) == []
    signals.start(task)
    assert signals.run(2.0) != []
    signals.detector.stop()
    assert signals.run(2.0) == []


def test_a_hand_that_gives_up_an_attempt_has_failed_it_even_if_it_touched_something(signals):
    signals.opening = 0.0
    signals.width, signals.effort = 0.04, EFFORT
    signals.run(LIMITS.grasp_abandon_time + 0.1)
    told = signals.open()
    assert types(told) == [FailureType.GRASP_FAILURE]
    assert told[0].detector == "abandoned_grasp"


def test_an_empty_grasp_that_is_opened_again_is_one_failure(signals):
    signals.close(0.0, EFFORT)
    signals.open()
    assert [report.detector for report in signals.reports] == ["grasp_failure"]


def test_a_flicker_of_the_gripper_command_is_no_attempt(signals):
    for _ in range(5):
        signals.opening = 0.0
        signals.run(0.1)
        signals.opening = 1.0
        signals.run(0.1, (0.05, 0.0, 0.0))
    assert signals.reports == []


def test_grasping_once_more_after_a_release_tells_that_the_release_was_a_drop(signals):
    signals.close(0.04, EFFORT)
    signals.run(1.0, (0.0, 0.05, 0.1))
    released_ns = signals.stamp_ns + 25_000_000
    signals.open()
    signals.run(0.5, (0.0, 0.05, 0.0))
    told = signals.close(0.04, EFFORT)
    assert types(told) == [FailureType.DROP]
    assert (told[0].detector, told[0].onset_ns, told[0].phase) == ("regrasp", released_ns, Phase.RELEASE)


def test_a_handle_that_turns_between_pressing_fingers_is_held(signals):
    signals.opening = 0.0
    for width in (0.06, 0.04, 0.028):
        signals.width = width
        signals.run()
    signals.effort = EFFORT
    for _ in range(12):
        signals.width += 0.001
        signals.run(0.025, (-0.4, 0.0, 0.0))
    assert signals.detector.phase is Phase.TRANSPORT
    signals.open()
    assert signals.reports == []
