# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What to label next, on plain arrays: how unsure, how typical, how unlike the known, and the choice by all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.curation.neighbours import nearest_neighbours
from flow_rag_vla.labeling.curation.probe import fit_probe
from flow_rag_vla.labeling.detections import Vectors
from flow_rag_vla.learn.progress import Progress, silent

Shares = NDArray[np.float64]

CREDIT = 30.0
"""Judged objects at which the probe's word counts half."""
TYPICAL_NEIGHBOURS = 20
LEAST_DISTANCE = 0.3
"""Distances below it count as it: a burst of copies is not more typical than a cluster."""


@dataclass(frozen=True, slots=True)
class Choice:
    """K picks in the order in which they should be looked at.

    positions: (K,) int64; novelty: (K,) float64, distance to what was known when each was picked, 0 to 1
    values: (K,) float64, worth times novelty
    """

    positions: NDArray[np.int64]
    novelty: Shares
    values: Shares


def uncertainty(
    vectors: Vectors, judged: NDArray[np.int64], classes: Sequence[str], *, credit: float = CREDIT
) -> Shares:
    """How unsure it is what each object is, (N,), 0 to 1: 1 minus the margin of the two most probable classes.

    Best versus second best: Joshi, Porikli and Papanikolopoulos 2009, "Multi-Class Active Learning for Image
    Classification", CVPR. The probabilities are those of a probe fitted to the M judged objects. A probe of few objects
    is sure of things it has never seen, so its margin counts M / (M + credit) only: before anybody judged anything, all
    are unsure alike.

    Args:
        vectors: (N, D) of unit length.
        judged: (M,) positions of judged objects.
        classes: M names, what they are; ``probe.NOTHING`` for rejected ones.
        credit: see above.
    """
    if not len(judged):
        return np.ones(len(vectors))
    two = np.sort(fit_probe(vectors[judged], classes).probabilities(vectors), axis=1)[:, -2:]
    margin = two[:, 1] - two[:, 0] if two.shape[1] == 2 else np.zeros(len(vectors))
    return np.asarray(np.clip(1.0 - len(judged) / (len(judged) + credit) * margin, 0.0, 1.0))


def typicality(
    vectors: Vectors, k: int = TYPICAL_NEIGHBOURS, *, least: float = LEAST_DISTANCE, progress: Progress = silent
) -> Shares:
    """How typical each object is, (N,), above 0 up to 1: ``least`` over the mean distance to its k nearest.

    Hacohen, Dekel and Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets",
    ICML (typicality: the inverse of the mean Euclidean distance), with a least distance. With few labels, what many
    objects look like teaches more than what is odd.
    """
    found = nearest_neighbours(vectors, k, progress=progress)
    if found.k == 0:
        return np.ones(len(vectors))
    distances = np.sqrt(np.clip(2.0 - 2.0 * found.similarities.astype(np.float64), 0.0, None)).mean(axis=1)
    return np.asarray(least / np.maximum(distances, least))


def greedy_choice(
    vectors: Vectors, worth: Shares, open_rows: NDArray[np.int64], known: NDArray[np.int64], budget: int
) -> Choice:
    """Pick one after the other what is worth most times how far it is from everything known and picked.

    The farthest-first traversal of the core-set method (greedy k-center: Gonzalez 1985; Sener and Savarese 2018,
    "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR), each distance weighted by worth.
    Of equals the lower position is picked.

    Args:
        vectors: (N, D) of unit length.
        worth: (N,) 0 or more.
        open_rows: positions to pick from.
        known: positions of what needs no look.
        budget: most picks.
    """
    candidates = np.asarray(open_rows, np.int64)
    own = np.ascontiguousarray(vectors[candidates], np.float32)
    near = np.full(len(candidates), -1.0, np.float32)
    for start in range(0, len(known), 1_024):
        block = vectors[known[start : start + 1_024]]
        near = np.maximum(near, (own @ block.T).max(axis=1))
    values = np.asarray(worth[candidates], np.float64)
    free = np.ones(len(candidates), np.bool_)
    picked, novelty, reached = [], [], []
    for _ in range(min(budget, len(candidates))):
        # Cosine distance, halved: 0 for the same direction to 1 for the opposite.
        distance = np.clip((1.0 - near.astype(np.float64)) / 2.0, 0.0, 1.0)
        place = int(np.where(free, values * distance, -1.0).argmax())
        free[place] = False
        picked.append(place)
        novelty.append(distance[place])
        reached.append(values[place] * distance[place])
        near = np.maximum(near, own @ own[place])
    return Choice(candidates[np.asarray(picked, np.int64)], np.asarray(novelty), np.asarray(reached))
