# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.learn.samples import Frames
from flow_rag_vla.policy.observation import ENTITIES, ENTITY_DIM, PROPRIOCEPTION_DIM, goal_entities


def make_dots(count: int, seed: int = 0) -> Frames:
    """Pictures of one bright dot a needed entity: where it is, is where the entity is."""
    rng = np.random.default_rng(seed)
    goal = rng.integers(len(GOALS), size=count)
    front = np.full((count, 32, 32, 3), 20, dtype=np.uint8)
    wrist = np.full((count, 24, 24, 3), 20, dtype=np.uint8)
    reading = np.zeros((count, len(ENTITIES), ENTITY_DIM), dtype=np.float32)
    poses = np.zeros((count, len(ENTITIES), 4), dtype=np.float32)
    present = np.zeros((count, len(ENTITIES)), dtype=np.bool_)
    for row in range(count):
        pair = goal_entities(GOALS[goal[row]])
        for entity, channel in ((pair.target, 0), (pair.destination, 1)):
            x, y = rng.uniform(-0.2, 0.2, 2)
            column, line = round((x + 0.25) * 62), round((y + 0.25) * 62)
            front[row, line - 1 : line + 2, column - 1 : column + 2, channel] = 250
            reading[row, entity, :2] = x, y
            poses[row, entity, :2] = x + 0.475, y
            present[row, entity] = True
    felt = np.zeros((count, PROPRIOCEPTION_DIM), dtype=np.float32)
    return Frames(
        {"front": front, "wrist": wrist}, felt, reading.reshape(count, -1), poses, present, goal.astype(np.int64)
    )


@pytest.fixture(scope="session")
def dots() -> Frames:
    return make_dots(600)
