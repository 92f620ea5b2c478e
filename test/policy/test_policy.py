# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.observation import SITUATION_COLUMNS, proprioception
from flow_rag_vla.policy.policy import FlowPolicy

GOAL = GOALS[0]
DIMENSION = 12


def act(policy: FlowPolicy, embedding: np.ndarray, state: RobotState, **more) -> ActionChunk:
    return policy.act(embedding, state, more.pop("goal", GOAL), seed=more.pop("seed", 7), **more)


def test_the_same_arguments_give_the_same_chunk_bit_for_bit(policy, embedding, state) -> None:
    first, second = act(policy, embedding, state), act(policy, embedding, state)
    assert first.actions.tobytes() == second.actions.tobytes()
    assert first.chunk_id != second.chunk_id


def test_seed_embedding_state_and_goal_all_matter(policy, embedding, state) -> None:
    base = act(policy, embedding, state).actions
    moved = replace(state, position=state.position + np.array([0.05, 0.0, 0.0]))
    assert not np.array_equal(base, act(policy, embedding, state, seed=8).actions)
    assert not np.array_equal(base, act(policy, -embedding, state).actions)
    assert not np.array_equal(base, act(policy, embedding, moved).actions)
    assert not np.array_equal(base, act(policy, embedding, state, goal=GOALS[4]).actions)


def test_roll_and_pitch_are_zero_and_the_gripper_is_open_or_closed(policy, embedding, state) -> None:
    actions = act(policy, embedding, state).actions
    assert actions.shape == (16, 7) and actions.dtype == np.float32
    assert not actions[:, 3:5].any()
    assert set(np.unique(actions[:, 6])) <= {0.0, 1.0}


def test_a_chunk_carries_its_stamp_task_uncertainty_and_provenance(policy, embedding, state) -> None:
    chunk = act(policy, embedding, state, stamp_ns=123)
    assert chunk.stamp_ns == chunk.provenance.observation_stamp_ns == 123
    assert chunk.task == GOAL.task
    assert chunk.uncertainty is not None and chunk.uncertainty.shape == (16,)
    assert (chunk.provenance.policy_revision, chunk.provenance.noise_seed) == ("r1", 7)
    assert act(policy, embedding, state).stamp_ns == state.stamp_ns


def test_rows_that_run_before_the_chunk_arrives_repeat_the_chunk_before(policy, embedding, state) -> None:
    before = act(policy, embedding, state)
    later = state.stamp_ns + 4 * TICK_NS
    chunk = act(policy, embedding, state, stamp_ns=later, previous=before, delay_ticks=3, seed=99)
    assert chunk.committed == 3
    assert np.array_equal(chunk.actions[:3], before.actions[4:7])


def test_a_chunk_before_that_was_not_finite_does_not_spoil_those_after_it(policy, embedding, state) -> None:
    before = act(policy, embedding, state)
    actions = before.actions.copy()
    actions[9, 2] = np.nan
    later = state.stamp_ns + 4 * TICK_NS
    chunk = act(
        policy, embedding, state, stamp_ns=later, previous=replace(before, actions=actions), delay_ticks=3, seed=99
    )
    assert np.isfinite(chunk.actions).all() and chunk.committed == 0


def test_a_chunk_before_that_has_run_out_binds_nothing(policy, embedding, state) -> None:
    before = act(policy, embedding, state)
    later = state.stamp_ns + 16 * TICK_NS
    chunk = act(policy, embedding, state, stamp_ns=later, previous=before, delay_ticks=3)
    assert chunk.committed == 0
    assert np.array_equal(chunk.actions, act(policy, embedding, state, stamp_ns=later).actions)


def test_a_chunk_from_the_future_is_ignored(policy, embedding, state) -> None:
    ahead = act(policy, embedding, state, stamp_ns=state.stamp_ns + TICK_NS)
    chunk = act(policy, embedding, state, previous=ahead, delay_ticks=3)
    assert chunk.committed == 0


def test_guidance_of_full_strength_draws_the_chunk_to_the_correction(policy, embedding, state) -> None:
    wanted = np.zeros((16, 7), dtype=np.float32)
    wanted[:, 0], wanted[:, 6] = 0.012, 1.0
    correction = Correction(state.stamp_ns, CorrectionMode.GUIDANCE, 1.0, wanted, case_ids=(4, 2))
    plain = act(policy, embedding, state)
    chunk = act(policy, embedding, state, correction=correction)
    distance = [np.abs(item.actions[:, 0] - 0.012).mean() for item in (plain, chunk)]
    assert distance[1] < distance[0]
    assert chunk.provenance.correction == CorrectionMode.GUIDANCE
    assert chunk.provenance.case_ids == (4, 2)
    assert chunk.provenance.correction_strength == 1.0


