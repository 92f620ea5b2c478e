# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the small policy on demonstrations, and goes on training it on corrections."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.evaluate.external.policy import ExternalNetwork
from flow_rag_vla.policy.flow import flow_matching_loss
from flow_rag_vla.policy.velocity import VelocityConfig

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ExternalTraining:
    """Length and pace of training.

    horizon: rows of a chunk; average: decay of the running average of weights that is kept in the end
    blur: deviation of noise on standardised observations
    """

    horizon: int = 16
    iterations: int = 800
    batch: int = 128
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    average: float = 0.995
    blur: float = 0.01
    width: int = 128
    blocks: int = 2
    seed: int = 0


def train(situations: Array, chunks: Array, training: ExternalTraining) -> ExternalNetwork:
    """Train a network.

    Args:
        situations: (N, D) observations.
        chunks: (N, H, A) what to do from there, in -1..1.
        training: length and pace.
    """
    config = VelocityConfig(
        horizon=chunks.shape[1],
        action_dim=chunks.shape[2],
        condition_dim=situations.shape[1],
        width=training.width,
        blocks=training.blocks,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = ExternalNetwork(config)
    network.fit(torch.from_numpy(situations))
    return _train(network, (situations, chunks), training, training.iterations, training.learning_rate)


def fine_tune(
    network: ExternalNetwork,
    demonstrations: tuple[Array, Array],
    corrections: tuple[Array, Array],
    training: ExternalTraining,
    *,
    share_of_iterations: float = 0.4,
) -> ExternalNetwork:
    """Go on training a copy on demonstrations and corrections together, each situation as often as any other.

    One round of DAgger (Ross et al. 2011, "A reduction of imitation learning and structured prediction to no-regret
    online learning") on the labels that a memory holds: (situations (N, D), chunks (N, H, A)).
    """
    iterations = max(1, round(training.iterations * share_of_iterations))
    joined = np.concatenate([demonstrations[0], corrections[0]]), np.concatenate([demonstrations[1], corrections[1]])
    return _train(copy.deepcopy(network), joined, training, iterations, training.learning_rate / 2.0)


def _train(
    network: ExternalNetwork,
    pairs: tuple[Array, Array],
    training: ExternalTraining,
    iterations: int,
    learning_rate: float,
) -> ExternalNetwork:
    network = network.train().requires_grad_(True)
    situations, chunks = network.situation(torch.from_numpy(pairs[0])), torch.from_numpy(pairs[1])
    kept = copy.deepcopy(network)
    trained = list(network.velocity.parameters())
    optimiser = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=learning_rate, total_steps=iterations + 1, pct_start=0.05
    )
    generator = torch.Generator().manual_seed(training.seed)
    for iteration in range(iterations):
        rows = torch.randint(len(situations), (training.batch,), generator=generator)
        noise = torch.randn((training.batch, situations.shape[1]), generator=generator)
        # A number that never varies stays 0, as it will be when the policy acts.
        embedded = network.velocity.embed(situations[rows] + training.blur * noise * (network.scale > 0.0))

        def velocity(chunk: torch.Tensor, time: torch.Tensor, situation: torch.Tensor = embedded) -> torch.Tensor:
            return network.velocity.velocity(chunk, time, situation)

        loss = flow_matching_loss(velocity, chunks[rows], generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        decay = min(training.average, (1.0 + iteration) / (10.0 + iteration))
        with torch.no_grad():
            for old, new in zip(kept.velocity.parameters(), network.velocity.parameters(), strict=True):
                old.lerp_(new, 1.0 - decay)
    return kept.eval().requires_grad_(False)
