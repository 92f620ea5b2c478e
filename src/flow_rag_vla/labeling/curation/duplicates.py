# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Near duplicates: of each group of pictures, or of things, that show the same, one is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flow_rag_vla.labeling.curation.neighbours import BLOCK, EXACT_LIMIT, VectorShelf
from flow_rag_vla.labeling.detections import Vectors
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.learn.progress import Progress, silent

CANDIDATES = 16
"""Representatives that are looked at more closely, an item."""
THUMBNAIL_SIDE = 32
"""Cells a side: a thing that fills a cell, a thirtieth of the picture's width, shows."""


@dataclass(frozen=True, slots=True)
class Groups:
    """N items, each kept or a near duplicate of one that is kept.

    kept: (N,) int64, by item the position of what is kept in its place, its own where it is kept itself
    similarities: (N,) float32, cosine to what is kept, 1 for itself
    """

    kept: NDArray[np.int64]
    similarities: NDArray[np.float32]

    @property
    def duplicates(self) -> NDArray[np.int64]:
        """Positions of what another one stands for."""
        return np.flatnonzero(self.kept != np.arange(len(self.kept))).astype(np.int64)

    def members(self) -> dict[int, list[int]]:
        """What each kept item stands for besides itself; those that stand for themselves alone are left out."""
        found: dict[int, list[int]] = {}
        for position in self.duplicates.tolist():
            found.setdefault(int(self.kept[position]), []).append(position)
        return found


def group_duplicates(
    vectors: Vectors,
    order: Sequence[int] | NDArray[np.int64],
    threshold: float,
    same: Callable[[int, int], bool],
    *,
    exact_limit: int = EXACT_LIMIT,
    progress: Progress = silent,
) -> Groups:
    """Keep what is unlike everything kept before it; deterministic, and each item is compared with what is kept only.

    Leader clustering (Hartigan 1975, "Clustering Algorithms", chapter 3): unlike connected components it never chains a
    film's first frame to its last over small steps, since every duplicate is like the very item that is kept.

    Args:
        vectors: (N, D) float32 of unit length.
        order: the N positions, the best first: what comes first is kept.
        threshold: least cosine of two duplicates.
        same: whether the items at two positions, that alike, are the same on a closer look: (item, kept).
        exact_limit: see ``neighbours``.
        progress: told of the items.

    Raises:
        ValueError: a threshold that is no cosine.
    """
    if not -1.0 <= threshold <= 1.0:
        raise ValueError(f"threshold is {threshold}, expected a cosine, -1 to 1")
    total = len(vectors)
    kept = np.arange(total, dtype=np.int64)
    similarities = np.ones(total, np.float32)
    rows = np.asarray(order, np.int64)
    shelf = VectorShelf(vectors, exact_limit=exact_limit)
    # Cosines of a vector with its copy come out as 1 - 1e-7.
    least = threshold - 1e-6
    for start in range(0, total, BLOCK):
        block = rows[start : start + BLOCK]
        values, found = shelf.nearest(block, CANDIDATES)
        among = vectors[block] @ vectors[block].T
        fresh: list[int] = []
        for place, item in enumerate(block.tolist()):
            pairs = [
                (float(v), int(p)) for v, p in zip(values[place], found[place], strict=True) if p >= 0 and v >= least
            ]
            pairs += [(float(among[place, n]), int(block[n])) for n in fresh if among[place, n] >= least]
            pairs.sort(key=lambda pair: (-pair[0], pair[1]))
            match = next((pair for pair in pairs[:CANDIDATES] if same(item, pair[1])), None)
            if match is None:
                fresh.append(place)
            else:
                similarities[item], kept[item] = match[0], match[1]
        shelf.add(block[fresh])
        progress(min(start + BLOCK, total), total, "items")
    return Groups(kept, similarities)


def thumbnail(image: Image, side: int = THUMBNAIL_SIDE) -> NDArray[np.float32]:
    """(side, side, 3) float32 of a picture (H, W, 3) uint8: means of its cells, divided by the mean of the picture."""
    small = Pillow.fromarray(np.ascontiguousarray(image)).resize((side, side), Pillow.Resampling.BOX)
    cells = np.asarray(small, np.float32)
    return cells / max(float(cells.mean()), 1.0)


def largest_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """By how much any cell of two thumbnails differs, 1 is the mean brightness of a picture.

    Means of cells hold still under noise, compression and light, and the largest difference, unlike a mean or the share
    of a hash's bits, shows a single small thing that is gone.
    """
    return float(np.abs(first - second).max())
