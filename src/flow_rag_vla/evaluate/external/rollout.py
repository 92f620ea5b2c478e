# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One episode of a policy in an external environment, with or without its memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flow_rag_vla.core.correction import EARLY
from flow_rag_vla.evaluate.external.cases import ExternalMemory, Recall
from flow_rag_vla.evaluate.external.environment import BoxEnvironment, ExternalError, Snapshot
from flow_rag_vla.evaluate.external.policy import ChunkPolicy
from flow_rag_vla.evaluate.external.tasks import Expert, ExternalTask
from flow_rag_vla.policy.follower import noise_seed
from flow_rag_vla.policy.sampler import Attraction, Repulsion

Array = NDArray[np.float32]

Use = Literal["guide", "residual", "negative", "replace", "blend", "consensus"]
"""guide: early in the flow; residual: added to the chunk, cut; negative: away from the failed chunks; replace: the
correction itself; blend: 0.7 of the chunk and 0.3 of the correction, the fixed weight of the first design; consensus:
all through the flow, toward what failures and successes agree on."""

RESIDUAL_LIMIT = 0.5
"""Of what a residual adds, in -1..1."""
BLEND_WEIGHT = 0.3
FAILED_CHUNKS = 3
"""Failed chunks that are sampled away from at most."""
NUDGES = 4
"""Random actions that displace a start."""
HOMING_STEPS = 30
"""A blind retry goes back to where it began for so many steps."""


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """How a chunk is used.

    execute: rows until the next chunk is drawn
    retry_after: steps after which a blind retry brings the robot back to where it began, once; 0 for none
    """

    execute: int = 4
    use: Use = "guide"
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One episode.

    corrected: chunks that cases shaped; strength: their mean strength; case_ids: of all of them, each once
    broken: why it ended early, if the environment broke
    """

    seed: int
    success: bool
    steps: int
    chunks: int
    corrected: int
    strength: float
    case_ids: tuple[int, ...] = ()
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """A moment at which a chunk was drawn. observation, situation: (D,) float32; chunk: (H, A) float32 in -1..1."""

    step: int
    observation: Array
    situation: Array
    chunk: Array
    snapshot: Snapshot | None


def run_episode(
    environment: BoxEnvironment,
    policy: ChunkPolicy,
    seed: int,
    *,
    memory: ExternalMemory | None = None,
    settings: EpisodeSettings | None = None,
    task: ExternalTask | None = None,
    noise: int | None = None,
    displaced: int = 0,
    visits: list[Visit] | None = None,
    snapshots: bool = False,
) -> EpisodeResult:
    """Run one episode until success or its end.

    Args:
        environment: reset here.
        policy: what acts.
        seed: of the start, and of the flow's noise unless ``noise`` is given: equal seeds are equal trials.
        memory: asked at each chunk; None for the policy alone.
        settings: how chunks are used.
        task: for the way home of a blind retry.
        noise: seed of the flow's noise.
        displaced: 0 for the seed's own start; n for the n-th small displacement of it: a few random actions before
            the policy begins, which every environment with a Box action understands.
        visits: gets each moment at which a chunk was drawn.
        snapshots: whether visits keep the environment's state.

    Raises:
        ExternalError: if a blind retry is asked for and the task knows no way home.
    """
    settings = settings or EpisodeSettings()
    noise = seed if noise is None else noise
    chunks = 0
    strengths: list[float] = []
    used: list[int] = []
    success, broken = False, ""
    try:
        observation = environment.reset(seed)
        home = _way_home(environment, settings, task)
        if displaced:
            generator = np.random.default_rng([seed, displaced])
            for action in generator.uniform(-1.0, 1.0, (NUDGES, environment.action_dim)):
                observation = environment.step(action).observation
        retries = 0
        while True:
            if home is not None and retries == 0 and environment.steps >= settings.retry_after:
                retries, last = 1, HOMING_STEPS
                actions = _homing(environment, home)
            else:
                situation = policy.situation(observation)
                recall = None if memory is None else _recalled(memory, observation, situation, settings.use)
                if recall is not None:
                    strengths.append(recall.strength)
                    used.extend(recall.case_ids)
                chunk = shaped_chunk(policy, situation, noise_seed(noise, environment.steps), recall, settings.use)
                if visits is not None:
                    moment = environment.snapshot() if snapshots else None
                    visits.append(Visit(environment.steps, observation, situation, chunk, moment))
                chunks += 1
                actions, last = iter(chunk[: settings.execute]), min(settings.execute, policy.horizon)
            ended = False
            for number, action in enumerate(actions, 1):
                # Only what the next chunk begins from is looked at.
                step = environment.step(action, look=number == last)
                observation, success, ended = step.observation, step.success, step.ended
                if ended:
                    break
            if ended:
                break
    except ExternalError as error:
        # What cannot even begin is the caller's matter; what breaks on the way is a result of this episode.
        if environment.steps == 0:
            raise
        broken = str(error)
    mean = float(np.mean(strengths)) if strengths else 0.0
    used_once = tuple(dict.fromkeys(used))
    return EpisodeResult(seed, success, environment.steps, chunks, len(strengths), mean, used_once, broken)


def _recalled(memory: ExternalMemory, observation: Array, situation: Array, use: Use) -> Recall | None:
    return memory.agreed(observation, situation) if use == "consensus" else memory.recall(situation)


def shaped_chunk(
    policy: ChunkPolicy, situation: Array, seed: int, recall: Recall | None, use: Use
) -> NDArray[np.float32]:
    """(H, A) float32 in -1..1: drawn by the policy, shaped by what is remembered."""
    attraction = repulsion = None
    if recall is not None and use in ("guide", "consensus"):
        until = EARLY if use == "guide" else recall.until
        attraction = Attraction(torch.from_numpy(recall.correction), torch.ones(policy.horizon), recall.strength, until)
    if recall is not None and use == "negative":
        repulsion = Repulsion(torch.from_numpy(recall.failed[:FAILED_CHUNKS]), recall.strength)
    if recall is not None and use == "replace":
        chunk = recall.correction
    else:
        chunk = policy.draw(situation, seed, attraction=attraction, repulsion=repulsion).chosen.numpy()
    if recall is not None and use == "residual":
        chunk = chunk + recall.strength * np.clip(recall.offset, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
    if recall is not None and use == "blend":
        chunk = (1.0 - BLEND_WEIGHT) * chunk + BLEND_WEIGHT * recall.correction
    return np.asarray(np.clip(chunk, -1.0, 1.0), dtype=np.float32)


def _way_home(environment: BoxEnvironment, settings: EpisodeSettings, task: ExternalTask | None) -> Expert | None:
    if settings.retry_after == 0:
        return None
    if task is None or task.home is None:
        raise ExternalError(f"{environment.name} knows no way home, so a blind retry cannot begin anew; leave it out")
    return task.home(environment.state)


def _homing(environment: BoxEnvironment, home: Expert) -> Iterator[NDArray[np.floating]]:
    for _ in range(HOMING_STEPS):
        yield np.clip(home(environment.state), -1.0, 1.0)
