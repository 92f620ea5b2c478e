# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on corrections: DAgger's step, the control that a memory of the same corrections is measured against.

Ross, Gordon and Bagnell 2011 (arXiv 1011.0686): the expert labels situations that the policy itself visited, and the
policy is trained on those labels together with what it was trained on before.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.samples import ChunkSamples
from flow_rag_vla.policy.checkpoint import load_checkpoint, save_checkpoint
from flow_rag_vla.policy.flow import flow_matching_loss
from flow_rag_vla.policy.network import PolicyNetwork

LATE_WEIGHT = 0.4
"""What the last row of a chunk weighs beside the first, as in training."""


def fine_tune(
    checkpoint: str | Path | None,
    labels: ChunkSamples,
    before: ChunkSamples | None,
    folder: str | Path,
    *,
    iterations: int = 800,
    batch: int = 256,
    learning_rate: float = 5e-4,
    seed: int = 0,
    progress: Progress = silent,
) -> str:
    """Train a checkpoint's velocity network on, half of each batch from the labels, half from what it knew.

    Without what it knew the labels are all of each batch, and what they do not show may be lost.

    Args:
        checkpoint: what to start from; None: the policy that ships.
        labels: situations with the expert's chunks.
        before: what the policy was trained on; None if that is not known.
        folder: gets the new checkpoint.
        iterations: steps; the learning rate falls linearly to 0.
        batch: samples a step.
        learning_rate: at the start.
        seed: of the batches and the flow's noise.
        progress: told after each iteration.

    Returns:
        The new checkpoint's revision.

    Raises:
        ValueError: if there are no labels.
    """
    if len(labels) == 0:
        raise ValueError("there are no labels to fine-tune on; collect failures first")
    network, config, _ = load_checkpoint(checkpoint)
    network.train()
    known = [
        (_conditions(network, part), torch.from_numpy(part.chunks)) for part in (labels, before) if part is not None
    ]
    kept = copy.deepcopy(network)
    trained = list(network.velocity.requires_grad_(True).parameters())
    optimiser = torch.optim.AdamW(trained, lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    rows_weight = torch.linspace(1.0, LATE_WEIGHT, labels.chunks.shape[1])[None, :, None]
    for iteration in range(iterations):
        chosen = [torch.randint(len(chunks), (batch // len(known),), generator=generator) for _, chunks in known]
        condition = torch.cat([part[rows] for (part, _), rows in zip(known, chosen, strict=True)])
        chunks = torch.cat([part[rows] for (_, part), rows in zip(known, chosen, strict=True)])
        embedded = network.velocity.embed(condition)

        def velocity(chunk: torch.Tensor, time: torch.Tensor, situation: torch.Tensor = embedded) -> torch.Tensor:
            return network.velocity.velocity(chunk, time, situation)

        loss = flow_matching_loss(velocity, chunks, generator, weights=rows_weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1.0 - (iteration + 1) / iterations)
        decay = min(0.99, (1.0 + iteration) / (10.0 + iteration))
        with torch.no_grad():
            for old, new in zip(kept.velocity.parameters(), network.velocity.parameters(), strict=True):
                old.lerp_(new, 1.0 - decay)
        progress(iteration + 1, iterations, f"loss {float(loss.detach()):.4f}")
    return save_checkpoint(kept.eval(), config, folder)


def _conditions(network: PolicyNetwork, samples: ChunkSamples) -> torch.Tensor:
    felt, goal = torch.from_numpy(samples.proprioception), torch.from_numpy(samples.goal)
    with torch.no_grad():
        situation = network.situation(torch.from_numpy(samples.embedding), felt, goal)
        return network.condition(situation, felt, goal)
