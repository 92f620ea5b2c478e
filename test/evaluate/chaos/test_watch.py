# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The watch lets pass what is right, and names each thing that is not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.integrator import MotionLimits, TargetIntegrator
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.chaos.watch import (
    EMERGENCY_STOP,
    FOLLOW,
    IDLE,
    LISTENING_TICKS,
    PERIOD_NS,
    CommandLimits,
    CommandSample,
    CommandWatch,
    Gap,
)

change = dataclasses.replace


def kinds(watch, samples):
    return [violation.kind for sample in samples for violation in watch.take(sample)[0]]


def test_an_even_stream_inside_every_limit_says_nothing(watch, stream):
    assert kinds(watch, stream(15, x=0.004)) == []
    assert (watch.commands, watch.lost, watch.restarts, watch.modes) == (15, 0, 0, {FOLLOW: 15})


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"position": (0.9, 0.0, 0.3)}, "workspace"),
        ({"position": (math.nan, 0.0, 0.3)}, "not finite"),
        ({"gripper_width": 0.09}, "gripper"),
        ({"gripper_width": -0.01}, "gripper"),
        ({"orientation": (0.5, 0.0, 0.0, 0.0)}, "quaternion"),
        ({"orientation": (0.0, 0.0, 0.0, 0.0)}, "no target"),
        ({"age_ms": 640.0}, "too old"),
        ({"chunk_id": 0}, "no origin"),
        ({"mode": 2, "reason": 2}, "no reason"),
        ({"mode": 2, "reason_text": "chunks ran dry"}, "no reason"),
    ],
)
def test_a_command_that_is_wrong_by_itself_is_named(watch, stream, fields, kind):
    assert kinds(watch, stream(1, **fields)) == [kind]


HELD = {"mode": 2, "reason": 2, "reason_text": "no chunk has arrived"}


@pytest.mark.parametrize(("outside", "said"), [(0.000002, []), (0.004, []), (0.011, ["workspace"])])
def test_a_loop_that_begins_may_hold_an_arm_that_was_braked_outside_where_it_is(watch, stream, outside, said):
    edge = watch.limits.low[2]
    assert kinds(watch, stream(1, position=(0.5, 0.0, edge - outside), **HELD)) == said


def test_a_loop_begins_with_its_first_target_which_it_has_not_before_it_knows_where_the_arm_is(watch, stream):
    low = watch.limits.low[2]
    nowhere = {"position": (0.0, 0.0, 0.0), "orientation": (0.0, 0.0, 0.0, 0.0)}
    unaware = [change(sample, **nowhere, **HELD) for sample in stream(3)]
    braked, again = (change(sample, position=(0.5, 0.0, low - 0.0005), **HELD) for sample in stream(5)[3:])
    inside, *_ = (change(sample, tick=90) for sample in stream(1, position=(0.5, 0.0, low + 0.001)))
    assert kinds(watch, [inside, *unaware, braked, again]) == []
    # Nor is that a leave to go out later.
    assert kinds(watch, [change(inside, tick=91), change(again, tick=92)]) == ["workspace"]


def test_an_arm_that_began_outside_may_only_come_in(watch, stream):
    edge = watch.limits.low[2]
    heights = (-0.004, -0.004, -0.0015, 0.001, -0.0015)
    samples = [
        change(sample, position=(0.5, 0.0, edge + height), clamps=1, **HELD)
        for sample, height in zip(stream(5), heights, strict=True)
    ]
    # Out again, after it was in.
    assert kinds(watch, samples) == ["workspace"]
    further = [samples[2], change(samples[3], position=(0.5, 0.0, edge - 0.003))]
    assert kinds(CommandWatch(watch.limits), further) == ["workspace"]


def test_nothing_is_followed_from_outside(watch, stream):
    assert kinds(watch, stream(1, position=(0.5, 0.0, watch.limits.low[2] - 0.001))) == ["workspace"]


