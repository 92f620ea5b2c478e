# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How unlike a success an episode looks, by one number a frame: each score sees something that others do not.

All are higher where a failure is likelier and say NaN where they cannot tell. Which value is high is not their matter:
``failure.bands`` learns it from success episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import (
    MAX_ROTATION_PER_TICK,
    MAX_TRANSLATION_PER_TICK,
    TICK_NS,
    ActionChunk,
)
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.failure.frame import Frame

Array = NDArray[np.float32]

LEAST_WIDTH: Mapping[str, float] = {
    "rules": 0.25,
    "disagreement": 0.25,
    "spread": 0.25,
    "distance": 0.4,
    "duration": 0.15,
    "novelty": 0.2,
}
"""The narrowest that a band may be, in each score's own unit: what one day's success differs by from another's."""

NEIGHBOURS = 5
"""How many of the nearest success frames are averaged."""

_SCALE = np.array([MAX_TRANSLATION_PER_TICK] * 3 + [MAX_ROTATION_PER_TICK] * 3 + [0.5], dtype=np.float32)


class Score(Protocol):
    """One number a frame, of one episode at a time."""

    @property
    def name(self) -> str:
        """As in messages and calibrations."""

    def reset(self) -> None:
        """Begin a new episode."""

    def update(self, frame: Frame) -> float:
        """Take one frame in; NaN if it says nothing."""


class RuleEvidence:
    """What the rules have reported in this episode, and the strongest evidence at present."""

    name = "rules"

    def reset(self) -> None:
        """Keep nothing: a frame carries it all."""

    def update(self, frame: Frame) -> float:
        """Confidences of reports added up, plus evidence beyond half of its threshold, as a share of that, at most 1.5.

        Below half a threshold forces and tracking errors tell one set-up from another, not failure from success.
        """
        return frame.evidence + max(0.0, min(frame.strain, 2.0) - 0.5)


class ChunkDisagreement:
    """How far a chunk departs from the one before over the rows that they share.

    A policy that knows what to do plans the same thing twice: STAC (Agia et al. 2024, arXiv 2410.04640) and TIDE
    (arXiv 2604.16683) on single samples. Rows that the new chunk was made to copy are left out.
    """

    name = "disagreement"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self._before: ActionChunk | None = None

    def update(self, frame: Frame) -> float:
        """Logarithm of the root-mean-square distance, in shares of the greatest motion a tick.

        NaN without two chunks that overlap. A logarithm, because other delays multiply it.
        """
        chunk, before = frame.chunk, self._before
        if chunk is None:
            return math.nan
        self._before = chunk
        if before is None:
            return math.nan
        passed = round(frame.pace * (chunk.stamp_ns - before.stamp_ns) / TICK_NS)
        shared = min(before.horizon - passed, chunk.horizon)
        if passed <= 0 or shared <= chunk.committed:
            return math.nan
        new = chunk.actions[chunk.committed : shared]
        old = before.actions[passed + chunk.committed : passed + shared]
        return math.log(float(np.sqrt(np.mean(np.square((new - old) / _SCALE)))) + 0.01)


