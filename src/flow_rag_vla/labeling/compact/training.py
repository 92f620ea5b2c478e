# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the shipped network on the simulator's own segmentation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.labeling.compact.categories import ALONE, CATEGORIES
from flow_rag_vla.labeling.compact.network import OFFSET_UNIT, CompactConfig, CompactNetwork, on_grid, working_size
from flow_rag_vla.labeling.compact.pooling import pooled_features
from flow_rag_vla.labeling.compact.scenes import FRAMES_A_SCENE, TRAINING_SEEDS, labelled_frames
from flow_rag_vla.labeling.compact.truth import TruthFrame
from flow_rag_vla.learn.progress import Progress, silent

_Bytes = NDArray[np.uint8]

IGNORED = 255
"""Class value of pixels that say nothing: those beyond a picture's edge."""
THING_WEIGHT, ALONE_WEIGHT = 3.0, 1.5
"""Of a pixel of a loose thing, and of a robot's or a zone's, beside one of the ground: they are few."""
VOTE_WEIGHT = 0.3
FINE = 8
"""Fine feature maps of a new network."""
NOISY_SHARE = 0.5
"""Of the pictures, those that get noise while learning."""
SMALLEST_SCALE, LARGEST_SCALE = 0.8, 1.2
"""Of a picture beside its working size, while learning."""


@dataclass(frozen=True, slots=True)
class CompactTraining:
    """Length and pace of training.

    scenes: simulated layouts, each seen ``FRAMES_A_SCENE`` times; noise: deviation of pixel noise, 0..1
    crop: side of the squares learned from, pixels of the grid
    """

    scenes: int = 300
    iterations: int = 2400
    batch: int = 6
    crop: int = 192
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    noise: float = 0.015
    seed: int = 0


def collect(training: CompactTraining, progress: Progress = silent) -> list[TruthFrame]:
    """Render the training frames."""
    total = training.scenes * FRAMES_A_SCENE
    frames = []
    for index, frame in enumerate(labelled_frames(TRAINING_SEEDS + training.seed * 10_000, training.scenes)):
        frames.append(frame)
        if index % 10 == 9 or index + 1 == total:
            progress(index + 1, total)
    return frames


