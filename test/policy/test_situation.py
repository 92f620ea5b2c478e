# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.policy.checkpoint import PolicyConfig, save_checkpoint
from flow_rag_vla.policy.network import CONDITION_DIM, PolicyNetwork
from flow_rag_vla.policy.observation import PROPRIOCEPTION_DIM, READING_DIM
from flow_rag_vla.policy.situation import (
    DIMENSION,
    FEATURES,
    WIDTH,
    SituationKey,
    SituationKeyError,
    orthogonal_frequencies,
)

MakeNetwork = Callable[..., tuple[PolicyNetwork, PolicyConfig]]


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_network: MakeNetwork) -> Path:
    network, config = tiny_network()
    save_checkpoint(network, config, tmp_path / "policy")
    return tmp_path / "policy"


@pytest.fixture
def felt() -> np.ndarray:
    return np.random.default_rng(5).normal(0.0, 0.3, PROPRIOCEPTION_DIM).astype(np.float32)


def test_it_reads_what_the_policys_own_readout_reads(
    checkpoint: Path, tiny_network: MakeNetwork, embedding: np.ndarray, felt: np.ndarray
) -> None:
    network, _ = tiny_network()
    with torch.inference_mode():
        expected = network.readout(torch.from_numpy(embedding)[None], torch.from_numpy(felt)[None])[0].numpy()
    np.testing.assert_allclose(SituationKey.load(checkpoint)._read(embedding, felt), expected, atol=1e-5)


def test_a_key_is_a_unit_vector_and_the_same_every_time(
    checkpoint: Path, embedding: np.ndarray, felt: np.ndarray
) -> None:
    one, other = SituationKey.load(checkpoint), SituationKey.load(checkpoint)
    key = one(embedding, felt, GOALS[0])
    assert key.shape == (DIMENSION,)
    assert key.dtype == np.float32
    assert np.linalg.norm(key) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(key, other(embedding, felt, GOALS[0]))


@given(st.integers(0, 10_000), st.floats(0.0, 1.2))
@settings(max_examples=40, deadline=None)
def test_the_cosine_of_two_keys_is_a_gaussian_kernel_of_their_distance(seed: int, distance: float) -> None:
    rng = np.random.default_rng(seed)
    frequencies = orthogonal_frequencies(27, DIMENSION // 2, np.random.default_rng(1)) / WIDTH
    first = rng.normal(size=27)
    step = rng.normal(size=27)
    second = first + step / np.linalg.norm(step) * distance
    cosine = float(np.mean(np.cos(frequencies @ (first - second))))
    # The estimate's deviation is at most (1 - k^2) / sqrt(count); four of them.
    kernel = np.exp(-0.5 * (distance / WIDTH) ** 2)
    assert cosine == pytest.approx(kernel, abs=4.0 * (1.0 - kernel**2) / np.sqrt(DIMENSION // 2) + 1e-6)


@pytest.mark.parametrize("goal", range(len(GOALS)))
def test_what_is_compared_is_what_the_velocity_network_is_conditioned_on(goal: int, tiny_network: MakeNetwork) -> None:
    rng = np.random.default_rng(goal)
    network, _ = tiny_network()
    reading, felt = (rng.normal(0.0, 0.2, size).astype(np.float32) for size in (READING_DIM, PROPRIOCEPTION_DIM))
    mean, std = (rng.uniform(0.03, 2.0, CONDITION_DIM).astype(np.float32) for _ in range(2))
    goals = torch.tensor([goal])
    with torch.no_grad():
        network.feature_mean.copy_(torch.from_numpy(mean))
        network.feature_std.copy_(torch.from_numpy(std))
        needed = network.needed(torch.from_numpy(reading)[None], goals)
        expected = network.condition(needed, torch.from_numpy(felt)[None], goals)[0].numpy()
    layers = [(np.ones((READING_DIM, 40), np.float32), np.zeros(READING_DIM, np.float32))]
    found = SituationKey(layers, mean, std, "e1").features(reading, felt, goal)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_another_goal_makes_two_situations_less_alike_and_not_strangers(
    checkpoint: Path, embedding: np.ndarray, felt: np.ndarray
) -> None:
    key = SituationKey.load(checkpoint)
    # Of the same things: what is known of one target helps with another, as it does in the policy.
    one = np.zeros(READING_DIM, dtype=np.float32)
    apart = key.features(one, felt, 0) - key.features(one, felt, 1)
    assert np.exp(-0.5 * float(apart @ apart) / WIDTH**2) == pytest.approx(np.exp(-1.0 / WIDTH**2))
    assert float(key(embedding, felt, GOALS[0]) @ key(embedding, felt, GOALS[1])) < 0.95


def test_a_step_near_the_target_counts_for_more_than_the_same_step_far_from_it(checkpoint: Path) -> None:
    key = SituationKey.load(checkpoint)
    near, far = np.zeros(READING_DIM, dtype=np.float32), np.zeros(READING_DIM, dtype=np.float32)
    felt = np.zeros(PROPRIOCEPTION_DIM, dtype=np.float32)
    far[0] = 0.3  # the first goal's target is the first entity
    moved_near, moved_far = near.copy(), far.copy()
    moved_near[0] += 0.01
    moved_far[0] += 0.01

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.linalg.norm(key.features(one, felt, 0) - key.features(other, felt, 0)))

    assert apart(near, moved_near) > 2.0 * apart(far, moved_far)


def test_features_of_another_version_are_refused() -> None:
    layers = [(np.ones((READING_DIM, 40), np.float32), np.zeros(READING_DIM, np.float32))]
    right = np.ones(FEATURES, np.float32)
    for mean, std in ((right[:-1], right), (right, right[:-1]), (right, 0.0 * right)):
        with pytest.raises(SituationKeyError, match=rf"expected \({FEATURES},\).*use a policy of this version"):
            SituationKey(layers, mean, std, "e1")


def test_the_revision_follows_the_readout_and_not_the_velocity_network(
    tmp_path: Path, tiny_network: MakeNetwork, checkpoint: Path
) -> None:
    before = SituationKey.load(checkpoint).revision
    network, config = tiny_network()
    with torch.no_grad():
        next(network.velocity.parameters()).add_(1.0)
    save_checkpoint(network, config, tmp_path / "tuned")
    assert SituationKey.load(tmp_path / "tuned").revision == before
    for part in (next(network.readout.parameters()), network.feature_mean):
        with torch.no_grad():
            part.add_(1.0)
        save_checkpoint(network, config, tmp_path / "other")
        assert SituationKey.load(tmp_path / "other").revision != before
        with torch.no_grad():
            part.sub_(1.0)


def test_values_that_make_no_key_are_refused(checkpoint: Path, embedding: np.ndarray, felt: np.ndarray) -> None:
    key = SituationKey.load(checkpoint)
    with pytest.raises(SituationKeyError, match=r"\(3,\).*use the encoder"):
        key(embedding[:3], felt, GOALS[0])
    felt[2] = np.nan
    with pytest.raises(SituationKeyError, match="not finite"):
        key(embedding, felt, GOALS[0])


def test_a_folder_without_a_policy_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(SituationKeyError, match="flow_rag_vla train"):
        SituationKey.load(tmp_path / "nothing")
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoint, damaged)
    (damaged / "policy.safetensors").write_bytes(b"no weights")
    with pytest.raises(SituationKeyError, match="damaged"):
        SituationKey.load(damaged)
