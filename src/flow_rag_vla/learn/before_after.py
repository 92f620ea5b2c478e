"""The classifier that the project began with: two pictures, one before and one after, and whether something failed.

A perceptron on both embeddings. It knows neither goal nor phase nor what the hand feels, so it is no part of the
running detector: ``flow_rag_vla bench detection`` trains it on the same episodes as the monitor's probe and prints it
beside that, as the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.failure.trace import Trace
from flow_rag_vla.learn.train_probe import ProbeTraining

Array = NDArray[np.float32]

NAME = "before and after (baseline)"

APART_S = 1.0
"""Seconds between the two pictures: about what a chunk and its way to the robot take."""

HIDDEN = (256, 256, 64)
DROPOUT = 0.1


class BeforeAfter:
    """A trained classifier."""

    def __init__(self, network: nn.Sequential) -> None:
        self._network = network.eval()

    def logits(self, trace: Trace) -> NDArray[np.float64]:
        """(F,) of the frames of an episode; NaN where there is no picture from before."""
        found = np.full(len(trace.frames), np.nan)
        rows, features = pairs(trace)
        if rows:
            with torch.no_grad():
                found[rows] = self._network(torch.from_numpy(features))[:, 0].numpy()
        return found


def pairs(trace: Trace) -> tuple[list[int], Array]:
    """Frames that have one from ``APART_S`` before, and (N, 2 D) float32: the embedding then and now."""
    times = np.array([frame.elapsed for frame in trace.frames])
    before = np.searchsorted(times, times - APART_S + 1e-6, side="right") - 1
    rows = [row for row, place in enumerate(before) if place >= 0]
    if not rows:
        return [], np.zeros((0, 0), dtype=np.float32)
    embeddings = np.stack([frame.embedding for frame in trace.frames]).astype(np.float32)
    return rows, np.concatenate([embeddings[before[rows]], embeddings[rows]], axis=1)


def train_before_after(
    successes: Sequence[Trace], faulty: Sequence[Trace], training: ProbeTraining | None = None
) -> BeforeAfter:
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
    return BeforeAfter(
        _fitted(torch.from_numpy(np.stack(features)), torch.tensor(labels), torch.tensor(weights), sides, training)
    )


def _fitted(
    features: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    sides: Sequence[torch.Tensor],
    training: ProbeTraining,
) -> nn.Sequential:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        modules: list[nn.Module] = []
        size = features.shape[1]
        for width in HIDDEN:
            modules += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(DROPOUT)]
            size = width
        network = nn.Sequential(*modules, nn.Linear(size, 1)).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=training.weight_decay)
        for _ in range(training.iterations):
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
    return network
