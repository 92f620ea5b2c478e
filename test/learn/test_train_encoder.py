# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import torch

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.learn.samples import Frames
from flow_rag_vla.learn.train_encoder import (
    OTHER_WEIGHT,
    EncoderTraining,
    entity_weights,
    readout_errors,
    train_encoder,
    train_readout,
)
from flow_rag_vla.policy.encoders.compact import CompactConfig, CompactEncoder
from flow_rag_vla.policy.observation import ENTITIES, ENTITY_DIM, goal_entities

SMALL = CompactConfig((32, 32), (24, 24), (8, 8, 8), keypoints=8, hidden=32, dimension=24)


def needed_error(readings: np.ndarray, frames: Frames) -> float:
    found, truth = (values.reshape(-1, len(ENTITIES), ENTITY_DIM)[..., :3] for values in (readings, frames.reading))
    return float(np.linalg.norm(found - truth, axis=-1)[frames.present].mean())


def read(network, readout, frames: Frames) -> np.ndarray:
    embeddings = CompactEncoder(network, revision="x").encode_batch(frames.images)
    with torch.inference_mode():
        return readout(torch.from_numpy(embeddings), torch.from_numpy(frames.proprioception)).numpy()


def test_training_makes_the_embedding_tell_where_things_are(dots) -> None:
    seen: list[tuple[int, int, str]] = []
    short, long = (
        train_encoder(
            dots,
            SMALL,
            EncoderTraining(iterations=count, batch=32, learning_rate=5e-3),
            progress=lambda done, total, note="": seen.append((done, total, note)),
        )
        for count in (2, 150)
    )
    before, after = needed_error(read(*short, dots), dots), needed_error(read(*long, dots), dots)
    assert after < 0.6 * before
    assert seen[-1][:2] == (150, 150)


def test_the_same_seed_trains_the_same_network(dots) -> None:
    runs = [train_encoder(dots.take(slice(0, 64)), SMALL, EncoderTraining(iterations=2, batch=16)) for _ in range(2)]
    for left, right in zip(runs[0][0].state_dict().values(), runs[1][0].state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_a_readout_alone_learns_from_embeddings_that_hold_the_answer(dots) -> None:
    answers = np.concatenate([dots.reading, np.ones((len(dots), 2), np.float32)], axis=1)
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    errors = []
    for count in (2, 120):
        readout = train_readout(answers, dots, EncoderTraining(iterations=count))
        with torch.inference_mode():
            found = readout(torch.from_numpy(answers), torch.from_numpy(dots.proprioception)).numpy()
        errors.append(needed_error(found, dots))
    assert errors[1] < 0.5 * errors[0]


def test_what_is_absent_weighs_nothing_and_what_the_goal_needs_most(dots) -> None:
    weights = entity_weights(dots).numpy()
    for row in range(20):
        pair = goal_entities(GOALS[int(dots.goal[row])])
        assert weights[row, pair.target] == weights[row, pair.destination] == 1.0
    assert not weights[~dots.present].any()
    everything = Frames(
        dots.images, dots.proprioception, dots.reading, dots.poses, np.ones_like(dots.present), dots.goal
    )
    assert set(np.unique(entity_weights(everything).numpy())) == {np.float32(OTHER_WEIGHT), np.float32(1.0)}


def test_errors_are_zero_for_the_truth_and_what_was_added_otherwise(dots) -> None:
    exact = readout_errors(dots.reading, dots)
    assert max(exact.position.values()) == 0.0
    shifted = dots.reading.reshape(-1, len(ENTITIES), ENTITY_DIM).copy()
    shifted[..., 0] += 0.003
    found = readout_errors(shifted.reshape(len(dots), -1), dots)
    assert all(abs(value - 0.003) < 1e-6 for value in found.position.values())
    assert set(found.near_position) <= set(found.position)
