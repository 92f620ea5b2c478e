# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A policy trained further on what was recorded: what an expert or a person showed, or its own successes.

The encoder and the readout stay as they are, so recordings need no true poses. Half of each batch is what the policy
was trained on before, where its folder keeps that: what it knows of other tasks would be lost otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.core.files import write_text
from flow_rag_vla.data.demonstrations import Demonstration, DemonstrationError
from flow_rag_vla.learn.few_demonstrations import SAMPLES
from flow_rag_vla.learn.fine_tune import fine_tune
from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.samples import (
    ChunkSamples,
    chunk_samples,
    frames_of,
    joined_samples,
    read_samples,
    write_samples,
)
from flow_rag_vla.policy.checkpoint import SHIPPED_POLICY, load_checkpoint
from flow_rag_vla.policy.encoders import Encoder
from flow_rag_vla.policy.policy import FlowPolicy

BATCH = 64
"""Frames that are embedded at once."""

NOTE = "recordings.json"
"""In the new checkpoint's folder: what it was trained on."""


@dataclass(frozen=True, slots=True)
class RecordedTraining:
    """What came of a training on recordings.

    episodes: how many of each instruction; samples: situations with a chunk; before: those of the earlier training
    start, revision: of the policy that it began with, and of the one that it made
    """

    episodes: Mapping[str, int]
    samples: int
    before: int
    start: str
    revision: str


def recorded_samples(
    demonstrations: Iterable[Demonstration], encoder: Encoder, horizon: int
) -> tuple[ChunkSamples, dict[str, int]]:
    """Samples of recorded episodes, and how many episodes there are of each instruction.

    Raises:
        DemonstrationError: if nothing can be learned from, or a camera of the encoder was not recorded.
    """
    parts: list[ChunkSamples] = []
    episodes: dict[str, int] = {}
    for item in demonstrations:
        missing = [camera for camera in encoder.cameras if camera not in item.images]
        if missing:
            raise DemonstrationError(
                f"recording {item.label} has no pictures of {', '.join(missing)}, which the encoder {encoder.name} "
                "needs; record with the profile graph or everything"
            )
        frames = frames_of(item)
        embeddings = np.concatenate(
            [
                encoder.encode_batch({camera: item.images[camera][first : first + BATCH] for camera in encoder.cameras})
                for first in range(0, len(frames), BATCH)
            ]
        )
        parts.append(chunk_samples(item, frames, embeddings, horizon))
        episodes[item.goal.instruction] = episodes.get(item.goal.instruction, 0) + 1
    if not sum(map(len, parts)):
        raise DemonstrationError(
            "the recordings hold nothing to learn from: no episode of a known task with pictures that succeeded; "
            "`flow_rag_vla dataset shards --failed` takes the others too"
        )
    return joined_samples(parts), episodes


def train_on_recordings(
    demonstrations: Iterable[Demonstration],
    encoder: Encoder,
    checkpoint: str | Path | None,
    folder: str | Path,
    *,
    iterations: int = 800,
    seed: int = 0,
    progress: Progress = silent,
) -> RecordedTraining:
    """Train a policy further on recorded episodes.

    Args:
        demonstrations: see ``learn.bag_demonstrations``.
        encoder: the one that the policy was trained on.
        checkpoint: folder of the policy to begin with; None: the one that ships.
        folder: gets the new checkpoint, its samples and a note of what it was trained on.
        iterations: steps of the training.
        seed: of its batches and noise.
        progress: told after each iteration.

    Raises:
        CheckpointError: for a policy that cannot be loaded, or that was trained on another encoder.
        DemonstrationError: if there is nothing to learn from.
    """
    start = SHIPPED_POLICY if checkpoint is None else Path(checkpoint).expanduser()
    FlowPolicy.load(start).check_encoder(encoder.name, encoder.revision)
    _, config, before_revision = load_checkpoint(start)
    samples, episodes = recorded_samples(demonstrations, encoder, config.velocity.horizon)
    kept = start / SAMPLES
    before = read_samples(kept) if kept.is_file() else None
    made = Path(folder)
    revision = fine_tune(start, samples, before, made, iterations=iterations, seed=seed, progress=progress)
    # The next training knows these too.
    write_samples(made / SAMPLES, samples if before is None else joined_samples([before, samples]))
    done = RecordedTraining(episodes, len(samples), 0 if before is None else len(before), before_revision, revision)
    write_text(made / NOTE, json.dumps(asdict(done) | {"iterations": iterations, "seed": seed}, indent=2) + "\n")
    return done
