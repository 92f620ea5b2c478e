# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as flat training arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.demonstrations import Demonstration
from flow_rag_vla.policy.action_space import FREE_DIM, normalised
from flow_rag_vla.policy.observation import ENTITIES, proprioception, relative_reading


@dataclass(frozen=True, slots=True)
class Frames:
    """N camera frames with what is true about them.

    images: camera to (N, H, W, 3) uint8; proprioception: (N, P) float32; reading: (N, READING_DIM) float32
    poses: (N, E, 4) float32 metres and radians in the base frame; present: (N, E) bool; goal: (N,) int64
    """

    images: Mapping[str, NDArray[np.uint8]]
    proprioception: NDArray[np.float32]
    reading: NDArray[np.float32]
    poses: NDArray[np.float32]
    present: NDArray[np.bool_]
    goal: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames."""
        return int(self.goal.shape[0])

    def without_images(self) -> Frames:
        """The same frames, their pictures let go."""
        return Frames({}, self.proprioception, self.reading, self.poses, self.present, self.goal)

    def take(self, rows: NDArray[np.int64] | slice) -> Frames:
        """Some of the frames."""
        return Frames(
            {camera: pictures[rows] for camera, pictures in self.images.items()},
            self.proprioception[rows],
            self.reading[rows],
            self.poses[rows],
            self.present[rows],
            self.goal[rows],
        )


@dataclass(frozen=True, slots=True)
class ChunkSamples:
    """N situations, each with the chunk that was demonstrated.

    embedding: (N, D) float32; proprioception: (N, P) float32; goal: (N,) int64
    chunks: (N, H, FREE_DIM) float32 normalised; reading: (N, READING_DIM) float32, the truth
    """

    embedding: NDArray[np.float32]
    proprioception: NDArray[np.float32]
    goal: NDArray[np.int64]
    chunks: NDArray[np.float32]
    reading: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of samples."""
        return int(self.goal.shape[0])


def frames_of(demonstration: Demonstration) -> Frames:
    """All frames of one episode."""
    count = demonstration.frame_ticks.shape[0]
    felt, readings = [], []
    present = np.zeros((count, len(ENTITIES)), dtype=np.bool_)
    for index, tick in enumerate(demonstration.frame_ticks):
        state = demonstration.state(int(tick))
        felt.append(proprioception(state))
        reading, present[index] = _reading(demonstration, index, state)
        readings.append(reading)
    return Frames(
        images=demonstration.images,
        proprioception=np.stack(felt),
        reading=np.stack(readings),
        poses=np.nan_to_num(demonstration.poses),
        present=present,
        goal=np.full(count, demonstration.goal.index, dtype=np.int64),
    )


def joined_frames(parts: Iterable[Frames]) -> Frames:
    """Frames of several episodes, one after the other."""
    items = list(parts)
    return Frames(
        {camera: np.concatenate([item.images[camera] for item in items]) for camera in items[0].images},
        np.concatenate([item.proprioception for item in items]),
        np.concatenate([item.reading for item in items]),
        np.concatenate([item.poses for item in items]),
        np.concatenate([item.present for item in items]),
        np.concatenate([item.goal for item in items]),
    )


def chunk_samples(
    demonstration: Demonstration, frames: Frames, embeddings: NDArray[np.float32], horizon: int
) -> ChunkSamples:
    """The frames of an episode from which a whole chunk may be learned."""
    rows: list[int] = []
    chunks: list[NDArray[np.float32]] = []
    for index, tick in enumerate(demonstration.frame_ticks):
        chunk = demonstration.chunk(int(tick), horizon)
        if chunk is not None:
            rows.append(index)
            chunks.append(normalised(chunk))
    empty = np.zeros((0, horizon, FREE_DIM), dtype=np.float32)
    return ChunkSamples(
        embedding=embeddings[rows],
        proprioception=frames.proprioception[rows],
        goal=frames.goal[rows],
        chunks=np.stack(chunks) if chunks else empty,
        reading=frames.reading[rows],
    )


def joined_samples(parts: Iterable[ChunkSamples]) -> ChunkSamples:
    """Samples of several episodes, one after the other."""
    items = list(parts)
    return ChunkSamples(
        np.concatenate([item.embedding for item in items]),
        np.concatenate([item.proprioception for item in items]),
        np.concatenate([item.goal for item in items]),
        np.concatenate([item.chunks for item in items]),
        np.concatenate([item.reading for item in items]),
    )


def write_samples(path: str | Path, samples: ChunkSamples) -> None:
    """Keep samples in one ``.npz`` of plain arrays, whole or not at all."""
    with replaced_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{entry.name: getattr(samples, entry.name) for entry in fields(samples)})


def read_samples(path: str | Path) -> ChunkSamples:
    """The samples that ``write_samples`` kept."""
    with np.load(path, allow_pickle=False) as archive:
        return ChunkSamples(**{entry.name: archive[entry.name] for entry in fields(ChunkSamples)})


def _reading(
    demonstration: Demonstration, frame: int, state: RobotState
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    entities = {}
    for name, pose in zip(demonstration.entities, demonstration.poses[frame], strict=True):
        if np.isfinite(pose).all():
            entities[name] = (pose[:3].astype(np.float64), float(pose[3]))
    return relative_reading(state, entities)