def train_compact(
    frames: Sequence[TruthFrame],
    config: CompactConfig | None = None,
    training: CompactTraining | None = None,
    *,
    start: CompactNetwork | None = None,
    progress: Progress = silent,
) -> CompactNetwork:
    """Train the network, then fit its embedding; the same frames and seed give the same network on one machine.

    start: a network to go on from, which is changed; None: a new one.

    Raises:
        ValueError: without frames.
    """
    if not frames:
        raise ValueError("no frames to learn from; collect some first")
    config, training = config or CompactConfig(CATEGORIES, fine=FINE), training or CompactTraining()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = start or CompactNetwork(config)
    config = network.config
    network.requires_grad_(True).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=training.learning_rate, total_steps=training.iterations, pct_start=0.15
    )
    weights = torch.tensor([1.0, *(ALONE_WEIGHT if name in ALONE else THING_WEIGHT for name in config.categories)])
    rng = np.random.default_rng([training.seed, 2])
    running = math.nan
    begin = time.process_time()
    for iteration in range(training.iterations):
        planes, classes, votes, voting = _batch(frames, config, training, rng)
        logits, guessed, _ = network(planes)
        loss = covered_entropy(logits, classes, weights)
        loss = loss + VOTE_WEIGHT * ((guessed - votes).abs().sum(dim=1) * voting).sum() / voting.sum().clamp(min=1.0)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.97 * running + 0.03 * value
        progress(iteration + 1, training.iterations, f"loss {running:.4f}, {time.process_time() - begin:.0f} s CPU")
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    fit_embedding(network, frames[:: max(1, len(frames) // 200)])
    return network


def covered_entropy(logits: torch.Tensor, classes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross entropy where a pixel of the grid is of several classes, each by the share that it covers.

    Shares tell where between two pixels a rim runs; the class of the middle alone does not.

    Args:
        logits: (B, 1 + C, h, w).
        classes: (B, d h, d w) int64, ``IGNORED`` where nothing is known; d is 1 or 2.
        weights: (1 + C,) of the classes.
    """
    likelihoods = logits.log_softmax(dim=1)
    known = torch.cat([weights, weights.new_zeros(1)])
    total, share = logits.new_zeros(()), logits.new_zeros(())
    detail = classes.shape[1] // logits.shape[2]
    for row in range(detail):
        for column in range(detail):
            part = classes[:, row::detail, column::detail]
            weight = known[part.clamp(max=len(weights))]
            picked = likelihoods.gather(1, part.clamp(max=len(weights) - 1)[:, None])[:, 0]
            total = total - (weight * picked).sum()
            share = share + weight.sum()
    return total / share.clamp(min=1.0)


@torch.inference_mode()
def fit_embedding(network: CompactNetwork, frames: Iterable[TruthFrame]) -> None:
    """Set the embedding to the principal parts of what things look like, each of deviation one, centred.

    Cosines then compare what differs between things instead of what all pictures share.
    """
    config = network.config
    rows = []
    for frame in frames:
        height, width = frame.classes.shape
        size = working_size(width, height, config.pixels, config.detail)
        image, _, instances = _scaled(frame, (0.0, 0.0, float(width), float(height)), size)
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
        _, _, features = network(planes)
        small = instances[:: config.detail, :: config.detail]
        masks = [small == index for index in range(1, int(small.max()) + 1)]
        masks = [mask for mask in masks if np.count_nonzero(mask) >= 12]
        if masks:
            own = tuple(part[0] for part in features)
            rows.append(pooled_features(on_grid(planes[0], config), own, torch.from_numpy(np.stack(masks))))
    samples = torch.cat(rows).double()
    mean = samples.mean(dim=0)
    deviation = samples.std(dim=0).clamp(min=1e-4)
    scaled = (samples - mean) / deviation
    _, strength, axes = torch.linalg.svd(scaled, full_matrices=False)
    count = min(network.config.dimension, len(strength))
    spread = (strength[:count] / math.sqrt(max(1, len(samples) - 1))).clamp(min=0.1)
    # Parts of hardly any spread are noise: they are not blown up to the size of the others.
    matrix = torch.zeros(network.config.dimension, samples.shape[1], dtype=torch.float64)
    matrix[:count] = axes[:count] / spread.sqrt()[:, None] / deviation
    network.embedding.weight.copy_(matrix)
    network.embedding.bias.copy_(-(matrix @ mean))


def _batch(
    frames: Sequence[TruthFrame], config: CompactConfig, training: CompactTraining, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    images, classes, votes, voting = [], [], [], []
    for _ in range(training.batch):
        frame = frames[int(rng.integers(len(frames)))]
        image, kinds, things = _square(frame, config, training.crop, rng)
        if rng.random() < 0.5:
            image, kinds, things = image[:, ::-1], kinds[:, ::-1], things[:, ::-1]
        grid = (slice(None, None, config.detail), slice(None, None, config.detail))
        vote, counted = centre_votes(things[grid], np.where(kinds == IGNORED, 0, kinds)[grid])
        images.append(_disturbed(image, training, rng))
        classes.append(np.ascontiguousarray(kinds))
        votes.append(vote)
        voting.append(counted)
    planes = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return (
        planes,
        torch.from_numpy(np.stack(classes)).long(),
        torch.from_numpy(np.stack(votes)),
        torch.from_numpy(np.stack(voting)),
    )


def _square(
    frame: TruthFrame, config: CompactConfig, side: int, rng: np.random.Generator
) -> tuple[_Bytes, _Bytes, _Bytes]:
    """A square of a frame at about its working size: image, classes, instances; empty beyond a picture's edge."""
    height, width = frame.classes.shape
    side *= config.detail
    scale = config.detail * (config.pixels / (width * height)) ** 0.5 * rng.uniform(SMALLEST_SCALE, LARGEST_SCALE)
    # In working pixels; what the picture has of the square, at least a few pixels.
    wide, high = min(side, int(width * scale)), min(side, int(height * scale))
    left, top = rng.uniform(0.0, width - wide / scale), rng.uniform(0.0, height - high / scale)
    box = (left, top, min(left + wide / scale, float(width)), min(top + high / scale, float(height)))
    parts = _scaled(frame, box, (wide, high))
    if (wide, high) == (side, side):
        return parts
    image, classes, instances = (
        np.full((side, side, *part.shape[2:]), value, np.uint8)
        for part, value in zip(parts, (128, IGNORED, 0), strict=True)
    )
    for whole, part in zip((image, classes, instances), parts, strict=True):
        whole[:high, :wide] = part
    return image, classes, instances


def _scaled(
    frame: TruthFrame, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[_Bytes, _Bytes, _Bytes]:
    """Image, classes and instances of a part of a frame, scaled to (width, height) as inference scales pictures."""
    from PIL import Image as Pillow

    image, classes, instances = (
        np.array(Pillow.fromarray(part).resize(size, how, box=box))
        for part, how in (
            (frame.image, Pillow.Resampling.BILINEAR),
            (frame.classes, Pillow.Resampling.NEAREST),
            (frame.instances, Pillow.Resampling.NEAREST),
        )
    )
    return image, classes, instances


def centre_votes(
    instances: NDArray[np.uint8], classes: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of the grid shall vote for, and how much it counts, at half the grid's size.

    Returns:
        (2, h / 2, w / 2) float32 in units of ``OFFSET_UNIT`` to the middle of the visible part of the pixel's thing;
        (h / 2, w / 2) float32, 1 where the thing may have a twin, more for small ones, else 0.
    """
    small, kinds = instances[::2, ::2], classes[::2, ::2]
    rows, columns = np.indices(small.shape, dtype=np.float32)
    count = np.bincount(small.ravel(), minlength=256).astype(np.float32)
    row = np.bincount(small.ravel(), weights=rows.ravel(), minlength=256) / np.maximum(count, 1.0)
    column = np.bincount(small.ravel(), weights=columns.ravel(), minlength=256) / np.maximum(count, 1.0)
    vote = np.stack([column[small] - columns, row[small] - rows]) * (2.0 / OFFSET_UNIT)
    alone = np.asarray([True] + [name in ALONE for name in CATEGORIES])
    weight = np.where(alone[kinds], 0.0, np.clip(300.0 / np.maximum(count[small], 1.0), 0.3, 3.0))
    return vote.astype(np.float32), weight.astype(np.float32)


def _disturbed(image: NDArray[np.uint8], training: CompactTraining, rng: np.random.Generator) -> NDArray[np.float32]:
    values = image.astype(np.float32) / 255.0
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)
    values *= gain.astype(np.float32)
    values += np.float32(rng.uniform(-0.05, 0.05))
    if rng.random() < NOISY_SHARE:
        noise = np.float32(rng.random() * training.noise * 1.7)
        values += noise * rng.standard_normal(values.shape, dtype=np.float32)
    clipped: NDArray[np.float32] = np.clip(values, 0.0, 1.0)
    return clipped