@pytest.mark.parametrize("mode", [CorrectionMode.GUIDANCE, CorrectionMode.NEGATIVE, CorrectionMode.SHIFT])
def test_a_share_of_the_corrections_strength_acts_as_a_weaker_correction_does_and_none_as_none(
    policy, embedding, state, mode
) -> None:
    wanted = np.full((16, 7), 0.01, dtype=np.float32)
    full = Correction(
        state.stamp_ns, mode, 0.8, wanted, wanted[None], case_ids=(4,), shift=np.array([0.02, 0.0, 0.0], "f4")
    )
    weaker = act(policy, embedding, state, correction=replace(full, strength=0.4))
    plain = act(policy, embedding, state)
    try:
        policy.configure(guidance=0.5)
        half = act(policy, embedding, state, correction=full)
        policy.configure(guidance=0.0)
        none = act(policy, embedding, state, correction=full)
    finally:
        policy.configure()
    assert np.array_equal(half.actions, weaker.actions) and not np.array_equal(half.actions, plain.actions)
    assert half.provenance.correction_strength == pytest.approx(0.4)
    assert np.array_equal(none.actions, plain.actions) and none.provenance.correction == CorrectionMode.NONE
    with pytest.raises(ValueError, match=r"guidance is 1\.5"):
        policy.configure(guidance=1.5)


def test_a_correction_shorter_or_longer_than_the_chunk_is_used(policy, embedding, state) -> None:
    for rows in (1, 5, 40):
        wanted = np.full((rows, 7), 0.01, dtype=np.float32)
        correction = Correction(state.stamp_ns, CorrectionMode.GUIDANCE, 0.7, wanted)
        chunk = act(policy, embedding, state, correction=correction)
        assert chunk.actions.shape == (16, 7)
        assert chunk.provenance.correction == CorrectionMode.GUIDANCE


def test_failed_chunks_are_kept_away_from(policy, embedding, state) -> None:
    failed = act(policy, embedding, state).actions
    correction = Correction(state.stamp_ns, CorrectionMode.NEGATIVE, 1.0, failed_actions=failed[None], case_ids=(1,))
    chunk = act(policy, embedding, state, correction=correction)
    assert not np.array_equal(chunk.actions, failed)
    assert chunk.provenance.correction == CorrectionMode.NEGATIVE


@pytest.mark.parametrize(
    "mode", [CorrectionMode.RESIDUAL, CorrectionMode.BLEND, CorrectionMode.HOLD, CorrectionMode.NONE]
)
def test_what_the_controller_corrects_is_left_to_it(policy, embedding, state, mode) -> None:
    wanted = np.full((16, 7), 0.01, dtype=np.float32)
    chunk = act(policy, embedding, state, correction=Correction(state.stamp_ns, mode, 1.0, wanted, case_ids=(1,)))
    assert np.array_equal(chunk.actions, act(policy, embedding, state).actions)
    assert chunk.provenance.correction == CorrectionMode.NONE
    assert chunk.provenance.case_ids == ()


