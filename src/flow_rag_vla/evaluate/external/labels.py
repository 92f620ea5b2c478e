# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What an expert would have done in a failed episode, played out in the environment itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.evaluate.external.cases import LabelledFailure
from flow_rag_vla.evaluate.external.environment import BoxEnvironment, ExternalError
from flow_rag_vla.evaluate.external.policy import ChunkPolicy
from flow_rag_vla.evaluate.external.rollout import Visit
from flow_rag_vla.evaluate.external.tasks import Expert
from flow_rag_vla.policy.follower import noise_seed

Array = NDArray[np.float32]

LOST_AFTER = 2
"""Moments in a row from which the expert does not succeed either, after which the rest of an episode is left out."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What an expert says about a failed episode.

    wrong: where it would have done otherwise; right: where it would not
    """

    wrong: tuple[LabelledFailure, ...]
    right: tuple[Visit, ...]


def label_visits(
    environment: BoxEnvironment,
    expert: Expert,
    seed: int,
    visits: list[Visit],
    policy: ChunkPolicy,
    *,
    execute: int,
    least_difference: float,
    apart: float,
    most: int,
) -> Labels:
    """What the expert would have done in the moments of a failed episode, played out in the environment itself.

    A moment counts only if the expert succeeds from there: what it does where all is lost corrects nothing. From the
    last of these moments on the way out of the failure is labelled too: that is where a policy that was corrected gets.

    Args:
        environment: still in that episode; left somewhere in it.
        expert: acts from each moment on.
        seed: of the episode.
        visits: with snapshots.
        policy: asked what it would have done on the way out.
        execute: steps between two moments of the way out.
        least_difference: root-mean-square difference, in -1..1, from which a chunk counts as wrong.
        apart: root-mean-square distance in standard deviations between one labelled situation and the next.
        most: wrong moments on the way into the failure that are kept, the earliest.
    """
    wrong: list[LabelledFailure] = []
    right: list[Visit] = []

    def judge(visit: Visit, rows: list[Array]) -> None:
        correction = np.stack([rows[min(index, len(rows) - 1)] for index in range(policy.horizon)])
        if float(np.sqrt(np.mean((correction - visit.chunk) ** 2))) >= least_difference:
            wrong.append(LabelledFailure(seed, visit.step, visit.observation, visit.situation, visit.chunk, correction))
        else:
            right.append(visit)

    way_out: list[tuple[Visit, list[Array]]] = []
    last: Array | None = None
    lost = 0
    for visit in visits:
        if len(wrong) >= most or lost >= LOST_AFTER:
            break
        if last is not None and _apart(visit.situation, last) < apart:
            continue
        last = visit.situation
        if visit.snapshot is None:
            raise ValueError("visits have no snapshots; run the episode with snapshots=True")
        environment.restore(visit.snapshot)
        played = _played_out(environment, expert, execute)
        lost = lost + 1 if played is None else 0
        if played is not None:
            judge(visit, played.rows)
            way_out = [
                (_visit(policy, seed, visit.step + step, observation), played.rows[step:])
                for step, observation in played.seen
            ]
    for visit, rows in way_out:
        if last is None or _apart(visit.situation, last) >= apart:
            last = visit.situation
            judge(visit, rows)
    return Labels(tuple(wrong), tuple(right))


@dataclass(frozen=True, slots=True)
class _Played:
    """How an expert succeeded. rows: (A,) each; seen: observations on the way, with their step."""

    rows: list[Array]
    seen: list[tuple[int, Array]]


def _visit(policy: ChunkPolicy, seed: int, step: int, observation: Array) -> Visit:
    situation = policy.situation(observation)
    return Visit(step, observation, situation, policy.draw(situation, noise_seed(seed, step)).chosen.numpy(), None)


def _apart(one: Array, other: Array) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


def _played_out(environment: BoxEnvironment, expert: Expert, execute: int) -> _Played | None:
    """What the expert does from here on until it succeeds; None if it does not."""
    played = _Played([], [])
    try:
        while True:
            played.rows.append(environment.normalised(expert(environment.state)))
            look = len(played.rows) % execute == 0
            step = environment.step(played.rows[-1], look=look)
            if step.ended:
                return played if step.success else None
            if look:
                played.seen.append((len(played.rows), step.observation))
    except ExternalError:
        return None
