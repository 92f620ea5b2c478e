# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Class probabilities and votes of one picture to things with masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flow_rag_vla.labeling.compact.network import OFFSET_UNIT

LEAST_PIXELS = 10
"""Pixels of the grid; a smaller patch is noise at the rim of something."""
SPECK, SURE = 0.04, 0.8
"""A patch apart from the largest one is taken for an error if it is less than this share of it, or of a lower mean
probability. Chosen on scenes from ``DEVELOPMENT_SEEDS`` on."""
_CELL = 4
"""Pixels of the grid a cell in which votes are counted."""
_REACH = 2
"""Cells within which two heaps of votes are one."""


@dataclass(frozen=True, slots=True)
class Group:
    """One thing: index of its category, score 0 to 1, and its mask (h, w) bool on the network's grid."""

    category: int
    score: float
    mask: NDArray[np.bool_]


def group_things(
    probabilities: NDArray[np.float32], votes: NDArray[np.float32], alone: tuple[bool, ...]
) -> list[Group]:
    """Things of a picture, in no order.

    A pixel belongs to the category that is most probable there. Of a category that may be there several times, pixels
    vote for the middle of their thing; each heap of votes is one thing, whatever lies between its parts. The score is
    the mean probability of the mask's pixels, less by the share of votes that went astray.

    Args:
        probabilities: (1 + C, h, w), summing to 1; the first is of no category.
        votes: (2, h / 2, w / 2) to the right and below, in units of ``OFFSET_UNIT`` pixels of the grid.
        alone: for each category whether there is one at most.
    """
    winners = probabilities.argmax(axis=0)
    found = []
    for category, single in enumerate(alone):
        pixels = winners == category + 1
        count = int(np.count_nonzero(pixels))
        if count < LEAST_PIXELS:
            continue
        values = probabilities[category + 1]
        if single:
            mask = _without_specks(pixels, values)
            found.append(Group(category, float(values[mask].mean()), mask))
            continue
        rows, columns = np.nonzero(pixels)
        labels, close = _heaps(rows, columns, votes, winners.shape)
        for label in range(int(labels.max()) + 1):
            chosen = labels == label
            kept = chosen & close
            if np.count_nonzero(kept) < LEAST_PIXELS:
                continue
            mask = np.zeros(winners.shape, np.bool_)
            mask[rows[kept], columns[kept]] = True
            agreement = np.count_nonzero(kept) / np.count_nonzero(chosen)
            found.append(Group(category, float(values[mask].mean()) * agreement, mask))
    return found


def _heaps(
    rows: NDArray[np.intp], columns: NDArray[np.intp], votes: NDArray[np.float32], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The heap to which each pixel's vote goes, from 0, and whether it lies close to it."""
    half = (np.minimum(rows // 2, votes.shape[1] - 1), np.minimum(columns // 2, votes.shape[2] - 1))
    right = columns + votes[0][half] * OFFSET_UNIT
    below = rows + votes[1][half] * OFFSET_UNIT
    grid = (shape[0] // _CELL + 1, shape[1] // _CELL + 1)
    cell_row = np.clip(below / _CELL, 0, grid[0] - 1)
    cell_column = np.clip(right / _CELL, 0, grid[1] - 1)
    counts = np.zeros(grid, np.float32)
    np.add.at(counts, (cell_row.astype(int), cell_column.astype(int)), 1.0)
    smooth = ndimage.gaussian_filter(counts, 1.0)
    peaks = (smooth == ndimage.maximum_filter(smooth, 2 * _REACH + 1)) & (smooth > 0.04 * smooth.max())
    # Votes on the edge between cells make two equal peaks side by side: they are one.
    ridges, count = ndimage.label(peaks, np.ones((3, 3)))
    places = np.asarray(ndimage.center_of_mass(peaks, ridges, np.arange(1, count + 1)), np.float32).reshape(-1, 2) + 0.5
    distance = np.hypot(cell_row[:, None] - places[None, :, 0], cell_column[:, None] - places[None, :, 1])
    labels = distance.argmin(axis=1)
    nearest = distance[np.arange(len(labels)), labels]
    sizes = np.bincount(labels, minlength=len(places))
    # A large thing's votes spread further: what counts as close grows with its side.
    close = nearest <= np.maximum(3.0, 0.25 * np.sqrt(sizes[labels]) / _CELL + 1.5)
    return labels, close


def _without_specks(pixels: NDArray[np.bool_], values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Without patches that are much smaller than the largest, or of which the network is unsure."""
    patches, count = ndimage.label(pixels)
    if count <= 1:
        return pixels
    sizes = np.bincount(patches.ravel())[1:]
    sure = ndimage.mean(values, patches, np.arange(1, count + 1)) >= SURE
    kept = (sizes > max(LEAST_PIXELS, SPECK * sizes.max())) & sure
    kept[sizes.argmax()] = True
    return np.isin(patches, np.flatnonzero(kept) + 1)
