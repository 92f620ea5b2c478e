# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A policy from few demonstrations: the declared gap on which a failure memory is measured.

With a few hundred demonstrations of each goal the tasks are solved and no memory can show anything. Twenty leave gaps
of the kind that a robot in a new place has, and cost two minutes. The encoder and its readout are those that ship.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.data.demonstrations import read_shard, shard_paths
from flow_rag_vla.learn.collect import collect, collect_jobs
from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.samples import chunk_samples, frames_of, joined_samples, write_samples
from flow_rag_vla.learn.train_policy import HORIZON, PolicyTraining, train_policy
from flow_rag_vla.policy.checkpoint import EncoderIdentity, PolicyConfig, load_checkpoint, save_checkpoint
from flow_rag_vla.policy.encoders import make_encoder

FIRST_SEED, SEEDS_APART = 80_000, 1_000
"""Scene seeds of the demonstrations of training seed 0, and between those of two training seeds."""

SAMPLES = "samples.npz"
"""The training data, kept in the policy's folder: a fine-tuning mixes it with what it adds."""


def train_from_few(
    folder: str | Path, demonstrations: int, seed: int, *, iterations: int = 3000, progress: Progress = silent
) -> str:
    """Train a policy on ``demonstrations`` of each goal, made anew; one process, one thread.

    Args:
        folder: gets the checkpoint, its samples and, below it, the demonstrations.
        demonstrations: of each goal.
        seed: of scenes, noise and initial weights: another seed is another robot's data.
        iterations: of the training.
        progress: told about the training's iterations.

    Returns:
        The checkpoint's revision.
    """
    root = Path(folder)
    jobs = collect_jobs(
        dict.fromkeys(task_names(), demonstrations),
        root / "demonstrations",
        first_seed=FIRST_SEED + SEEDS_APART * seed,
        seed=seed,
    )
    collect(jobs, workers=1)
    encoder = make_encoder("compact")
    parts = []
    for path in shard_paths(root / "demonstrations"):
        for item in read_shard(path):
            frames = frames_of(item)
            embeddings = encoder.encode_batch({camera: frames.images[camera] for camera in encoder.cameras})
            parts.append(chunk_samples(item, frames, np.asarray(embeddings), HORIZON))
    samples = joined_samples(parts)
    write_samples(root / SAMPLES, samples)
    shipped, _, _ = load_checkpoint(None)
    training = PolicyTraining(iterations=iterations, seed=seed)
    network = train_policy(samples, shipped.readout, training, progress=progress)
    config = PolicyConfig(
        encoder=EncoderIdentity(encoder.name, encoder.revision, encoder.dimension),
        velocity=network.velocity.config,
        readout=network.readout.config,
        training={"demonstrations": demonstrations, "seed": seed, "iterations": iterations},
    )
    return save_checkpoint(network, config, root)
