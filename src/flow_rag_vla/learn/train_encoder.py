# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the compact encoder and the readout: the embedding must tell where everything is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.samples import Frames
from flow_rag_vla.policy.encoders.base import CAMERAS
from flow_rag_vla.policy.encoders.compact import CompactConfig, CompactNetwork
from flow_rag_vla.policy.observation import (
    CENTRE,
    ENTITIES,
    ENTITY_DIM,
    SITUATION_COLUMNS,
    YAW_SYMMETRY,
)
from flow_rag_vla.policy.readout import Readout, ReadoutConfig

YAW_WEIGHT = 0.6
OTHER_WEIGHT = 0.5
"""What entities that the goal does not need weigh beside those that it does."""

LINEAR_WEIGHT = 0.2
"""The embedding alone, read linearly, must place things in the base frame: that makes it a key for memory too."""


@dataclass(frozen=True, slots=True)
class EncoderTraining:
    """Length and pace of training. noise: deviation of pixel noise (0..1); jitter: of brightness and contrast."""

    iterations: int = 1500
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    noise: float = 0.01
    jitter: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ReadoutErrors:
    """Median errors on frames that were not trained on: position (metres) and heading (radians) by entity."""

    position: dict[str, float]
    near_position: dict[str, float]
    heading: dict[str, float]


class PoseReader(nn.Module):
    """What is trained: the encoder, the readout relative to the tool, a linear readout in the base frame."""

    def __init__(self, encoder: CompactNetwork, readout: Readout) -> None:
        super().__init__()
        self.encoder = encoder
        self.readout = readout
        self.linear = nn.Linear(encoder.config.dimension, 3 * len(ENTITIES))


