# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that show the same: the unit that can be taken out of a dataset without leaving things unlabelled."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from flow_rag_vla.labeling.curation.duplicates import Groups, group_duplicates, largest_difference, thumbnail
from flow_rag_vla.labeling.curation.pool import Pool
from flow_rag_vla.labeling.datasets.dataset import LabelDataset
from flow_rag_vla.labeling.detections import Vectors
from flow_rag_vla.labeling.pipeline.boxes import overlaps
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.registry.values import ReviewState
from flow_rag_vla.learn.progress import Progress, silent

LEFT_OUT = "near duplicates left out"
"""In a dataset's provenance: how many pictures another one stands for."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """When two pictures show the same; all must hold.

    cosine: least, of each pair of things, and of the means over the pictures; overlap: least intersection over union of
    each pair of boxes; sure: a thing with a lower score that nobody validated may be missing in one of them
    difference: most by which any part of the pictures may differ, see ``duplicates.largest_difference``
    """

    cosine: float = 0.9
    overlap: float = 0.7
    sure: float = 0.8
    difference: float = 0.15

    def __post_init__(self) -> None:
        for name, low in (("cosine", -1.0), ("overlap", 0.0), ("sure", 0.0), ("difference", 0.0)):
            value = getattr(self, name)
            if not low <= value <= 1.0:
                raise ValueError(f"{name} is {value}, expected {low:g} to 1")


@dataclass(frozen=True, slots=True)
class PictureGroups:
    """N pictures with objects, each kept or the near duplicate of one that is kept.

    image_ids: N; groups: their positions; unread: ids of pictures whose pixels could not be had: they are kept
    """

    image_ids: tuple[str, ...]
    groups: Groups
    unread: tuple[str, ...] = ()

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Ids of the pictures that another one stands for."""
        return tuple(self.image_ids[place] for place in self.groups.duplicates.tolist())


def picture_duplicates(
    pool: Pool,
    pixels: Callable[[str], Image | None] | None,
    likeness: Likeness | None = None,
    *,
    progress: Progress = silent,
) -> PictureGroups:
    """Find the pictures of a pool that show the same things in the same places.

    Two pictures are alike if the means of their vectors are, if their things pair off one to one (same label, alike, in
    the same place; what the model was unsure of may be without a partner), and if they look the same as a whole. Of a
    group, the one with the most validated objects is kept, then the one with the surest, then the oldest. Rejected
    objects do not count.

    Args:
        pool: objects; pictures without any are not compared.
        pixels: (H, W, 3) uint8 of a picture by its id, None where it cannot be read; None: without looking at them.
        likeness: when two are the same; None: the usual.
        progress: told of the pictures.
    """
    likeness = likeness or Likeness()
    rows = np.flatnonzero([state is not ReviewState.REJECTED for state in pool.states])
    by_image: dict[str, list[int]] = {}
    for row in rows.tolist():
        by_image.setdefault(pool.image_ids[row], []).append(row)
    names = tuple(by_image)
    things = [np.asarray(by_image[name]) for name in names]
    seen: dict[int, NDArray[np.float32] | None] = {}
    unread: set[str] = set()

    def looks(place: int) -> NDArray[np.float32] | None:
        assert pixels is not None
        if place not in seen:
            image = pixels(names[place])
            seen[place] = None if image is None else thumbnail(image)
            if image is None:
                unread.add(names[place])
        return seen[place]

    def same(item: int, kept: int) -> bool:
        if not _same_things(pool, things[item], things[kept], likeness):
            return False
        if pixels is None:
            return True
        first, second = looks(item), looks(kept)
        return first is not None and second is not None and largest_difference(first, second) <= likeness.difference

    groups = group_duplicates(
        _means(pool.vectors, things), _best_first(pool, things), likeness.cosine, same, progress=progress
    )
    return PictureGroups(names, groups, tuple(sorted(unread)))


def without_pictures(dataset: LabelDataset, image_ids: Collection[str]) -> LabelDataset:
    """A dataset without some pictures; its provenance says how many were left out as near duplicates."""
    left_out = set(image_ids)
    items = tuple(item for item in dataset.items if item.image_id not in left_out)
    count = len(dataset.items) - len(items)
    return replace(dataset, items=items, provenance={**dataset.provenance, LEFT_OUT: count})


def _means(vectors: Vectors, things: list[NDArray[np.int64]]) -> Vectors:
    found = np.zeros((len(things), vectors.shape[1]), np.float32)
    for place, rows in enumerate(things):
        mean = vectors[rows].mean(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(mean))
        # Vectors that cancel each other leave no direction: the first then stands for them.
        found[place] = mean / length if length > 1e-6 else vectors[rows[0]]
    return found


def _best_first(pool: Pool, things: list[NDArray[np.int64]]) -> list[int]:
    def key(place: int) -> tuple[float, float, int, int]:
        rows = things[place]
        validated = sum(pool.states[row].validated for row in rows.tolist())
        sure = float(np.where(np.isnan(pool.scores[rows]), 1.0, pool.scores[rows]).mean())
        # Sums in another order differ in the last digit.
        return -validated, -round(sure, 6), int(pool.stamps_ns[rows[0]]), place

    return sorted(range(len(things)), key=key)


def _same_things(pool: Pool, first: NDArray[np.int64], second: NDArray[np.int64], likeness: Likeness) -> bool:
    labels = [np.array([pool.labels[row] for row in rows.tolist()]) for rows in (first, second)]
    shared = overlaps(pool.boxes[first], pool.boxes[second])
    fits = pool.vectors[first] @ pool.vectors[second].T >= likeness.cosine - 1e-6
    fits &= (shared >= likeness.overlap) & (labels[0][:, None] == labels[1][None])
    left, right = linear_sum_assignment(np.where(fits, 1.0 + shared, 0.0), maximize=True)
    paired = fits[left, right]
    if not paired.any():
        return False
    alone = np.concatenate([np.delete(first, left[paired]), np.delete(second, right[paired])])
    return all(pool.scores[row] < likeness.sure and not pool.states[row].validated for row in alone.tolist())