def test_a_shift_that_the_memory_asks_for_moves_the_target_and_is_named(policy, embedding, state) -> None:
    told = Correction(
        state.stamp_ns, CorrectionMode.SHIFT, 1.0, case_ids=(4,), shift=np.array([0.02, -0.01, 0.0], "f4")
    )
    chunk = act(policy, embedding, state, correction=told)
    rows = np.array([[0.02, -0.01, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert np.array_equal(chunk.actions, act(policy, embedding, state, shift=rows).actions)
    assert not np.array_equal(chunk.actions, act(policy, embedding, state).actions)
    assert (chunk.provenance.correction, chunk.provenance.case_ids) == (CorrectionMode.SHIFT, (4,))


def test_a_memory_that_did_not_answer_in_time_is_named(policy, embedding, state) -> None:
    chunk = act(policy, embedding, state, correction=Correction(state.stamp_ns, CorrectionMode.TIMEOUT))
    assert chunk.provenance.correction == CorrectionMode.TIMEOUT


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_a_correction_without_strength_or_with_broken_numbers_changes_nothing(
    policy, embedding, state, strength
) -> None:
    wanted = np.full((16, 7), 0.01, dtype=np.float32)
    for correction in (
        Correction(state.stamp_ns, CorrectionMode.GUIDANCE, strength, wanted),
        Correction(state.stamp_ns, CorrectionMode.GUIDANCE, 1.0, np.full((16, 7), np.nan, dtype=np.float32)),
        Correction(state.stamp_ns, CorrectionMode.GUIDANCE, 1.0, None),
        Correction(state.stamp_ns, CorrectionMode.NEGATIVE, 1.0, failed_actions=np.full((1, 16, 7), np.inf, "f4")),
        Correction(state.stamp_ns, CorrectionMode.SHIFT, strength, shift=np.array([0.01, 0.0, 0.0], "f4")),
        Correction(state.stamp_ns, CorrectionMode.SHIFT, 1.0, shift=np.array([np.nan, 0.0, 0.0], "f4")),
        Correction(state.stamp_ns, CorrectionMode.SHIFT, 1.0, shift=np.array([0.2, 0.0, 0.0], "f4")),
        Correction(state.stamp_ns, CorrectionMode.SHIFT, 1.0),
    ):
        chunk = act(policy, embedding, state, correction=correction)
        assert np.array_equal(chunk.actions, act(policy, embedding, state).actions)
        assert chunk.provenance.correction == CorrectionMode.NONE


def test_malformed_observations_are_refused_by_value(policy, embedding, state) -> None:
    with pytest.raises(ValueError, match=rf"\(3,\).*\({DIMENSION},\)"):
        act(policy, np.ones(3, dtype=np.float32), state)
    with pytest.raises(ValueError, match="length 2"):
        act(policy, 2 * embedding, state)
    with pytest.raises(ValueError, match="length nan"):
        act(policy, np.full(DIMENSION, np.nan, dtype=np.float32), state)
    with pytest.raises(ValueError, match="not finite"):
        act(policy, embedding, replace(state, position=np.array([np.nan, 0, 0])))
    with pytest.raises(ValueError, match="push/red_cube is not known"):
        act(policy, embedding, state, goal=Goal("push", "red_cube"))


def test_settings_of_the_sampler_are_checked_and_used(policy, embedding, state) -> None:
    base = act(policy, embedding, state).actions
    policy.configure(solver="heun", steps=3, samples=1)
    assert not np.array_equal(base, act(policy, embedding, state).actions)
    for bad in ({"solver": "rk4"}, {"steps": 0}, {"samples": 0}):
        with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
            policy.configure(**bad)


def test_another_horizon_than_the_default_works(tiny_network, embedding, state) -> None:
    network, config = tiny_network(horizon=8)
    policy = FlowPolicy(network, config, revision="r")
    assert policy.horizon == 8
    assert act(policy, embedding, state).actions.shape == (8, 7)


def test_a_shift_of_nothing_changes_nothing_and_one_of_any_part_does(policy, embedding, state) -> None:
    base = act(policy, embedding, state)
    none = act(policy, embedding, state, shift=np.zeros((3, 3)))
    assert np.allclose(none.actions, base.actions, atol=1e-6)
    chunks = [act(policy, embedding, state, shift=0.03 * np.outer(np.eye(3)[part], np.ones(3))) for part in range(3)]
    different = {chunk.actions.tobytes() for chunk in (base, *chunks)}
    assert len(different) == 4


def test_a_shift_moves_places_relative_to_the_hand_and_leaves_headings_and_fingers(tiny_network) -> None:
    network, _ = tiny_network()
    rng = np.random.default_rng(0)
    seen = torch.from_numpy(rng.normal(size=(2, DIMENSION)).astype(np.float32))
    felt = torch.from_numpy(rng.normal(size=(2, 9)).astype(np.float32))
    situation = network.situation(seen, felt, torch.tensor([0, 3]))
    shift = torch.tensor([[0.01, 0.02, 0.03], [0.0, 0.0, -0.04], [0.005, 0.0, 0.01]])
    moved, believed = network.shifted(situation, felt, shift)
    expected = torch.tensor([0.005, 0.02, 0.02, 0.0, 0.0, -0.005, 0.0, -0.05, 0.0, 0.0])
    torch.testing.assert_close(moved - situation, expected.expand(2, -1), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(believed[:, :3] - felt[:, :3], shift[2].expand(2, -1), rtol=0.0, atol=1e-6)
    assert torch.equal(believed[:, 3:8], felt[:, 3:8])


def test_a_shifted_hand_feels_as_one_that_is_there(tiny_network, state) -> None:
    there = replace(state, position=state.position + np.array([0.01, -0.02, 0.03]))
    felt, believed = (torch.from_numpy(proprioception(one))[None] for one in (state, there))
    shift = torch.zeros(3, 3)
    shift[2] = torch.tensor([0.01, -0.02, 0.03])
    moved = tiny_network()[0].shifted(torch.zeros(1, 10), felt, shift)[1]
    torch.testing.assert_close(moved, believed, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("shift", [np.zeros(3), np.zeros((3, 5)), np.full((3, 3), np.nan)])
def test_a_shift_of_another_shape_or_not_finite_is_refused(policy, embedding, state, shift) -> None:
    with pytest.raises(ValueError, match=r"shift is .* of target, destination and hand"):
        act(policy, embedding, state, shift=shift)


def test_a_reading_is_what_the_readout_says_and_a_wrong_embedding_is_refused(policy, embedding, state) -> None:
    read = policy.reading(embedding, state)
    assert read.shape == (35,) and read.dtype == np.float32
    assert np.array_equal(read, policy.reading(embedding, state))
    assert not np.array_equal(read, policy.reading(-embedding, state))
    with pytest.raises(ValueError, match="embedding has shape"):
        policy.reading(embedding[:-1], state)


def test_what_is_believed_replaces_what_is_read(policy, embedding, state) -> None:
    reading = policy.reading(embedding, state)
    np.testing.assert_allclose(
        act(policy, embedding, state, reading=reading).actions, act(policy, embedding, state).actions, atol=1e-6
    )
    elsewhere = reading.copy()
    elsewhere[SITUATION_COLUMNS[GOALS[0].index][:3]] += 0.05
    assert not np.allclose(
        act(policy, embedding, state, reading=elsewhere).actions, act(policy, embedding, state).actions
    )
    for wrong in (reading[:5], np.full_like(reading, np.nan)):
        with pytest.raises(ValueError, match="reading has shape"):
            act(policy, embedding, state, reading=wrong)
