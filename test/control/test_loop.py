# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.loop import LoopSettings
from flow_rag_vla.control.measurement import StateRefusal
from flow_rag_vla.control.queue import ChunkRefusal
from flow_rag_vla.core.action import TICK_NS, CorrectionMode, Provenance
from flow_rag_vla.core.correction import Correction

from .harness import MS, Rig


def following(**chunk) -> Rig:
    rig = Rig()
    rig.episode()
    rig.tick()
    rig.chunk(**chunk)
    assert rig.tick().mode is Mode.FOLLOW
    return rig


def test_without_an_episode_the_present_pose_is_held():
    rig = Rig()
    commands = rig.run(5)
    assert {command.mode for command in commands} == {Mode.IDLE}
    assert {command.reason for command in commands} == {Reason.EPISODE_INACTIVE}
    assert all(np.allclose(command.target.position, [0.5, 0.0, 0.3]) for command in commands)
    assert [command.tick for command in commands] == [1, 2, 3, 4, 5]


def test_an_idle_arm_that_sags_does_not_drag_its_target_along():
    rig = Rig()
    rig.follows = False
    first = rig.tick()
    rig.position = rig.position - [0, 0, 0.01]
    assert np.allclose(rig.run(10)[-1].target.position, first.target.position)


def test_before_the_first_state_no_pose_is_named():
    command = Rig().tick(state=False)
    assert (command.target, command.mode, command.reason) == (None, Mode.IDLE, Reason.STATE_MISSING)
    assert np.isfinite(command.action).all()


def test_a_chunk_is_followed_row_by_row_with_its_provenance():
    rig = Rig()
    rig.episode()
    rig.tick()
    provenance = Provenance(rig.now, "flow", "abc", 42, CorrectionMode.GUIDANCE, 0.5, (7,))
    rig.chunk(age_ms=60, provenance=provenance)
    commands = rig.run(3)
    assert [command.chunk_index for command in commands] == [3, 4, 5]
    assert all(command.provenance == provenance and command.reason_text == "" for command in commands)
    assert commands[0].observation_age_ms == pytest.approx(85.0)
    assert np.allclose(commands[1].action, [0.004, 0, 0, 0, 0, 0, 0.5])
    assert commands[1].target.gripper_width == pytest.approx(0.04)


def test_a_moving_arm_whose_chunk_runs_dry_comes_to_rest_without_a_jerk():
    rig = Rig()
    rig.episode()
    rig.tick()
    rig.chunk(0.012, 0, 0, 0, 0, 0, 0.5, rows=6)
    targets = [command.target.position for command in rig.run(20)]
    steps = np.diff(targets, axis=0)[:, 0]
    assert steps.max() == pytest.approx(0.012)
    assert np.abs(np.diff(steps)).max() <= 0.006 + 1e-9
    assert np.allclose(steps[-10:], 0.0)


def test_the_ladder_names_its_reason_all_the_way_down():
    rig = following(rows=4)
    commands = rig.run(50)
    modes = [command.mode for command in commands]
    assert modes == sorted(modes)
    assert set(modes) == {Mode.FOLLOW, Mode.HOLD, Mode.DECELERATE, Mode.STOP}
    assert commands[-1].reason is Reason.CHUNK_EXHAUSTED and "4 rows" in commands[-1].reason_text
    before_the_first_chunk = 1
    assert rig.loop.statistics.starved == before_the_first_chunk + sum(mode is not Mode.FOLLOW for mode in modes)


def test_an_old_observation_is_not_followed_however_long_its_chunk():
    commands = following(rows=100).run(30)
    stale = [command for command in commands if command.mode is not Mode.FOLLOW]
    assert stale[0].reason is Reason.CHUNK_TOO_OLD and "ms old" in stale[0].reason_text
    assert max(c.observation_age_ms for c in commands if c.mode is Mode.FOLLOW) <= 600.0


def test_the_gripper_keeps_its_opening_whenever_nothing_is_followed():
    rig = Rig()
    rig.episode()
    rig.tick()
    rig.chunk(0, 0, 0, 0, 0, 0, 0.25, rows=3)
    rig.run(3)
    rig.width = 0.05
    widths = {round(command.target.gripper_width, 6) for command in rig.run(50)}
    rig.episode(running=False)
    widths |= {round(command.target.gripper_width, 6) for command in rig.run(5)}
    rig.loop.emergency_stop("test", rig.steady)
    widths |= {round(command.target.gripper_width, 6) for command in rig.run(20)}
    assert widths == {0.02}