class ChunkSpread:
    """How far samples of one chunk lie apart: the entropy of a Gaussian, up to a constant (FIPER, arXiv 2510.09459)."""

    name = "spread"

    def reset(self) -> None:
        """Keep nothing."""

    def update(self, frame: Frame) -> float:
        """Mean logarithm of the deviation over the rows that were free; NaN without a chunk or its uncertainty."""
        chunk = frame.chunk
        if chunk is None or chunk.uncertainty is None or chunk.committed >= chunk.horizon:
            return math.nan
        return float(np.mean(np.log(chunk.uncertainty[chunk.committed :] + 1e-4)))


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """Where frames are compared: the embedding's main directions and proprioception.

    mean: (D,) float32; directions: (D, K) float32, each scaled to unit variance over success frames
    proprioception: weight of proprioception beside them
    """

    mean: Array
    directions: Array
    proprioception: float

    def point(self, frame: Frame) -> Array:
        """(K + 7,) float32."""
        seen = (frame.embedding - self.mean) @ self.directions
        return np.concatenate([seen, frame.proprioception() * self.proprioception]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Bank:
    """Frames of success episodes with one goal.

    points: (N, F) float32 in the feature space; remaining: (N,) float32, seconds from each to its episode's success
    """

    points: Array
    remaining: Array
    squares: Array

    @classmethod
    def of(cls, points: Array, remaining: Array) -> Bank:
        """A bank with what searching needs."""
        points = np.ascontiguousarray(points, dtype=np.float32)
        return cls(points, np.asarray(remaining, dtype=np.float32), np.square(points).sum(axis=1))

    def nearest(self, point: Array) -> tuple[Array, Array]:
        """Distances and remaining times, (k,) each, of the nearest; k is NEIGHBOURS or all."""
        squares = self.squares - 2.0 * (self.points @ point)
        count = min(NEIGHBOURS, len(squares))
        rows = np.argpartition(squares, count - 1)[:count]
        distances = np.sqrt(np.maximum(squares[rows] + float(point @ point), 0.0))
        return distances.astype(np.float32), self.remaining[rows]


class Neighbours:
    """The nearest success frames of a frame, found once for the scores that ask."""

    def __init__(self, space: FeatureSpace, banks: Mapping[int, Bank]) -> None:
        self._space, self._banks = space, dict(banks)
        self._stamp_ns: int | None = None
        self._found: tuple[Array, Array] | None = None

    def reset(self) -> None:
        """Begin a new episode."""
        self._stamp_ns = self._found = None

    def of(self, frame: Frame) -> tuple[Array, Array] | None:
        """Distances and remaining times of the nearest; None for a goal without success frames."""
        if frame.stamp_ns != self._stamp_ns:
            bank = self._banks.get(-1 if frame.goal is None else frame.goal.index)
            self._found = None if bank is None else bank.nearest(self._space.point(frame))
            self._stamp_ns = frame.stamp_ns
        return self._found


class NeighbourDistance:
    """How far a frame is from all that was seen in success episodes with the same goal."""

    name = "distance"

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    def reset(self) -> None:
        """Begin a new episode."""
        self._neighbours.reset()

    def update(self, frame: Frame) -> float:
        """Mean distance to the nearest success frames; NaN for a goal without any."""
        found = self._neighbours.of(frame)
        return math.nan if found is None else float(found[0].mean())


class ExpectedDuration:
    """When the episode will be done, as far as success episodes tell: time so far plus what the nearest still took.

    It stands still while work proceeds, whatever its pace, and rises when work is lost: after a slip, on going round
    in circles, when nothing moves.
    """

    name = "duration"

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    def reset(self) -> None:
        """Begin a new episode."""
        self._neighbours.reset()

    def update(self, frame: Frame) -> float:
        """Seconds from the episode's beginning to its expected end; NaN for a goal without success frames."""
        found = self._neighbours.of(frame)
        return math.nan if found is None else frame.elapsed + float(np.median(found[1]))


@dataclass(frozen=True, slots=True)
class Distillation:
    """A fixed random network and what was learned of it on success frames.

    target_weight: (F, H), target_out: (H, O): the network ``tanh(x W) V``
    learner_weight: (F, R), learner_bias: (R,), learner_out: (R, O): random features and the weights fitted to them
    """

    target_weight: Array
    target_out: Array
    learner_weight: Array
    learner_bias: Array
    learner_out: Array

    def error(self, points: Array) -> Array:
        """(N,) float32: root-mean-square error of the learner on points (N, F) float32."""
        wanted = np.tanh(points @ self.target_weight) @ self.target_out
        learned = np.cos(points @ self.learner_weight + self.learner_bias) @ self.learner_out
        error: Array = np.sqrt(np.mean(np.square(wanted - learned), axis=1)).astype(np.float32)
        return error


class RandomDistillation:
    """How badly a learner that has seen success frames only predicts a random network (Burda et al. 2018,
    arXiv 1810.12894). The learner is linear in random features, so that fitting it needs no more than numpy.
    """  # noqa: D205

    name = "novelty"

    def __init__(self, space: FeatureSpace, networks: Distillation) -> None:
        self._space, self._networks = space, networks

    def reset(self) -> None:
        """Keep nothing."""

    def update(self, frame: Frame) -> float:
        """Logarithm of the prediction error."""
        point = np.concatenate([self._space.point(frame), goal_marks(frame)])
        return float(np.log(self._networks.error(point[None, :].astype(np.float32))[0] + 1e-6))


def goal_marks(frame: Frame) -> Array:
    """(number of goals,) float32: one at the goal's place."""
    marks = np.zeros(len(GOALS), dtype=np.float32)
    if frame.goal is not None:
        marks[frame.goal.index] = 1.0
    return marks