def train_encoder(
    frames: Frames,
    config: CompactConfig | None = None,
    training: EncoderTraining | None = None,
    *,
    progress: Progress = silent,
) -> tuple[CompactNetwork, Readout]:
    """Train encoder and readout together on frames whose truth is known."""
    config, training = config or CompactConfig(), training or EncoderTraining()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        reader = PoseReader(CompactNetwork(config), Readout(ReadoutConfig(config.dimension)))
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(reader.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=training.learning_rate, total_steps=training.iterations, pct_start=0.1
    )
    rng = np.random.default_rng(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    running = math.nan
    for iteration in range(training.iterations):
        if order.size < training.batch:
            order = np.concatenate([order, rng.permutation(len(frames))])
        rows, order = order[: training.batch], order[training.batch :]
        loss = reading_loss(reader, frames.take(np.sort(rows)), training, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.98 * running + 0.02 * value
        progress(iteration + 1, training.iterations, f"loss {running:.4f}")
    reader.eval().requires_grad_(False)
    reader.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return reader.encoder, reader.readout


def train_readout(
    embeddings: NDArray[np.float32],
    frames: Frames,
    training: EncoderTraining | None = None,
    *,
    progress: Progress = silent,
) -> Readout:
    """Train a readout alone, on embeddings (N, D) of an encoder that stays as it is."""
    training = training or EncoderTraining()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        readout = Readout(ReadoutConfig(embeddings.shape[1]))
    optimiser = torch.optim.AdamW(readout.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=training.learning_rate, total_steps=training.iterations, pct_start=0.1
    )
    rng = np.random.default_rng(training.seed)
    for iteration in range(training.iterations):
        rows = np.sort(rng.integers(len(frames), size=4 * training.batch))
        some = frames.take(rows)
        reading = readout(torch.from_numpy(embeddings[rows]), torch.from_numpy(some.proprioception))
        weights = entity_weights(some)
        loss = (weights * _reading_errors(reading, some)).sum() / weights.sum().clamp(min=1.0)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress(iteration + 1, training.iterations, f"loss {float(loss.detach()):.4f}")
    return readout.eval().requires_grad_(False)


def reading_loss(
    reader: PoseReader, frames: Frames, training: EncoderTraining, generator: torch.Generator
) -> torch.Tensor:
    """How far the readouts are from the truth, nearer things weighing more, absent ones nothing."""
    planes = {camera: _disturbed(frames.images[camera], training, generator) for camera in CAMERAS}
    embedding = reader.encoder(planes)
    reading = reader.readout(embedding, torch.from_numpy(frames.proprioception))
    weights = entity_weights(frames)
    base = reader.linear(embedding).reshape(-1, len(ENTITIES), 3)
    base_truth = (torch.from_numpy(frames.poses[..., :3]) - torch.from_numpy(CENTRE).float()) / 0.1
    linear = (base - base_truth).abs().mean(dim=-1)
    total = weights * (_reading_errors(reading, frames) + LINEAR_WEIGHT * linear)
    mean: torch.Tensor = total.sum() / weights.sum().clamp(min=1.0)
    return mean


def _reading_errors(reading: torch.Tensor, frames: Frames) -> torch.Tensor:
    """(N, E): the error of each entity's place and heading."""
    truth = torch.from_numpy(frames.reading).reshape(-1, len(ENTITIES), ENTITY_DIM)
    found = reading.reshape(truth.shape)
    distance = truth[..., :3].norm(dim=-1, keepdim=True)
    # A centimetre matters where the hand is about to close, not half a metre away.
    error = (found[..., :3] - truth[..., :3]) / (0.02 + 0.15 * distance)
    place = nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=0.1).mean(dim=-1)
    turn = (found[..., 3:] - truth[..., 3:]).pow(2).mean(dim=-1) * torch.tensor(_HAS_HEADING)
    return place + YAW_WEIGHT * turn


def entity_weights(frames: Frames) -> torch.Tensor:
    """(N, E) float32: 1 for what the goal needs, ``OTHER_WEIGHT`` for what is merely there, 0 for what is not."""
    needed = np.zeros(frames.present.shape, dtype=np.float32)
    columns = SITUATION_COLUMNS[frames.goal] // ENTITY_DIM
    np.put_along_axis(needed, columns, 1.0, axis=1)
    return torch.from_numpy(np.where(needed > 0, 1.0, OTHER_WEIGHT).astype(np.float32) * frames.present)


@torch.inference_mode()
def readout_errors(readings: NDArray[np.float32], frames: Frames) -> ReadoutErrors:
    """Median errors of ``readings`` (N, READING_DIM) against the truth; near: within 10 cm of the tool."""
    found = readings.reshape(-1, len(ENTITIES), ENTITY_DIM)
    truth = frames.reading.reshape(found.shape)
    position: dict[str, float] = {}
    near: dict[str, float] = {}
    heading: dict[str, float] = {}
    for index, name in enumerate(ENTITIES):
        rows = frames.present[:, index]
        if not rows.any():
            continue
        error = np.linalg.norm(found[rows, index, :3] - truth[rows, index, :3], axis=-1)
        position[name] = float(np.median(error))
        close = np.linalg.norm(truth[rows, index, :3], axis=-1) < 0.1
        if close.any():
            near[name] = float(np.median(error[close]))
        if YAW_SYMMETRY[name]:
            a, b = found[rows, index, 3:], truth[rows, index, 3:]
            angle = np.arctan2(a[:, 1], a[:, 0]) - np.arctan2(b[:, 1], b[:, 0])
            wrapped = np.abs((angle + np.pi) % (2 * np.pi) - np.pi) / YAW_SYMMETRY[name]
            heading[name] = float(np.median(wrapped))
    return ReadoutErrors(position, near, heading)


def _disturbed(pictures: NDArray[np.uint8], training: EncoderTraining, generator: torch.Generator) -> torch.Tensor:
    planes = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0
    gain, offset = (training.jitter * torch.randn((len(pictures), 1, 1, 1), generator=generator) for _ in range(2))
    # One noise picture serves the whole batch: drawing one for each costs a tenth of the training time.
    noise = training.noise * torch.randn((1, *planes.shape[1:]), generator=generator)
    mixed = (planes * (1.0 + gain) + offset + noise).clamp(0.0, 1.0)
    return mixed.contiguous(memory_format=torch.channels_last)


_HAS_HEADING = [1.0 if YAW_SYMMETRY[name] else 0.0 for name in ENTITIES]
