# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the failure monitor's probe on how episodes ended, and puts a whole calibration together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.failure.bands import STEP_S
from flow_rag_vla.failure.calibration import (
    RATE,
    Calibration,
    Knowledge,
    Split,
    calibrate,
    fit_bands,
    fit_knowledge,
    probe_features,
    raw_scores,
    smooth_scores,
    split_successes,
)
from flow_rag_vla.failure.perceptron import Layer
from flow_rag_vla.failure.probe import FEWEST_FAILURES, Probe
from flow_rag_vla.failure.trace import Origin, Trace
from flow_rag_vla.learn.progress import Progress, silent

Array = NDArray[np.float32]

HIDDEN: tuple[int, ...] = ()
"""Widths of hidden layers: none. With 32 units the probe did no better on kinds of failure that it had not seen."""


@dataclass(frozen=True, slots=True)
class ProbeTraining:
    """How the probe is learned. noise: deviation added to standardised inputs; delay: seconds after a fault's onset
    before which nothing can be seen of it.
    """  # noqa: D205

    iterations: int = 600
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 3e-2
    dropout: float = 0.2
    noise: float = 0.3
    delay: float = 0.3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of the probe. features: (N, P) float32; labels: (N,) float32, 1: the episode failed; weights: (N,)."""

    features: Array
    labels: Array
    weights: Array


def probe_examples(knowledge: Knowledge, split: Split, faulty: Sequence[Trace], training: ProbeTraining) -> Examples:
    """Frames of success episodes and of ones with faults, by how they ended.

    Only frames as old as success episodes are: otherwise age alone would tell, and nothing else be learned. A failed
    episode counts from when its fault can be seen; the frames of one episode weigh as much as those of any other.
    """
    held_out = raw_scores(knowledge, split.held_out)
    bands = fit_bands(split.held_out, held_out)
    features: list[Array] = []
    labels: list[float] = []
    weights: list[float] = []
    traces = [trace for trace in (*split.probe, *faulty) if trace.info.task in bands and trace.frames]
    rows = probe_features(traces, smooth_scores(bands, traces, raw_scores(knowledge, traces)))
    for trace, found in zip(traces, rows, strict=True):
        oldest = (len(bands[trace.info.task][0].mean) - 1) * STEP_S
        first = 0.0 if trace.info.success else trace.info.onset + training.delay
        kept = [index for index, frame in enumerate(trace.frames) if first <= frame.elapsed <= oldest]
        for index in kept:
            features.append(found[index])
            labels.append(0.0 if trace.info.success else 1.0)
            weights.append(1.0 / len(kept))
    return Examples(np.stack(features), np.array(labels, dtype=np.float32), np.array(weights, dtype=np.float32))


def train_probe(examples: Examples, training: ProbeTraining, *, progress: Progress = silent) -> Probe:
    """Fit the perceptron; each class is drawn as often as the other.

    Raises:
        ValueError: if all episodes ended alike.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(training.seed)
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    weights = torch.from_numpy(examples.weights)
    sides = [torch.nonzero(labels > 0.5)[:, 0], torch.nonzero(labels < 0.5)[:, 0]]
    if not all(len(side) for side in sides):
        raise ValueError(f"{len(sides[0])} frames of failed episodes and {len(sides[1])} others: both are needed")
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = _network(features.shape[1], training.dropout)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.iterations)
        network.train()
        for iteration in range(training.iterations):
            drawn = [
                side[torch.multinomial(weights[side], training.batch // 2, replacement=True, generator=generator)]
                for side in sides
            ]
            rows = torch.cat(drawn)
            inputs = (features[rows] - mean) / deviation
            inputs = inputs + training.noise * torch.randn(inputs.shape, generator=generator)
            loss = nn.functional.binary_cross_entropy_with_logits(network(inputs)[:, 0], labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if iteration % 50 == 49 or iteration + 1 == training.iterations:
                progress(iteration + 1, training.iterations, f"loss {float(loss.detach()):.3f}")
    linear = [module for module in network if isinstance(module, nn.Linear)]
    layers = [
        Layer(np.ascontiguousarray(layer.weight.detach().numpy().T), layer.bias.detach().numpy().copy())
        for layer in linear
    ]
    # The inputs' scale becomes part of the first layer, so that inference knows nothing of it.
    scaled = layers[0].weight / deviation.numpy()[:, None]
    layers[0] = Layer(scaled.astype(np.float32), (layers[0].bias - mean.numpy() @ scaled).astype(np.float32))
    return Probe(layers)


def _network(size: int, dropout: float) -> nn.Sequential:
    modules: list[nn.Module] = []
    for width in HIDDEN:
        modules += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)]
        size = width
    return nn.Sequential(*modules, nn.Linear(size, 1))


def make_calibration(
    successes: Sequence[Trace],
    faulty: Sequence[Trace],
    origin: Origin,
    *,
    rate: float = RATE,
    source: str = "",
    seed: int = 0,
    training: ProbeTraining | None = None,
    progress: Progress = silent,
) -> Calibration:
    """A calibration of success episodes, with a probe if at least ``FEWEST_FAILURES`` of ``faulty`` failed.

    Args:
        successes: undisturbed episodes; those that failed count as failures.
        faulty: episodes with faults, however they ended; may be empty.
        origin: encoder and policy of them all.
        rate: share of success episodes that may raise an alarm.
        source: where the episodes come from, in words.
        seed: of splits and weights.
        training: of the probe.
        progress: told how far its training is.

    Raises:
        CalibrationError: for too few success episodes.
    """
    training = training or ProbeTraining(seed=seed)
    others = [*faulty, *(trace for trace in successes if not trace.info.success)]
    failures = sum(not trace.info.success for trace in others)
    taught = failures >= FEWEST_FAILURES
    split = split_successes(successes, with_probe=taught, seed=seed)
    knowledge = fit_knowledge(split.bank, seed)
    probe = None
    if taught:
        probe = train_probe(probe_examples(knowledge, split, others, training), training, progress=progress)
    return calibrate(
        split,
        knowledge,
        origin,
        rate=rate,
        probe=probe,
        failures=failures if taught else 0,
        source=source,
        seed=seed,
    )
