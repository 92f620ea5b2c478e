# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person at the controls goes before the policy, inside the same limits, until they release the robot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.integrator import Clamp
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.loop import LoopSettings
from flow_rag_vla.control.queue import ChunkRefusal
from flow_rag_vla.control.takeover import TakeoverRefusal, TakeoverRequest

from .harness import Rig


@pytest.fixture
def rig() -> Rig:
    found = Rig()
    found.episode()
    found.state()
    return found


def ask(rig, *velocity: float, person: str = "ada", active: bool = True, gripper: float = -1.0, age_ms: float = 0.0):
    values = np.array(velocity or (0.1, 0.0, 0.0, 0.0, 0.0, 0.0))
    stamp_ns = rig.now - int(age_ms * 1e6)
    return rig.loop.offer_takeover(TakeoverRequest(stamp_ns, person, active, values, gripper), rig.now, rig.steady)


def release(rig, person: str = "ada"):
    return ask(rig, 0, 0, 0, 0, 0, 0, person=person, active=False)


def test_a_person_goes_before_the_policy_and_the_record_says_so(rig):
    rig.chunk(0.0, 0.004, 0, 0, 0, 0, 0.5)
    assert rig.tick().mode is Mode.FOLLOW
    ask(rig, 0.1, 0, 0, 0, 0, 0, gripper=0.25)
    rig.chunk(0.0, 0.004, 0, 0, 0, 0, 0.5)
    commands = rig.run(2)
    assert {command.mode for command in commands} == {Mode.TAKEOVER}
    last = commands[-1]
    np.testing.assert_allclose(last.action[:3], [0.0025, 0, 0], atol=1e-6)
    assert (last.provenance.policy, last.provenance.policy_revision, last.chunk_id) == ("human", "ada", 0)
    assert (last.reason, last.action[6]) == (Reason.TAKEOVER, 0.25) and "ada has the robot" in last.reason_text


def test_a_gripper_that_is_not_mentioned_stays_as_it_is(rig):
    ask(rig, gripper=0.3)
    assert rig.tick().action[6] == np.float32(0.3)
    ask(rig, gripper=-1.0)
    assert rig.tick().action[6] == np.float32(0.3)


@pytest.mark.parametrize(("effort", "width"), [(10.0, 0.0), (0.0, 0.03)])
def test_a_controller_that_is_started_while_the_hand_squeezes_does_not_let_go(effort, width):
    rig = Rig()
    rig.width, rig.effort = 0.03, effort
    rig.run(4)
    ask(rig)
    command = rig.tick()
    assert command.mode is Mode.TAKEOVER and abs(command.target.gripper_width - width) < 1e-6


def test_silence_holds_by_name_and_never_goes_back_to_the_policy_by_itself(rig):
    ask(rig)
    modes = []
    for _ in range(80):
        rig.chunk(0.004, 0, 0, 0, 0, 0, 0.5)
        command = rig.tick()
        modes.append(command.mode)
    assert list(dict.fromkeys(modes)) == [Mode.TAKEOVER, Mode.HOLD, Mode.DECELERATE, Mode.STOP]
    assert command.reason is Reason.TAKEOVER_LOST and "ada has the robot and has not been heard" in command.reason_text
    assert np.linalg.norm(command.action[:3]) == 0.0
    ask(rig)
    assert rig.tick().mode is Mode.TAKEOVER


def test_after_the_release_only_what_was_seen_since_is_followed(rig):
    ask(rig)
    rig.run(2)
    rig.chunk(0.004, 0, 0, 0, 0, 0, 0.5, age_ms=10)
    release(rig)
    assert rig.tick().mode is Mode.HOLD
    refused = rig.chunk(0.004, 0, 0, 0, 0, 0, 0.5, age_ms=60)
    assert refused.refusal is ChunkRefusal.TAKEOVER
    rig.chunk(0.004, 0, 0, 0, 0, 0, 0.5)
    assert rig.tick().mode is Mode.FOLLOW


def test_a_release_out_of_a_stop_is_enough_for_the_policy_to_go_on(rig):
    ask(rig)
    rig.run(60)
    assert rig.loop.mode is Mode.STOP
    release(rig)
    rig.run(2)
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_the_emergency_stop_goes_before_a_person(rig):
    ask(rig)
    rig.tick()
    rig.loop.emergency_stop("asked for", rig.steady)
    ask(rig)
    assert rig.tick().mode is Mode.EMERGENCY_STOP
    rig.loop.reset_emergency_stop(rig.steady)
    assert rig.tick().mode is Mode.STOP
    rig.now, rig.steady = rig.now + 1, rig.steady + 1
    ask(rig)
    assert rig.tick().mode is Mode.TAKEOVER