def test_a_step_beyond_the_velocity_and_a_turn_beyond_the_rotation_are_named(watch, stream):
    one, other = stream(2)
    half = 0.04
    turned = (math.cos(half), math.sin(half), 0.0, 0.0)
    assert kinds(watch, [one, change(other, position=(0.513, 0.0, 0.3), orientation=turned)]) == [
        "velocity",
        "rotation",
    ]


def test_a_change_of_the_step_beyond_the_acceleration_is_named_unless_a_wall_cut_it_short(stream):
    samples = stream(3, x=0.004)
    for clamps, expected in ((0, ["acceleration"]), (1, []), (16, []), (4, ["acceleration"])):
        back = change(samples[2], position=(0.5 + 0.004 - 0.003, 0.0, 0.3), clamps=clamps)
        assert kinds(CommandWatch(LIMITS), [*samples[:2], back]) == expected


def test_a_jump_is_named_and_the_usual_step_behind_it_is_no_second_one(watch, stream):
    samples = stream(5, x=0.004)
    far = [change(sample, position=(sample.position[0] + 0.1, 0.0, 0.3)) for sample in samples[2:]]
    assert kinds(watch, [*samples[:2], *far]) == ["velocity", "acceleration"]


def test_ticks_that_were_not_heard_are_counted_and_give_the_time_that_they_took(watch, stream):
    samples = stream(6, x=0.01)
    assert kinds(watch, [samples[0], samples[1], samples[5]]) == []
    assert watch.lost == 3
    assert kinds(watch, [samples[5]]) == ["repeated"]


def test_another_process_may_begin_where_the_tool_is_and_nowhere_else(watch, stream):
    assert kinds(watch, stream(5, first=900) + stream(3, start_ns=2_000_000_000, position=(0.53, 0.0, 0.3))) == []
    assert kinds(watch, stream(1, start_ns=3_000_000_000, first=1, position=(0.6, 0.0, 0.3))) == ["restart"]
    assert watch.restarts == 2


def test_more_than_two_periods_without_a_command_is_a_gap(watch, stream):
    even = stream(2)
    late = [change(sample, tick=sample.tick + 2) for sample in stream(2, start_ns=1_000_000_000 + 4 * PERIOD_NS)]
    gaps = [watch.take(sample)[1] for sample in [*even, *late]]
    assert [gap and gap.ms for gap in gaps] == [None, None, 75.0, None]


def test_an_emergency_stop_must_be_obeyed_with_the_next_tick_and_last(watch, stream):
    samples = stream(12)
    stopped = {"mode": EMERGENCY_STOP, "reason": 8, "reason_text": "asked for"}
    assert kinds(watch, samples[:3]) == []
    watch.stop_asked(samples[2].sent_ns + 5_000_000)
    # One tick may have begun before the message came.
    assert kinds(watch, [samples[3], change(samples[4], **stopped)]) == []
    assert watch.stop_delays_ms == [45.0]
    assert kinds(watch, [samples[5]]) == ["not latched"]
    watch.stop_released()
    assert kinds(watch, samples[6:8]) == []
    watch.stop_asked(samples[7].sent_ns + 1)
    assert kinds(watch, samples[8:12]) == ["emergency stop"] * 3


def test_a_loop_that_was_just_started_may_rest_before_it_hears_of_the_stop_and_not_follow(watch, stream):
    resting = {"mode": IDLE, "reason": 9, "reason_text": "no episode"}
    stopped = {"mode": EMERGENCY_STOP, "reason": 8, "reason_text": "asked for"}
    samples = stream(LISTENING_TICKS + 4, first=1)
    watch.stop_asked(samples[1].sent_ns + 5_000_000)
    rested = [change(sample, **resting) for sample in samples[:9]]
    assert kinds(watch, [*rested, change(samples[9], **stopped)]) == [] and watch.stop_delays_ms == [20.0]
    watch.stop_released()
    watch.stop_asked(samples[9].sent_ns + 1)
    assert kinds(watch, [change(samples[10], **resting), samples[11]]) == ["not latched"]
    watch.stop_released()
    watch.stop_asked(samples[-4].sent_ns + 1)
    assert kinds(watch, [change(sample, **resting) for sample in samples[-3:]]) == ["emergency stop"] * 2