def test_deceleration_lets_go_of_what_the_arm_presses_against():
    rig = Rig()
    rig.follows = False
    rig.episode()
    rig.tick()
    rig.chunk(0.012, 0, 0, 0, 0, 0.06, 0.5)
    pressed = rig.run(15)[-1]
    assert np.linalg.norm(pressed.target.position - rig.position) == pytest.approx(0.04)
    commands = rig.run(60)
    assert commands[-1].mode is Mode.STOP
    assert np.allclose(commands[-1].target.position, rig.position, atol=1e-6)
    assert np.allclose(np.abs(commands[-1].target.orientation), [1, 0, 0, 0], atol=1e-6)


def test_a_stop_is_left_only_with_a_fresh_chunk_and_state():
    rig = following(rows=2)
    assert rig.run(50)[-1].mode is Mode.STOP
    rig.run(5)
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_losing_the_robot_state_stops_the_arm_quickly_and_says_why():
    rig = following(rows=16)
    commands = []
    for _ in range(30):
        rig.chunk()
        commands.append(rig.tick(state=False))
    after = [command for command in commands if command.mode is not Mode.FOLLOW]
    assert after[0].mode is Mode.DECELERATE and after[0].reason is Reason.STATE_TOO_OLD
    assert after[-1].mode is Mode.STOP and "ms old" in after[-1].reason_text
    assert np.allclose(np.diff([command.target.position for command in after[4:]], axis=0), 0.0)
    rig.state()
    assert rig.tick().mode is Mode.FOLLOW, "the chunk and the state are both newer than the stop"


def test_a_stale_chunk_does_not_end_a_stop():
    rig = following(rows=16)
    for _ in range(30):
        rig.tick(state=False)
    rig.chunk(age_ms=10)
    stop = rig.tick()
    assert stop.mode is Mode.FOLLOW
    rig.run(60)
    held = rig.tick()
    assert held.mode is Mode.STOP


def test_an_emergency_stop_is_latched_and_named():
    rig = following(rows=16)
    rig.loop.emergency_stop("red button", rig.steady)
    rig.loop.emergency_stop("again", rig.steady)
    for _ in range(20):
        rig.chunk()
        command = rig.tick()
        assert (command.mode, command.reason) == (Mode.EMERGENCY_STOP, Reason.EMERGENCY_STOP)
        assert "red button" in command.reason_text
    assert rig.loop.reset_emergency_stop(rig.steady)
    assert not rig.loop.reset_emergency_stop(rig.steady)


def test_an_episode_that_an_emergency_stop_met_is_not_followed_again_and_the_next_one_is():
    rig = following(rows=16)
    rig.loop.emergency_stop("red button", rig.steady)
    rig.tick()
    rig.loop.reset_emergency_stop(rig.steady)
    for said in (True, False):
        # Whoever runs the episodes may be away, or may not have heard of the stop.
        if said:
            rig.episode()
        rig.chunk()
        command = rig.tick()
        assert (command.mode, command.reason) == (Mode.IDLE, Reason.EPISODE_INACTIVE)
        assert command.reason_text == "episode 1 was ended by an emergency stop; begin another"
    rig.episode(episode_id=2)
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_an_episode_that_is_said_to_run_under_a_latched_stop_is_not_followed_after_it():
    rig = Rig()
    rig.tick()
    rig.loop.emergency_stop("red button", rig.steady)
    rig.episode()
    rig.tick()
    rig.loop.reset_emergency_stop(rig.steady)
    rig.chunk()
    assert rig.tick().mode is Mode.IDLE
    # Over, and begun anew under the same number, by another who counts from one.
    rig.episode(running=False)
    rig.episode()
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_an_emergency_stop_works_without_an_episode():
    rig = Rig()
    rig.tick()
    rig.loop.emergency_stop("test", rig.steady)
    assert rig.tick().mode is Mode.EMERGENCY_STOP
    rig.loop.reset_emergency_stop(rig.steady)
    assert rig.tick().mode is Mode.IDLE


@pytest.mark.parametrize("jump_ms", [-3_600_000, -500, 500, 3_600_000])
def test_after_a_clock_jump_only_what_came_later_counts(jump_ms: int):
    rig = following()
    before = rig.now
    rig.now += jump_ms * MS
    command = rig.tick(state=False)
    assert command.reason is Reason.CLOCK_JUMP and command.mode is Mode.HOLD
    assert f"{jump_ms / 1000:+.3f}" in command.reason_text
    refused = rig.chunk(stamp_ns=before)
    assert refused is not None and refused.refusal in (ChunkRefusal.CLOCK_JUMP, ChunkRefusal.FUTURE)
    rig.state()
    assert rig.tick().reason is Reason.CLOCK_JUMP
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW
    assert rig.loop.clock_jumps == 1