def test_controls_that_are_still_deflected_when_the_emergency_stop_is_reset_move_nothing(rig):
    ask(rig, gripper=0.3)
    rig.run(3)
    rig.loop.emergency_stop("asked for", rig.steady)
    rig.run(2)
    rig.loop.reset_emergency_stop(rig.steady)
    for _ in range(4):
        ask(rig, gripper=0.9)
        still = rig.tick()
        assert not still.action[:6].any() and still.action[6] == np.float32(0.3)
    assert still.mode is Mode.TAKEOVER and "must let go of the controls" in still.reason_text
    ask(rig, 0, 0, 0, 0, 0, 0, gripper=0.3)
    rig.tick()
    ask(rig, gripper=0.9)
    moving = rig.tick()
    assert moving.action[0] > 0.0 and moving.action[6] == np.float32(0.9)
    assert moving.reason_text == "ada has the robot"


def test_a_person_who_takes_the_robot_after_the_reset_is_followed_at_once(rig):
    rig.loop.emergency_stop("asked for", rig.steady)
    rig.tick()
    rig.loop.reset_emergency_stop(rig.steady)
    rig.tick()
    ask(rig)
    assert rig.tick().action[0] > 0.0


def test_a_person_may_move_the_robot_between_episodes_but_not_while_it_is_put_into_its_start(rig):
    rig.episode(running=False)
    ask(rig)
    assert rig.tick().mode is Mode.TAKEOVER
    rig.episode(running=False, resetting=True)
    ask(rig)
    assert rig.tick().mode is Mode.IDLE


def test_one_person_at_a_time(rig):
    ask(rig, person="ada")
    refusal, text = ask(rig, person="bob")
    assert refusal is TakeoverRefusal.OTHER_PERSON and "'ada' has the robot" in text
    assert release(rig, person="bob")[0] is TakeoverRefusal.OTHER_PERSON
    release(rig)
    assert ask(rig, person="bob") is None and rig.tick().provenance.policy_revision == "bob"
    assert rig.loop.takeover.taken == 2


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"velocity": (math.nan,) * 6}, TakeoverRefusal.INVALID),
        ({"velocity": (math.inf, 0, 0, 0, 0, 0)}, TakeoverRefusal.INVALID),
        ({"gripper": math.nan}, TakeoverRefusal.INVALID),
        ({"person": ""}, TakeoverRefusal.INVALID),
        ({"age_ms": 900.0}, TakeoverRefusal.TOO_OLD),
        ({"age_ms": -900.0}, TakeoverRefusal.FUTURE),
    ],
)
def test_a_request_that_makes_no_sense_takes_nothing_over(rig, fields, refusal):
    velocity = fields.pop("velocity", (0.1, 0, 0, 0, 0, 0))
    assert ask(rig, *velocity, **fields)[0] is refusal
    assert not rig.loop.takeover.held and rig.loop.takeover.refused[refusal] == 1


def test_requests_out_of_order_do_not_undo_a_release(rig):
    ask(rig)
    rig.tick()
    release(rig)
    assert ask(rig, age_ms=40)[0] is TakeoverRefusal.OLDER
    assert not rig.loop.takeover.held


def test_requests_without_a_stamp_count_from_their_arrival(rig):
    request = TakeoverRequest(0, "ada", True, np.array([0.1, 0, 0, 0, 0, 0]))
    assert rig.loop.offer_takeover(request, rig.now, rig.steady) is None
    assert rig.tick().mode is Mode.TAKEOVER
    rig.run(12)
    assert rig.loop.mode is Mode.HOLD


def test_a_clock_that_jumps_leaves_the_robot_with_its_person_and_holds_until_they_are_heard(rig):
    ask(rig)
    rig.tick()
    rig.now -= 3_600_000_000_000
    command = rig.tick()
    assert command.mode is Mode.HOLD and rig.loop.takeover.held
    command = rig.tick()
    assert command.reason is Reason.TAKEOVER_LOST and "a clock jump" in command.reason_text
    ask(rig)
    assert rig.tick().mode is Mode.TAKEOVER


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-50.0, 50.0), min_size=6, max_size=6), st.floats(-2.0, 3.0), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_a_person_asks_for_stays_inside_every_limit(requests):
    rig = Rig(LoopSettings())
    rig.episode()
    rig.state()
    limits, before, step = rig.loop.settings.limits, rig.position, np.zeros(3)
    for velocity, gripper, active, heard in requests:
        if heard:
            ask(rig, *velocity, gripper=gripper, active=active)
        command = rig.tick()
        target = command.target
        assert target is not None and 0.0 <= target.gripper_width <= limits.gripper_width
        assert (target.position >= np.array(limits.workspace_low) - 1e-9).all()
        assert (target.position <= np.array(limits.workspace_high) + 1e-9).all()
        moved = target.position - before
        assert np.linalg.norm(moved) <= limits.translation + 1e-9
        if not command.clamps & (Clamp.WORKSPACE | Clamp.TRACKING):
            # Those two may stop the target short.
            assert np.linalg.norm(moved - step) <= limits.translation_change + 1e-9
        step = moved
        before = target.position
    assert rig.loop.internal_errors == 0
