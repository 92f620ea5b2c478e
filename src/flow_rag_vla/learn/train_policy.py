# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the velocity network on frozen embeddings."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.samples import ChunkSamples
from flow_rag_vla.policy.action_space import FREE_DIM
from flow_rag_vla.policy.flow import flow_matching_loss
from flow_rag_vla.policy.network import CONDITION_DIM, PolicyNetwork
from flow_rag_vla.policy.observation import ENTITY_DIM
from flow_rag_vla.policy.readout import Readout
from flow_rag_vla.policy.velocity import VelocityConfig

HORIZON = 16


@dataclass(frozen=True, slots=True)
class PolicyTraining:
    """Length and pace of training.

    place_noise: deviation in metres that is added to read places, plus ``place_noise_share`` of their distance
    felt_noise: deviation in metres that is added to the tool's position
    average: decay of the running average of weights that is kept in the end
    late_weight: what the last row of a chunk weighs beside the first
    """

    iterations: int = 5000
    batch: int = 256
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    place_noise: float = 0.001
    place_noise_share: float = 0.01
    felt_noise: float = 0.001
    average: float = 0.999
    late_weight: float = 0.4
    width: int = 256
    blocks: int = 3
    seed: int = 0


def train_policy(
    samples: ChunkSamples,
    readout: Readout,
    training: PolicyTraining | None = None,
    *,
    progress: Progress = silent,
    start: PolicyNetwork | None = None,
) -> PolicyNetwork:
    """Train a policy network on chunk samples; the readout is put into it and stays as it is.

    Args:
        samples: situations and chunks; their embeddings are those of the encoder that the readout reads.
        readout: trained with the encoder.
        training: length and pace.
        progress: told after each iteration.
        start: a network to go on from; None starts anew.
    """
    training = training or PolicyTraining()
    horizon = samples.chunks.shape[1]
    network = _new_network(readout, training, horizon) if start is None else copy.deepcopy(start)
    network.readout.requires_grad_(False)
    felt = torch.from_numpy(samples.proprioception)
    goal = torch.from_numpy(samples.goal)
    chunks = torch.from_numpy(samples.chunks)
    with torch.inference_mode():
        embedding = torch.from_numpy(samples.embedding)
        parts = [
            network.situation(embedding[first : first + 4096], felt[first : first + 4096], goal[first : first + 4096])
            for first in range(0, len(samples), 4096)
        ]
    situation = torch.cat(parts).clone()
    if start is None:
        network.fit_features(situation, felt, goal)
    kept = copy.deepcopy(network).requires_grad_(False)
    trained = list(network.velocity.requires_grad_(True).parameters())
    optimiser = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=training.learning_rate,
        total_steps=training.iterations,
        # A warm-up of exactly one step is divided by zero in the scheduler.
        pct_start=0.1 if training.iterations == 20 else 0.05,
    )
    generator = torch.Generator().manual_seed(training.seed)
    rows_weight = torch.linspace(1.0, training.late_weight, horizon)[None, :, None]
    running = math.nan
    for iteration in range(training.iterations):
        rows = torch.randint(len(samples), (training.batch,), generator=generator)
        place, body = _disturbed(situation[rows], felt[rows], training, generator)
        embedded = network.velocity.embed(network.condition(place, body, goal[rows]))

        def velocity(chunk: torch.Tensor, time: torch.Tensor, known: torch.Tensor = embedded) -> torch.Tensor:
            return network.velocity.velocity(chunk, time, known)

        loss = flow_matching_loss(velocity, chunks[rows], generator, weights=rows_weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        decay = min(training.average, (1.0 + iteration) / (10.0 + iteration))
        with torch.no_grad():
            for old, new in zip(kept.velocity.parameters(), network.velocity.parameters(), strict=True):
                old.lerp_(new, 1.0 - decay)
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.99 * running + 0.01 * value
        progress(iteration + 1, training.iterations, f"loss {running:.4f}")
    return kept.eval()


def _new_network(readout: Readout, training: PolicyTraining, horizon: int) -> PolicyNetwork:
    config = VelocityConfig(
        horizon=horizon,
        action_dim=FREE_DIM,
        condition_dim=CONDITION_DIM,
        width=training.width,
        blocks=training.blocks,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = PolicyNetwork(config, readout.config)
    network.readout.load_state_dict(readout.state_dict())
    return network


def _disturbed(
    situation: torch.Tensor, felt: torch.Tensor, training: PolicyTraining, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of the size of the readout's errors on scenes it was not trained on."""
    place, body = situation.clone(), felt.clone()
    for first in range(0, situation.shape[1], ENTITY_DIM):
        block = situation[:, first : first + 3]
        deviation = training.place_noise + training.place_noise_share * block.norm(dim=-1, keepdim=True)
        place[:, first : first + 3] += deviation * torch.randn(block.shape, generator=generator)
    if training.felt_noise > 0.0:
        body[:, :3] += training.felt_noise * torch.randn((felt.shape[0], 3), generator=generator)
    return place, body