def test_simulated_time_that_starts_again_is_survived():
    rig = Rig()
    rig.now = rig.steady = 60_000 * MS
    rig.episode(remaining_s=30.0)
    rig.tick()
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW
    rig.now = rig.steady = 0
    assert rig.tick(state=False).reason is Reason.CLOCK_JUMP
    rig.tick()
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_a_clock_that_is_set_back_does_not_end_the_episode():
    rig = Rig()
    rig.episode(remaining_s=30.0)
    rig.tick()
    rig.chunk()
    rig.tick()
    rig.now -= 3_600_000 * MS
    assert rig.tick().reason is Reason.CLOCK_JUMP
    rig.chunk()
    assert rig.run(3)[-1].mode is Mode.FOLLOW


def test_a_reset_that_ended_before_simulated_time_starts_again_is_waited_for_no_longer():
    rig = Rig()
    rig.now = rig.steady = 60_000 * MS
    rig.episode(running=False, resetting=True)
    rig.tick()
    rig.episode(episode_id=2)
    rig.now = rig.steady = 0
    rig.run(2)
    rig.follows = False
    rig.chunk(0.002, 0, 0, 0, 0, 0, 0.5)
    start = rig.position.copy()
    assert rig.run(4)[-1].target.position[0] == pytest.approx(start[0] + 0.008), "the target is not put back each tick"


def test_a_state_that_grows_old_long_after_a_clock_jump_is_called_old():
    rig = Rig()
    rig.tick()
    rig.now += 3_600_000 * MS
    rig.tick()
    rig.episode(episode_id=2, stamp_ns=rig.now)
    rig.tick()
    assert rig.run(12, state=False)[-1].reason is Reason.STATE_TOO_OLD


def test_a_new_episode_drops_the_chunks_of_the_one_before():
    rig = following()
    rig.episode(episode_id=2, stamp_ns=rig.now)
    assert rig.tick().reason is Reason.NO_CHUNK
    assert rig.chunk(age_ms=100).refusal is ChunkRefusal.OTHER_EPISODE
    assert rig.chunk() is None
    assert rig.tick().mode is Mode.FOLLOW


def test_a_repeated_status_of_the_same_episode_keeps_the_chunk():
    rig = following()
    rig.episode(stamp_ns=rig.now)
    assert rig.tick().mode is Mode.FOLLOW


def test_an_episode_that_nobody_ends_is_taken_for_ended():
    rig = Rig(LoopSettings(episode_grace_ns=100 * MS))
    rig.episode(remaining_s=0.2)
    rig.tick()
    modes = []
    for _ in range(20):
        rig.chunk()
        modes.append(rig.tick())
    assert modes[8].mode is Mode.FOLLOW
    assert modes[-1].mode is Mode.IDLE and "past its limit" in modes[-1].reason_text
    rig.episode(remaining_s=float("nan"))
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_while_the_robot_is_put_into_its_start_the_target_goes_with_it():
    rig = following()
    rig.episode(running=False, resetting=True)
    rig.position, rig.width = np.array([0.45, 0.1, 0.35]), 0.06
    command = rig.tick()
    assert command.mode is Mode.IDLE
    assert np.allclose(command.target.position, [0.45, 0.1, 0.35])
    assert command.target.gripper_width == pytest.approx(0.06)
    rig.width, rig.effort = 0.03, 20.0
    assert rig.tick().target.gripper_width == pytest.approx(0.06), "a gripper that squeezes keeps what it holds"


def test_a_start_that_is_seen_only_after_the_reset_has_ended_is_where_the_target_begins():
    rig = Rig()
    rig.follows = False
    rig.episode()
    rig.chunk()
    rig.run(3)
    rig.episode(running=False, resetting=True)
    rig.tick(state=False)
    rig.episode(episode_id=2)
    rig.position = rig.position + np.array([0.06, 0.0, 0.0])  # less than what counts as moved by others
    command = rig.tick()
    np.testing.assert_allclose(command.target.position, rig.position, atol=1e-9)
    rig.chunk()
    assert np.linalg.norm(rig.tick().target.position - rig.position) > 1e-3


def test_a_robot_that_was_moved_does_not_run_back():
    rig = following()
    rig.follows = False
    rig.position = np.array([0.35, 0.2, 0.4])
    first, second = rig.run(2)
    assert first.mode is Mode.FOLLOW
    assert second.mode is Mode.HOLD and np.allclose(second.target.position, rig.position)
    assert rig.chunk(age_ms=200).refusal is ChunkRefusal.DISPLACED
    assert rig.loop.anchors == 2


