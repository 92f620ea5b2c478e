# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Teaches the classifier of two pictures, one before and one after, on how episodes ended.

``flow_rag_vla calibrate --before-after`` makes the one that the failure detector runs, and ``flow_rag_vla bench
detection`` scores it, taught in the same way, beside the monitor as its baseline.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.failure.before_after import (
    BeforeAfter,
    BeforeAfterNetwork,
    PicturePairs,
    calibrate_before_after,
)
from flow_rag_vla.failure.calibration import Calibration, split_successes
from flow_rag_vla.failure.perceptron import Layer
from flow_rag_vla.failure.trace import Trace
from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.train_probe import ProbeTraining

Array = NDArray[np.float32]

HIDDEN = (256, 256, 64)
DROPOUT = 0.1


def make_before_after(
    successes: Sequence[Trace],
    faulty: Sequence[Trace],
    calibration: Calibration,
    *,
    source: str = "",
    seed: int = 0,
    training: ProbeTraining | None = None,
    progress: Progress = silent,
) -> BeforeAfter:
    """The classifier beside a calibration, from the episodes and the seed with which ``make_calibration`` made that.

    It learns from the success episodes that scores and probe learned from; its band and the fused peaks come from those
    that were held out, which it never saw.

    Args:
        successes: undisturbed episodes; those that failed count as failures.
        faulty: episodes with faults, however they ended.
        calibration: made of the same episodes.
        source: where the episodes come from, in words.
        seed: of splits and weights.
        training: how it is learned.
        progress: told how far that is.

    Raises:
        CalibrationError: for too few success episodes.
        ValueError: if no episode failed.
    """
    training = training or ProbeTraining(seed=seed)
    split = split_successes(successes, with_probe=calibration.probe is not None, seed=seed)
    taught = (*split.bank, *split.probe)
    others = [*faulty, *(trace for trace in successes if not trace.info.success)]
    network = train_before_after(taught, others, training, progress=progress)
    return calibrate_before_after(
        network,
        calibration,
        split,
        successes=len(taught) + sum(trace.info.success for trace in others),
        failures=sum(not trace.info.success for trace in others),
        source=source,
        seed=seed,
    )


def pairs(trace: Trace) -> tuple[list[int], Array]:
    """Frames that have one from a second before, and (N, 2 D) float32: the embedding then and now."""
    pictures = PicturePairs()
    found = [pictures.pair(frame) for frame in trace.frames]
    rows = [row for row, pair in enumerate(found) if pair is not None]
    features = [pair for pair in found if pair is not None]
    return rows, np.stack(features) if features else np.zeros((0, 0), dtype=np.float32)


def train_before_after(
    successes: Sequence[Trace],
    faulty: Sequence[Trace],
    training: ProbeTraining | None = None,
    *,
    progress: Progress = silent,
) -> BeforeAfterNetwork:
    """Fit it on how episodes ended, from when a fault can be seen; each class is drawn as often as the other.

    As for the probe, only frames as old as success episodes of their task count: age alone is not to be learned.

    Raises:
        ValueError: if all episodes ended alike.
    """
    training = training or ProbeTraining()
    oldest: dict[str, float] = {}
    for trace in successes:
        if trace.info.success:
            oldest[trace.info.task] = max(oldest.get(trace.info.task, 0.0), trace.info.duration)
    features: list[Array] = []
    labels: list[float] = []
    weights: list[float] = []
    for trace in (*successes, *faulty):
        rows, found = pairs(trace)
        first = 0.0 if trace.info.success else trace.info.onset + training.delay
        last = oldest.get(trace.info.task, 0.0)
        kept = [place for place, row in enumerate(rows) if first <= trace.frames[row].elapsed <= last]
        features += [found[place] for place in kept]
        labels += [0.0 if trace.info.success else 1.0] * len(kept)
        weights += [1.0 / len(kept)] * len(kept)
    sides = [torch.nonzero(torch.tensor(labels) == label)[:, 0] for label in (1.0, 0.0)]
    if not all(len(side) for side in sides):
        raise ValueError(f"{len(sides[0])} pairs of failed episodes and {len(sides[1])} others: both are needed")
    return numpy_network(
        _fitted(
            torch.from_numpy(np.stack(features)), torch.tensor(labels), torch.tensor(weights), sides, training, progress
        )
    )


def numpy_network(network: nn.Sequential) -> BeforeAfterNetwork:
    """The same perceptron without torch: what runs, and what is saved."""
    linear = [module for module in network if isinstance(module, nn.Linear)]
    return BeforeAfterNetwork(
        [
            Layer(np.ascontiguousarray(layer.weight.detach().numpy().T), layer.bias.detach().numpy().copy())
            for layer in linear
        ]
    )


def torch_network(size: int) -> nn.Sequential:
    """Fresh weights for pairs of ``size`` numbers, drawn from torch's generator."""
    modules: list[nn.Module] = []
    for width in HIDDEN:
        modules += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(DROPOUT)]
        size = width
    return nn.Sequential(*modules, nn.Linear(size, 1))


def _fitted(
    features: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    sides: Sequence[torch.Tensor],
    training: ProbeTraining,
    progress: Progress,
) -> nn.Sequential:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = torch_network(features.shape[1]).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=training.weight_decay)
        for iteration in range(training.iterations):
            rows = torch.cat(
                [
                    side[torch.multinomial(weights[side], training.batch // 2, replacement=True, generator=generator)]
                    for side in sides
                ]
            )
            loss = nn.functional.binary_cross_entropy_with_logits(network(features[rows])[:, 0], labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if iteration % 50 == 49 or iteration + 1 == training.iterations:
                progress(iteration + 1, training.iterations, f"loss {float(loss.detach()):.3f}")
    return network
