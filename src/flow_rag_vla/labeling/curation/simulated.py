# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pools whose truth is known: what the shipped detector proposes in simulated pictures, and what each really is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.compact.model import CompactModel
from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS, labelled_frames
from flow_rag_vla.labeling.curation.pool import Pool
from flow_rag_vla.labeling.curation.probe import NOTHING
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.detectors.compact import CompactDetector
from flow_rag_vla.labeling.pipeline.boxes import mask_overlap
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.registry.values import Embedder, ReviewState
from flow_rag_vla.learn.progress import Progress, silent

SEEDS = TEST_SEEDS + 500_000
"""First seed of the scenes, which no training and no other benchmark has seen."""
SIZE = (320, 240)
THRESHOLD = 0.1
"""Least score of a proposal: low, so that the annotator also meets what is not there."""
SAME = 0.5
"""Least overlap of masks with a true thing, for a proposal to be it; else it is nothing."""
POSES = 4


@dataclass(frozen=True, slots=True)
class TruePool:
    """A pool whose every object an annotator would call ``truth`` (N names, ``NOTHING`` for what is not there).

    scenes: (N,) int64, which scene each is from; images: the pictures by id
    """

    pool: Pool
    truth: tuple[str, ...]
    scenes: NDArray[np.int64]
    images: dict[str, Image]


def simulated_pool(
    scenes: int, *, first_seed: int = SEEDS, poses: int = POSES, progress: Progress = silent
) -> TruePool:
    """What the shipped detector proposes in ``poses`` pictures of each of some held-out scenes, with the truth."""
    detector = CompactDetector(CompactModel.load())
    made = Collected()
    frames = labelled_frames(first_seed, scenes, frames_a_scene=poses, size=SIZE)
    for number, frame in enumerate(frames):
        found = detector.detect([frame.image], (), THRESHOLD)[0]
        real, _ = frame.things()
        made.add(f"{number:032x}", number // poses, frame.image, found, true_names(found, real))
        progress(number + 1, scenes * poses, "pictures")
    return made.pool(Embedder(detector.name, detector.revision, detector.model.dimension))


def true_names(found: Detections, real: Detections) -> list[str]:
    """What each of N found things is: the label of the true thing that its mask covers best, or ``NOTHING``."""
    assert found.masks is not None and real.masks is not None
    names = []
    for mask in found.masks:
        shared = [mask_overlap(mask, other) for other in real.masks]
        best = int(np.argmax(shared)) if shared else -1
        names.append(real.labels[best] if shared and shared[best] >= SAME else NOTHING)
    return names


class Collected:
    """Pictures with what was found in them, on their way to a pool."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rows: list[tuple[str, int, str, str, float]] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._images: dict[str, Image] = {}

    def add(self, image_id: str, scene: int, image: Image, found: Detections, truth: list[str]) -> None:
        """Take in one picture."""
        assert found.embeddings is not None
        self._images[image_id] = image
        self._vectors.append(found.embeddings)
        self._boxes.append(found.boxes)
        for label, name, score in zip(found.labels, truth, found.scores.tolist(), strict=True):
            self._rows.append((image_id, scene, label, name, score))

    def pool(self, embedder: Embedder) -> TruePool:
        """Everything, unreviewed."""
        count = len(self._rows)
        labels = tuple(row[2] for row in self._rows)
        pool = Pool(
            object_ids=tuple(f"{place:032x}" for place in range(count)),
            vectors=np.concatenate(self._vectors),
            labels=labels,
            proposed=labels,
            scores=np.array([row[4] for row in self._rows]),
            states=(ReviewState.UNREVIEWED,) * count,
            image_ids=tuple(row[0] for row in self._rows),
            source_ids=("",) * count,
            boxes=np.concatenate(self._boxes),
            stamps_ns=np.zeros(count, np.int64),
            embedder=embedder,
        )
        scenes = np.array([row[1] for row in self._rows], np.int64)
        return TruePool(pool, tuple(row[3] for row in self._rows), scenes, self._images)


RETAKEN_EVERY = 3
RETAKEN_MARK = "a"
"""First digit of the ids of pictures that were taken again; those of the others begin with 0."""


def retaken_pool(found: TruePool) -> TruePool:
    """Every third picture of a pool as a camera would take it a moment later: a little light and noise apart."""
    detector = CompactDetector(CompactModel.load())
    made = Collected()
    scene_of = dict(zip(found.pool.image_ids, found.scenes.tolist(), strict=True))
    for name in list(found.images)[::RETAKEN_EVERY]:
        rng = np.random.default_rng([int(name, 16), 23])
        noisy = found.images[name] * rng.uniform(0.96, 1.04) + rng.normal(0.0, 2.0, found.images[name].shape)
        image = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
        seen = detector.detect([image], (), THRESHOLD)[0]
        made.add(RETAKEN_MARK + name[1:], scene_of.get(name, -1), image, seen, [NOTHING] * len(seen))
    return made.pool(Embedder(detector.name, detector.revision, detector.model.dimension))