def test_a_single_wild_state_does_not_move_the_target():
    rig = following(rows=2)
    rig.run(5)
    assert rig.state(position=np.array([0.3, 0.3, 0.5])) is StateRefusal.UNCONFIRMED
    before, after = rig.run(2)
    assert np.allclose(before.target.position, after.target.position)


def test_a_correction_shapes_the_rest_of_its_chunk():
    rig = Rig()
    rig.episode()
    rig.tick()
    rig.chunk()
    stamp, actions = rig.now, np.zeros((16, 7), dtype=np.float32)
    assert rig.loop.offer_correction(Correction(stamp, CorrectionMode.BLEND, 1.0, actions), rig.now, rig.steady) is None
    command = rig.tick()
    assert command.action[0] == pytest.approx(0.0028) and command.provenance.correction is CorrectionMode.BLEND


def test_a_request_of_the_memory_to_hold_is_named_with_its_cases():
    rig = following()
    held = Correction(rig.loop.queue.held.chunk.stamp_ns, CorrectionMode.HOLD, 1.0, case_ids=(4, 5))
    rig.loop.arbiter.settings = dataclasses.replace(rig.loop.arbiter.settings, budget_ns=100 * MS)
    rig.loop.offer_correction(held, rig.now, rig.steady)
    command = rig.tick()
    assert (command.mode, command.reason) == (Mode.HOLD, Reason.MEMORY_HOLD)
    assert "4, 5" in command.reason_text and command.provenance.case_ids == (4, 5)
    assert rig.loop.statistics.starved == 1, "the first tick had no chunk yet; a hold is no want of one"


def test_an_invalid_chunk_leaves_the_one_followed_and_is_named_when_that_ends():
    rig = following(rows=3)
    assert rig.chunk(np.nan, 0, 0, 0, 0, 0, 0).refusal is ChunkRefusal.INVALID
    assert rig.tick().mode is Mode.FOLLOW
    command = rig.run(3)[-1]
    assert command.reason is Reason.INVALID_ACTION and "nan" in command.reason_text
    rig.loop.refuse_chunk("chunk 9 has 3 numbers")
    assert "chunk 9" in rig.tick().reason_text


def test_an_internal_error_still_gives_a_finite_command_and_stops(monkeypatch):
    rig = following()
    before = rig.tick()

    def broken(*_arguments):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(rig.loop._integrator, "advance", broken)
    command = rig.tick()
    assert (command.mode, command.reason) == (Mode.STOP, Reason.INVALID_ACTION)
    assert "unforeseen" in command.reason_text and rig.loop.internal_errors == 1
    assert np.allclose(command.target.position, before.target.position)
    monkeypatch.undo()
    rig.state()
    rig.chunk()
    assert rig.tick().mode is Mode.FOLLOW


def test_an_internal_error_while_the_emergency_stop_is_latched_is_told_as_that(monkeypatch):
    rig = following()
    rig.tick()
    rig.loop.emergency_stop("asked for", rig.steady)

    def broken(*_arguments):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(rig.loop, "_anchor", broken)
    command = rig.tick()
    assert command.mode is Mode.EMERGENCY_STOP and "unforeseen" in command.reason_text
    monkeypatch.undo()
    rig.chunk()
    assert rig.tick().mode is Mode.EMERGENCY_STOP


def test_settings_change_while_the_loop_runs():
    rig = following(rows=16)
    limits = dataclasses.replace(rig.loop.settings.limits, translation=0.001)
    rig.loop.configure(dataclasses.replace(rig.loop.settings, limits=limits, max_observation_age_ns=200 * MS))
    commands = rig.run(10)
    assert abs(commands[3].action[0]) <= 0.001 + 1e-9
    assert commands[-1].reason is Reason.CHUNK_TOO_OLD


def test_stages_are_measured_once_for_each_chunk():
    rig = Rig()
    rig.episode()
    rig.tick()
    rig.chunk(age_ms=60)
    rig.run(3)
    stages = dict(rig.loop.statistics.figures().stages)
    assert {name: stage.count for name, stage in stages.items()} == {
        "capture_to_chunk": 1,
        "chunk_to_command": 1,
        "capture_to_command": 1,
    }
    assert stages["capture_to_command"].p50 == pytest.approx(60 + TICK_NS / MS)
    assert rig.loop.mode is Mode.FOLLOW and rig.loop.episode.episode_id == 1
