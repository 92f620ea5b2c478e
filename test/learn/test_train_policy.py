# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.learn.samples import ChunkSamples
from flow_rag_vla.learn.train_policy import PolicyTraining, train_policy
from flow_rag_vla.policy.observation import ENTITIES, ENTITY_DIM, PROPRIOCEPTION_DIM, READING_DIM, goal_entities
from flow_rag_vla.policy.readout import Readout, ReadoutConfig
from flow_rag_vla.policy.sampler import draw

TINY = PolicyTraining(iterations=200, batch=64, width=32, blocks=1, learning_rate=4e-3, place_noise_share=0.0)


class CopyingReadout(Readout):
    """Reads an embedding that is the reading itself."""

    def forward(self, embedding: torch.Tensor, proprioception: torch.Tensor) -> torch.Tensor:
        return embedding


def move_to_target(count: int = 800) -> ChunkSamples:
    """Situations in which the demonstrated step along x is the sign of where the goal's target is."""
    rng = np.random.default_rng(0)
    goal = rng.integers(len(GOALS), size=count)
    reading = rng.uniform(-0.2, 0.2, (count, READING_DIM)).astype(np.float32)
    targets = np.array([goal_entities(GOALS[index]).target for index in goal])
    x = reading.reshape(count, len(ENTITIES), ENTITY_DIM)[np.arange(count), targets, 0]
    chunks = np.zeros((count, 4, 5), dtype=np.float32)
    chunks[..., 0] = np.sign(x)[:, None]
    felt = np.zeros((count, PROPRIOCEPTION_DIM), dtype=np.float32)
    return ChunkSamples(reading, felt, goal.astype(np.int64), chunks, reading)


@pytest.fixture(scope="module")
def samples() -> ChunkSamples:
    return move_to_target()


@pytest.fixture(scope="module")
def readout() -> Readout:
    return CopyingReadout(ReadoutConfig(READING_DIM, width=4)).requires_grad_(False)


def agreement(network, samples: ChunkSamples) -> float:
    felt, goal = torch.from_numpy(samples.proprioception), torch.from_numpy(samples.goal)
    with torch.inference_mode():
        place = torch.from_numpy(samples.reading).gather(1, network.columns[goal])
        condition = network.condition(place, felt, goal)
        right = 0
        for row in range(60):
            drawn = draw(
                lambda x, t, row=row: network.velocity(x, t, condition[row : row + 1].expand(x.shape[0], -1)),
                (4, 5), torch.Generator().manual_seed(row), samples=4, steps=4,
            )  # fmt: skip
            right += int(torch.sign(drawn.chosen[:, 0].mean()) == samples.chunks[row, 0, 0])
    return right / 60


def test_training_learns_what_was_demonstrated(samples, readout, monkeypatch) -> None:
    monkeypatch.setattr("flow_rag_vla.policy.network.Readout", CopyingReadout)
    network = train_policy(samples, readout, TINY)
    assert agreement(network, samples) > 0.85


def test_the_same_seed_trains_the_same_network_and_the_readout_stays(samples, readout) -> None:
    settings = PolicyTraining(iterations=3, batch=16, width=16, blocks=1)
    plain = Readout(ReadoutConfig(READING_DIM, width=4))
    runs = [train_policy(samples, plain, settings) for _ in range(2)]
    for key, value in runs[0].state_dict().items():
        assert torch.equal(value, runs[1].state_dict()[key])
    for key, value in plain.state_dict().items():
        assert torch.equal(value, runs[0].readout.state_dict()[key])


def test_training_goes_on_from_a_network_without_changing_it(samples) -> None:
    settings = PolicyTraining(iterations=3, batch=16, width=16, blocks=1)
    plain = Readout(ReadoutConfig(READING_DIM, width=4))
    first = train_policy(samples, plain, settings)
    kept = {key: value.clone() for key, value in first.state_dict().items()}
    second = train_policy(samples, plain, settings, start=first)
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in kept.items())
    assert torch.equal(first.feature_mean, second.feature_mean)
    assert not torch.equal(first.velocity.enter.weight, second.velocity.enter.weight)
