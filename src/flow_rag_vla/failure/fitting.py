# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Fits scores to success episodes: the feature space, the banks of success frames, the distilled network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.failure.scores import Bank, Distillation, FeatureSpace, goal_marks
from flow_rag_vla.failure.trace import Trace

Array = NDArray[np.float32]

DIRECTIONS = 24
"""Main directions of the embedding that are kept."""

PROPRIOCEPTION_WEIGHT = 1.5
"""Of proprioception (which spans about one) beside embedding directions of unit variance."""

BANK_ROWS = 600
"""Success frames kept for each goal."""

RANDOM_FEATURES = 192
TARGET_HIDDEN, TARGET_OUT = 64, 16
RIDGE = 1e-2


def fit_space(traces: Sequence[Trace]) -> FeatureSpace:
    """Main directions of the embeddings of success episodes, each of unit variance."""
    seen = np.stack([frame.embedding for trace in traces for frame in trace.frames]).astype(np.float64)
    mean = seen.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(seen - mean, rowvar=False))
    order = np.argsort(values)[::-1][:DIRECTIONS]
    kept = [index for index in order if values[index] > 1e-9 * values[order[0]]]
    directions = vectors[:, kept] / np.sqrt(values[kept])
    return FeatureSpace(mean.astype(np.float32), directions.astype(np.float32), PROPRIOCEPTION_WEIGHT)


def fit_banks(space: FeatureSpace, traces: Sequence[Trace], rng: np.random.Generator) -> dict[int, Bank]:
    """The success frames of each goal by its index, at most ``BANK_ROWS`` of them; -1 holds goals that are unknown."""
    points: dict[int, list[Array]] = {}
    remaining: dict[int, list[float]] = {}
    for trace in traces:
        for frame in trace.frames:
            index = -1 if frame.goal is None else frame.goal.index
            points.setdefault(index, []).append(space.point(frame))
            remaining.setdefault(index, []).append(trace.info.duration - frame.elapsed)
    banks = {}
    for index, rows in points.items():
        chosen = np.sort(rng.permutation(len(rows))[:BANK_ROWS])
        left = np.array(remaining[index], dtype=np.float32)
        banks[index] = Bank.of(np.stack(rows)[chosen], left[chosen])
    return banks


def fit_distillation(space: FeatureSpace, traces: Sequence[Trace], rng: np.random.Generator) -> Distillation:
    """Draw a random network and fit random Fourier features to it on success frames, by ridge regression."""
    frames = [frame for trace in traces for frame in trace.frames]
    points = np.stack([np.concatenate([space.point(frame), goal_marks(frame)]) for frame in frames])
    size = points.shape[1]
    target_weight = rng.normal(size=(size, TARGET_HIDDEN)) / np.sqrt(size) * 2.0
    target_out = rng.normal(size=(TARGET_HIDDEN, TARGET_OUT)) / np.sqrt(TARGET_HIDDEN)
    # Length scale: the median distance between success frames, as is usual for Fourier features.
    pairs = points[rng.integers(len(points), size=(500, 2))]
    scale = float(np.median(np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)))
    learner_weight = rng.normal(size=(size, RANDOM_FEATURES)) / max(scale, 1e-6) * 2.0
    learner_bias = rng.uniform(0.0, 2.0 * np.pi, RANDOM_FEATURES)
    features = np.cos(points @ learner_weight + learner_bias)
    wanted = np.tanh(points @ target_weight) @ target_out
    gram = features.T @ features + RIDGE * len(points) * 0.01 * np.eye(RANDOM_FEATURES)
    learner_out = np.linalg.solve(gram, features.T @ wanted)
    parts = (target_weight, target_out, learner_weight, learner_bias, learner_out)
    return Distillation(*(part.astype(np.float32) for part in parts))


def known_goals(traces: Sequence[Trace]) -> tuple[str, ...]:
    """Instructions of the goals that traces hold."""
    found = {frame.goal.index for trace in traces for frame in trace.frames if frame.goal is not None}
    return tuple(GOALS[index].instruction for index in sorted(found))
