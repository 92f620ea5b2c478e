# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.policy.checkpoint import CheckpointError
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed


class FixedEncoder:
    """Gives one embedding whatever it sees."""

    name, revision, cameras = "tiny", "abc", ("front", "wrist")

    def __init__(self, vector: np.ndarray) -> None:
        self._vector = vector
        self.dimension = len(vector)

    def encode(self, images) -> np.ndarray:
        return self._vector

    def encode_batch(self, images) -> np.ndarray:
        return self._vector[None]


@pytest.fixture
def encoder(embedding):
    return FixedEncoder(embedding)


def test_a_chunk_acts_only_after_its_delay(policy, encoder, state) -> None:
    follower = ChunkFollower(policy, encoder, GOALS[0], seed=1, delay_ticks=3)
    chunk = follower.observe(0, {}, state)
    early = [follower.action(tick, state) for tick in range(3)]
    assert not np.array(early)[:, :6].any()
    assert follower.starved_ticks == 3
    assert np.array_equal(follower.action(3, state), chunk.actions[3])
    assert follower.starved_ticks == 3


def test_each_tick_runs_the_row_of_its_distance_from_the_picture(policy, encoder, state) -> None:
    follower = ChunkFollower(policy, encoder, GOALS[0], seed=1, delay_ticks=2)
    chunks = {}
    for tick in range(20):
        if tick % 4 == 0:
            chunks[tick] = follower.observe(tick, {}, state)
        if tick >= 2:
            made = max(start for start in chunks if start + 2 <= tick)
            assert np.array_equal(follower.action(tick, state), chunks[made].actions[tick - made])
    assert follower.chunks == 5


def test_rows_that_ran_before_a_chunk_arrived_are_the_chunks_before(policy, encoder, state) -> None:
    follower = ChunkFollower(policy, encoder, GOALS[0], seed=1, delay_ticks=3)
    first, second = follower.observe(0, {}, state), follower.observe(4, {}, state)
    assert second.committed == 3
    assert np.array_equal(second.actions[:3], first.actions[4:7])
    assert second.stamp_ns == 4 * TICK_NS


def test_without_rows_the_robot_stands_still_with_its_gripper_as_it_was(policy, encoder, state) -> None:
    follower = ChunkFollower(policy, encoder, GOALS[0], seed=1, delay_ticks=0)
    chunk = follower.observe(0, {}, state)
    for tick in range(chunk.horizon):
        follower.action(tick, state)
    action = follower.action(chunk.horizon, state)
    assert not action[:6].any()
    assert action[6] == chunk.actions[-1, 6]


def test_the_failure_memory_is_asked_at_each_picture(policy, encoder, state) -> None:
    asked = []

    def corrector(embedding, state, goal, stamp_ns):
        asked.append((goal, stamp_ns))
        return Correction(stamp_ns)

    follower = ChunkFollower(policy, encoder, GOALS[1], seed=1, corrector=corrector)
    for tick in (0, 4):
        follower.observe(tick, {}, state)
    assert asked == [(GOALS[1], 0), (GOALS[1], 4 * TICK_NS)]


def test_the_wrong_encoder_and_a_negative_delay_are_refused(policy, encoder, embedding) -> None:
    other = FixedEncoder(embedding)
    other.revision = "zzz"
    with pytest.raises(CheckpointError, match="zzz"):
        ChunkFollower(policy, other, GOALS[0], seed=0)
    with pytest.raises(ValueError, match="delay_ticks is -1"):
        ChunkFollower(policy, encoder, GOALS[0], seed=0, delay_ticks=-1)


def test_each_picture_has_noise_of_its_own() -> None:
    seeds = {noise_seed(base, tick) for base in range(20) for tick in range(20)}
    assert len(seeds) == 400


def test_a_shifted_follower_makes_the_policy_see_things_elsewhere(policy, encoder, embedding, state) -> None:
    shift = np.outer([1.0, 0.0, 0.0], [0.02, 0.0, 0.0])
    chunk = ChunkFollower(policy, encoder, GOALS[0], seed=1, shift=shift).observe(0, {}, state)
    plain = ChunkFollower(policy, encoder, GOALS[0], seed=1).observe(0, {}, state)
    alone = policy.act(embedding, state, GOALS[0], seed=noise_seed(1, 0), stamp_ns=0, shift=shift)
    assert np.array_equal(chunk.actions, alone.actions)
    assert not np.array_equal(chunk.actions, plain.actions)
