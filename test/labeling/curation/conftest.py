# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pools of made vectors, and a real registry filled from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow_rag_vla.labeling.curation.pool import Pool
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    Embedder,
    ImageDraft,
    ObjectDraft,
    ReviewState,
    SourceDraft,
    SourceKind,
)

EMBEDDER = Embedder("made", "1", 16)


def unit(vectors):
    """Rows of length 1."""
    vectors = np.asarray(vectors, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def clusters(sizes, spread=0.15, seed=0, dimension=16):
    """Vectors (sum of sizes, dimension) around one direction a cluster, and which cluster each is of."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(len(sizes), dimension)))
    of = np.repeat(np.arange(len(sizes)), sizes)
    return unit(centres[of] + spread * rng.normal(size=(len(of), dimension)) / np.sqrt(dimension)), of


def made_pool(vectors, labels, proposed=None, scores=None, states=None, images=None, boxes=None):
    """A pool of these, the rest as usual."""
    count = len(labels)
    return Pool(
        tuple(f"{row:032x}" for row in range(count)),
        vectors,
        tuple(labels),
        tuple(proposed or labels),
        np.full(count, 0.9) if scores is None else np.asarray(scores, np.float64),
        tuple(states or [ReviewState.UNREVIEWED] * count),
        tuple(images or (f"picture{row}" for row in range(count))),
        ("source",) * count,
        np.asarray(boxes or [(0, 0, 10, 10)] * count, np.float32),
        np.zeros(count, np.int64),
        EMBEDDER,
    )


def drafts(image_id, rows, boxes=None):
    """Objects of one picture from (category, vector, score) each, side by side unless boxes are given."""
    return [
        ObjectDraft(
            image_id,
            category,
            boxes[place] if boxes else (10 + 30 * place, 10, 35 + 30 * place, 40),
            score,
            ScoreKind.SOFTMAX,
            Origin("made"),
            embedding=vector,
            embedder=None if vector is None else EMBEDDER,
        )
        for place, (category, vector, score) in enumerate(rows)
    ]


@pytest.fixture
def registry(tmp_path):
    """An empty registry."""
    with Registry(tmp_path / "labels") as opened:
        yield opened


@pytest.fixture
def filled(registry, tmp_path):
    """Five pictures of three things each, of three classes; the fourth is the first with a little noise."""
    folder = tmp_path / "media"
    folder.mkdir()
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(folder.resolve())))
    vectors, _ = clusters([5, 5, 5])
    vectors[[3, 8, 13]] = unit(vectors[[0, 5, 10]] + 0.01)
    rng = np.random.default_rng(1)
    ids = []
    first = None
    for number in range(5):
        pixels = rng.integers(0, 255, (6, 8, 3)).repeat(16, axis=0).repeat(16, axis=1)
        first = pixels if number == 0 else first
        if number == 3:
            pixels = np.clip(first + rng.normal(0, 3, first.shape), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        (image,) = registry.add_images(source.source_id, [ImageDraft(f"{number}.png", 128, 96, number)])
        rows = [
            (name, vectors[5 * place + number], 0.5 + 0.02 * (3 * number + place))
            for place, name in enumerate(("cup", "bowl", "tray"))
        ]
        ids += registry.register(drafts(image.image_id, rows), who="made").object_ids
    return registry, source, ids, Path(folder)
