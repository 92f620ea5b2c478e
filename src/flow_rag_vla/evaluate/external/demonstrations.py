# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes of an expert, collected by seed and kept as one NumPy file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.evaluate.external.environment import BoxEnvironment, ExternalError
from flow_rag_vla.evaluate.external.tasks import Expert

Array = NDArray[np.float32]
_FORMAT = "flow_rag_vla.external_demonstrations/1"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """observations: (T, D) float32, as the policy sees them; actions: (T, A) float32 in -1..1."""

    seed: int
    observations: Array
    actions: Array


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Successful episodes of one task. observation: state or pixels; refused: seeds at which the expert failed."""

    task: str
    observation: str
    episodes: tuple[Demonstration, ...]
    refused: tuple[int, ...] = ()

    def windows(self, horizon: int) -> tuple[Array, Array]:
        """Situations (N, D) and the chunks (N, H, A) that followed; the last action repeats beyond an episode's end."""
        situations = np.concatenate([episode.observations for episode in self.episodes])
        chunks = []
        for episode in self.episodes:
            rows = np.arange(len(episode.actions))[:, None] + np.arange(horizon)
            chunks.append(episode.actions[np.minimum(rows, len(episode.actions) - 1)])
        return situations, np.concatenate(chunks)


def demonstrate(environment: BoxEnvironment, expert: Expert, seed: int, noise: float = 0.0) -> Demonstration | None:
    """One episode of the expert; None if it does not succeed.

    Args:
        environment: reset here.
        expert: acts.
        seed: of the start.
        noise: deviation of Gaussian noise on what is done, in -1..1; what is recorded is what the expert wanted. It
            shows how to come back (Laskey et al. 2017, "DART", arXiv 1703.09327).
    """
    generator = np.random.default_rng(seed)
    observations = [environment.reset(seed)]
    actions = []
    while True:
        wanted = environment.normalised(expert(environment.state))
        actions.append(wanted)
        step = environment.step(wanted + noise * generator.standard_normal(wanted.shape))
        if step.ended:
            break
        observations.append(step.observation)
    if not step.success:
        return None
    return Demonstration(seed, np.stack(observations), np.stack(actions))


def collect(
    environment: BoxEnvironment, expert: Expert, seeds: Iterable[int], *, observation: str = "state", noise: float = 0.0
) -> Demonstrations:
    """Demonstrations of these seeds.

    Raises:
        ExternalError: if the expert succeeds at none.
    """
    found: list[Demonstration] = []
    refused: list[int] = []
    for seed in seeds:
        episode = demonstrate(environment, expert, seed, noise)
        if episode is None:
            refused.append(seed)
        else:
            found.append(episode)
    if not found:
        raise ExternalError(f"the expert of {environment.name} succeeded at none of {len(refused)} seeds")
    return Demonstrations(environment.name, observation, tuple(found), tuple(refused))


def save_demonstrations(demonstrations: Demonstrations, path: str | Path) -> None:
    """Write one ``.npz`` file as a whole."""
    lengths = np.array([len(episode.actions) for episode in demonstrations.episodes], dtype=np.int64)
    about = {"format": _FORMAT, "task": demonstrations.task, "observation": demonstrations.observation}
    with replaced_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            about=np.array(json.dumps(about)),
            lengths=lengths,
            seeds=np.array([episode.seed for episode in demonstrations.episodes], dtype=np.int64),
            refused=np.array(demonstrations.refused, dtype=np.int64),
            observations=np.concatenate([episode.observations for episode in demonstrations.episodes]),
            actions=np.concatenate([episode.actions for episode in demonstrations.episodes]),
        )


def load_demonstrations(path: str | Path) -> Demonstrations:
    """Read a file of :func:`save_demonstrations`.

    Raises:
        ExternalError: if it is missing, damaged, of another format, or its numbers are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if about.get("format") != _FORMAT:
                raise ExternalError(f"{path} is of format {about.get('format')!r}, expected {_FORMAT!r}; collect anew")
            lengths, seeds, refused = stored["lengths"], stored["seeds"], stored["refused"]
            observations = stored["observations"].astype(np.float32)
            actions = stored["actions"].astype(np.float32)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, ExternalError):
            raise
        raise ExternalError(
            f"{path} holds no demonstrations ({type(error).__name__}: {error}); collect anew"
        ) from error
    whole = len(lengths) == len(seeds) and lengths.sum() == len(observations) == len(actions)
    if not whole or len(lengths) == 0 or not (np.isfinite(observations).all() and np.isfinite(actions).all()):
        raise ExternalError(f"{path} is damaged: its arrays do not fit together or are not finite; collect anew")
    ends = np.cumsum(lengths)[:-1]
    episodes = tuple(
        Demonstration(int(seed), *pair)
        for seed, *pair in zip(seeds, np.split(observations, ends), np.split(actions, ends), strict=True)
    )
    return Demonstrations(str(about["task"]), str(about["observation"]), episodes, tuple(refused.tolist()))
