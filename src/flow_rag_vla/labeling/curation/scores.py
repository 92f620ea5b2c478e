# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of single objects: how unlike all others one is, and how likely its label is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.curation.neighbours import Neighbours
from flow_rag_vla.labeling.curation.pool import Pool

Scores = NDArray[np.float64]

UNIQUENESS_WEIGHTS = (0.6, 0.3, 0.1)
NEIGHBOURS = 15
"""Whose labels are asked."""
TEMPERATURE = 0.1
"""Of cosines: a neighbour that is 0.1 less similar counts 1 / e of the nearest."""


def uniqueness(neighbours: Neighbours) -> Scores:
    """How unlike all others each object is, (N,), 0 for a copy to 1 for the most unlike.

    The weighted distance to the three nearest others, divided by the greatest in the set: ``_compute_uniqueness`` of
    FiftyOne Brain (fiftyone/brain/internal/core/uniqueness.py; weights 0.6, 0.3, 0.1), with cosine distances. Scores of
    two sets do not compare.
    """
    k = min(neighbours.k, len(UNIQUENESS_WEIGHTS))
    total = len(neighbours.positions)
    if k == 0:
        return np.ones(total)
    distances = np.clip(1.0 - neighbours.similarities[:, :k].astype(np.float64), 0.0, 2.0)
    # float32 cosines of a vector with its copy come out as 1 - 1e-7.
    distances[distances < 1e-6] = 0.0
    weighted = distances @ np.asarray(UNIQUENESS_WEIGHTS[:k])
    most = float(weighted.max(initial=0.0))
    return np.asarray(weighted / most) if most > 0.0 else np.zeros(total)


@dataclass(frozen=True, slots=True)
class Mistakenness:
    """How likely each of N labels is wrong; all (N,), 0 to 1.

    score: the mean of the two below, or the first alone where no model spoke
    neighbours: share of the look-alikes that say otherwise; model: what the model's confidence says; NaN: it is silent
    suggested: N labels: what most look-alikes are
    """

    score: Scores
    neighbours: Scores
    model: Scores
    suggested: tuple[str, ...]


def mistakenness(pool: Pool, neighbours: Neighbours, *, temperature: float = TEMPERATURE) -> Mistakenness:
    """How likely each label of a pool is wrong.

    - By neighbours: 1 minus the share of the k nearest that have the same label (the kNN label vote of SimiFeat, Zhu,
      Dong and Liu 2022, "Detecting Corrupted Labels Without Training a Model to Predict", ICML, arXiv 2110.06283),
      each weighted by exp(cosine / temperature) (Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric
      Instance Discrimination", CVPR, section 3.4).
    - By the model: (1 + m c) / 2 with its confidence c; m is -1 where the label is what it proposed and 1 where
      somebody changed it (``_compute_mistakenness_class_conf`` of FiftyOne Brain,
      fiftyone/brain/internal/core/mistakenness.py).

    Args:
        pool: N objects.
        neighbours: of their vectors.
        temperature: greater counts all k alike.
    """
    by_neighbours, suggested = disagreement(pool.labels, neighbours, temperature=temperature)
    changed = np.fromiter((a != b for a, b in zip(pool.labels, pool.proposed, strict=True)), np.bool_, len(pool))
    model = (1.0 + np.where(changed, 1.0, -1.0) * pool.scores) / 2.0
    score = np.where(np.isnan(model), by_neighbours, (by_neighbours + model) / 2.0)
    return Mistakenness(score, by_neighbours, model, suggested)


def disagreement(
    labels: Sequence[str], neighbours: Neighbours, *, temperature: float = TEMPERATURE
) -> tuple[Scores, tuple[str, ...]]:
    """The share of the neighbours that have another label, (N,), and N labels that most of them have.

    See ``mistakenness``. An object without a neighbour agrees with itself.
    """
    total = len(labels)
    if neighbours.k == 0 or total == 0:
        return np.zeros(total), tuple(labels)
    names = sorted(set(labels))
    codes = np.array([names.index(label) for label in labels], np.int64)
    near = neighbours.similarities.astype(np.float64)
    weights = np.exp((near - near[:, :1]) / temperature)
    weights[neighbours.positions < 0] = 0.0
    votes = np.zeros((total, len(names)))
    rows = np.broadcast_to(np.arange(total)[:, None], weights.shape)
    np.add.at(votes, (rows, codes[neighbours.positions]), weights)
    votes /= np.maximum(votes.sum(axis=1, keepdims=True), 1e-12)
    own = votes[np.arange(total), codes]
    # Of equal votes its own label wins.
    votes[np.arange(total), codes] += 1e-9
    return np.clip(1.0 - own, 0.0, 1.0), tuple(names[code] for code in votes.argmax(axis=1))
