# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Objects for the benchmark: classes of very different sizes, vectors that lie in clusters as real ones do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import Embedder, ImageDraft, ObjectDraft, SourceDraft, SourceKind

DIMENSION = 384
EMBEDDER = Embedder("generated", "1", DIMENSION)
SHARES = (0.35, 0.22, 0.15, 0.1, 0.07, 0.045, 0.03, 0.018, 0.01, 0.004, 0.0015, 0.001, 0.0005)
"""Of all objects by class, the rest falls to the first; the rarest has at least ``RAREST``."""
RAREST = 30
CLUSTERS = 2_000
BOUND = 0.7
"""Share of objects whose class follows from their cluster, as it does where embeddings tell classes apart."""
NOISE = 0.6
BATCH, SMALL_BATCH = 5_000, 500
"""Objects a call: of a bulk registration, and of one that shares the registry with others."""
WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True, slots=True)
class World:
    """What vectors and classes are drawn from.

    centres: (clusters, D); class_of: (clusters,) the class that a cluster's objects mostly have
    """

    centres: NDArray[np.float32]
    class_of: NDArray[np.int64]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> World:
        """Random centres of unit length, each with a class drawn by its share."""
        centres = rng.normal(size=(CLUSTERS, DIMENSION)).astype(np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        return cls(centres, rng.choice(len(SHARES), CLUSTERS, p=np.array(SHARES) / sum(SHARES)))

    def vectors(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Vectors (count, D) of unit length and their classes (count,)."""
        clusters = rng.integers(CLUSTERS, size=count)
        noise = rng.normal(size=(count, DIMENSION)).astype(np.float32) * (NOISE / np.sqrt(DIMENSION))
        vectors = self.centres[clusters] + noise.astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        random = rng.choice(len(SHARES), count, p=np.array(SHARES) / sum(SHARES))
        return vectors, np.where(rng.random(count) < BOUND, self.class_of[clusters], random)


def category(number: int) -> str:
    """Name of a class; the last is the rarest."""
    return f"class_{number:02d}"


def fill(
    registry: Registry, count: int, seed: int, tick: Callable[[int], None], *, batch_size: int = BATCH, name: str = ""
) -> tuple[float, float]:
    """Register objects with vectors; give the seconds of registering alone, and of the processor.

    Args:
        registry: into which.
        count: how many.
        seed: of vectors, classes and scores.
        tick: told how many were registered.
        batch_size: objects a call.
        name: of their sources; another name makes others.
    """
    rng = np.random.default_rng(seed)
    world = World.drawn(rng)
    wall = processor = 0.0
    for batch in batches(registry, world, rng, count, batch_size=batch_size, name=name):
        start, started = time.perf_counter(), time.process_time()
        registry.register(batch, who="benchmark")
        wall += time.perf_counter() - start
        processor += time.process_time() - started
        tick(len(batch))
    return wall, processor


def batches(
    registry: Registry, world: World, rng: np.random.Generator, count: int, *, batch_size: int = BATCH, name: str = ""
) -> Iterator[list[ObjectDraft]]:
    """Batches of objects, 10 an image, 1000 images a source."""
    images: list[str] = []
    made, rare = 0, max(1, count // max(RAREST, 1))
    while made < count:
        size = min(batch_size, count - made)
        if len(images) * 10 < size:
            path = f"/generated/{name}{made}"
            source = registry.add_source(SourceDraft(SourceKind.VIDEO, path, episode=path))
            frames = [ImageDraft("camera", WIDTH, HEIGHT, frame=n, stamp_ns=made + n) for n in range(1_000)]
            images = [image.image_id for image in registry.add_images(source.source_id, frames)]
        vectors, classes = world.vectors(rng, size)
        numbers = np.arange(made, made + size)
        classes[numbers % rare == rare - 1] = len(SHARES) - 1
        scores = rng.random(size)
        corners = rng.random((size, 2)) * (WIDTH - 100, HEIGHT - 100)
        yield [
            ObjectDraft(
                image_id=images[n // 10],
                category=category(int(classes[n])),
                box=(corners[n, 0], corners[n, 1], corners[n, 0] + 50, corners[n, 1] + 40),
                score=float(scores[n]),
                score_kind=ScoreKind.SIGMOID,
                origin=Origin("generated", "1"),
                embedding=vectors[n],
                embedder=EMBEDDER,
                attributes={"number": int(numbers[n]) % 97},
            )
            for n in range(size)
        ]
        images = images[(size + 9) // 10 :]
        made += size