@pytest.mark.parametrize(("late_ns", "said"), [(0, []), (1, ["emergency stop"])])
def test_one_command_may_pass_a_stop_and_none_that_leaves_more_than_a_period_after_it(watch, stream, late_ns, said):
    before, began, after = stream(3)
    asked = before.sent_ns + 1_000_000
    # An uneven stream, so that two commands fit into the period after the stop.
    began = change(began, sent_ns=asked + 2_000_000)
    after = change(after, sent_ns=asked + PERIOD_NS + late_ns)
    assert kinds(watch, [before]) == []
    watch.stop_asked(asked)
    assert kinds(watch, [began, after]) == said
    assert watch.stop_delays_ms == []


def test_the_tick_that_had_begun_may_leave_late_and_the_one_after_it_may_not_follow(watch, stream):
    before, began, after = stream(3)
    watch.take(before)
    watch.stop_asked(before.sent_ns + 1)
    # Held up in the middle of its tick, for longer than a stop may take.
    late = {"sent_ns": before.sent_ns + 10 * PERIOD_NS}
    assert kinds(watch, [change(began, **late)]) == []
    assert kinds(watch, [change(after, sent_ns=before.sent_ns + 11 * PERIOD_NS)]) == ["emergency stop"]


@pytest.mark.parametrize(("late_ns", "seen"), [(-1, False), (0, False), (1, True)])
def test_a_gap_begins_beyond_two_periods(watch, stream, late_ns, seen):
    one, other = stream(2)
    late = change(other, sent_ns=one.sent_ns + 2 * PERIOD_NS + late_ns)
    assert watch.take(one) == ([], None)
    violations, gap = watch.take(late)
    assert violations == [] and (gap == Gap(one.sent_ns, late.sent_ns) if seen else gap is None)


def test_a_stop_that_is_heard_behind_the_commands_that_obey_it_is_timed_by_the_first_of_them(watch, stream):
    samples = stream(6)
    stopped = {"mode": EMERGENCY_STOP, "reason": 8, "reason_text": "asked for"}
    obeying = [change(sample, **stopped) for sample in samples[2:5]]
    assert kinds(watch, [*samples[:2], *obeying[:2]]) == []
    watch.stop_asked(samples[2].sent_ns - 7_000_000)
    assert kinds(watch, obeying[2:]) == [] and watch.stop_delays_ms == [7.0]
    assert kinds(watch, samples[5:]) == ["not latched"]


LIMITS = CommandLimits(0.012, 0.06, 0.006, (0.25, -0.4, 0.005), (0.75, 0.4, 0.6), 0.08, 0.04, 600.0)


@given(st.integers(0, 2**32 - 1))
def test_whatever_is_asked_of_the_integrator_the_watch_finds_nothing(seed):
    random = np.random.default_rng(seed)
    limits = MotionLimits()
    integrator, watch = TargetIntegrator(limits), CommandWatch(LIMITS)
    tool, facing = np.array([0.5, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0])
    found = []
    for tick in range(60):
        action = random.normal(size=7) * random.choice([0.001, 0.01, 0.3])
        target, _, clamps = integrator.advance(action, RobotState(0, tool, facing))
        tool = tool + random.uniform(0.0, 0.6) * (target.position - tool)
        facing = target.orientation
        sent = (tick + 1) * PERIOD_NS
        sample = stream_sample(sent, tick + 1, target, int(clamps))
        found += watch.take(sample)[0]
    assert found == []


def stream_sample(sent, tick, target, clamps):
    position, turn = tuple(target.position.tolist()), tuple(target.orientation.tolist())
    return CommandSample(sent, sent, tick, FOLLOW, 0, "", position, turn, target.gripper_width, clamps, 1, 50.0)
