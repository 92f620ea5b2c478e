# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.learn.fine_tune import fine_tune
from flow_rag_vla.learn.samples import ChunkSamples
from flow_rag_vla.policy.checkpoint import EncoderIdentity, PolicyConfig, load_checkpoint, save_checkpoint
from flow_rag_vla.policy.network import CONDITION_DIM, PolicyNetwork
from flow_rag_vla.policy.observation import PROPRIOCEPTION_DIM, READING_DIM
from flow_rag_vla.policy.readout import ReadoutConfig
from flow_rag_vla.policy.sampler import draw
from flow_rag_vla.policy.velocity import VelocityConfig

DIMENSION = 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    velocity = VelocityConfig(4, 5, CONDITION_DIM, width=32, blocks=1, time_features=8)
    readout = ReadoutConfig(DIMENSION, width=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PolicyNetwork(velocity, readout)
    folder = tmp_path_factory.mktemp("policy")
    save_checkpoint(network, PolicyConfig(EncoderIdentity("tiny", "abc", DIMENSION), velocity, readout), folder)
    return folder


def situations(value: float, goal: int, count: int = 64) -> ChunkSamples:
    rng = np.random.default_rng(goal)
    embedding = rng.normal(size=(count, DIMENSION)).astype(np.float32)
    chunks = np.full((count, 4, 5), value, dtype=np.float32)
    return ChunkSamples(
        embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
        np.zeros((count, PROPRIOCEPTION_DIM), dtype=np.float32),
        np.full(count, goal, dtype=np.int64),
        chunks,
        np.zeros((count, READING_DIM), dtype=np.float32),
    )


def drawn(folder: Path, samples: ChunkSamples) -> float:
    network, _, _ = load_checkpoint(folder)
    felt, goal = torch.from_numpy(samples.proprioception[:1]), torch.from_numpy(samples.goal[:1])
    with torch.inference_mode():
        situation = network.situation(torch.from_numpy(samples.embedding[:1]), felt, goal)
        embedded = network.velocity.embed(network.condition(situation, felt, goal))
        found = draw(
            lambda chunk, time: network.velocity.velocity(chunk, time, embedded.expand(chunk.shape[0], -1)),
            (4, 5), torch.Generator().manual_seed(0), samples=8, steps=6,
        )  # fmt: skip
    return float(found.samples.mean())


def test_the_labels_are_learned_and_what_was_known_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    labels, before = situations(0.8, 0), situations(-0.8, 1)
    revision = fine_tune(checkpoint, labels, before, tmp_path, iterations=300, batch=64, learning_rate=3e-3)
    assert drawn(tmp_path, labels) > 0.5
    assert drawn(tmp_path, before) < -0.5
    assert load_checkpoint(tmp_path)[2] == revision
    assert len(GOALS) > 1


def test_the_same_seed_gives_the_same_weights(checkpoint: Path, tmp_path: Path) -> None:
    labels, before = situations(0.8, 0), situations(-0.8, 1)
    revisions = {fine_tune(checkpoint, labels, before, tmp_path / name, iterations=5, batch=16) for name in ("a", "b")}
    assert len(revisions) == 1


def test_no_labels_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    none = situations(0.0, 0, 1)
    none = replace(
        none, **{name: getattr(none, name)[:0] for name in ("embedding", "proprioception", "goal", "chunks", "reading")}
    )
    with pytest.raises(ValueError, match="no labels"):
        fine_tune(checkpoint, none, situations(0.0, 1), tmp_path)
