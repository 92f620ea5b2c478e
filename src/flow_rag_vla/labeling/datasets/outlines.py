# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Masks to outlines and back, exactly: rings along the edges of pixels, filled even-odd at the centres of pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.datasets.dataset import Annotation, Box, DatasetItem, Ring
from flow_rag_vla.labeling.run_lengths import counts_mask, mask_counts

Mask = NDArray[np.bool_]
Point = tuple[int, int]


def mask_of(annotation: Annotation, item: DatasetItem) -> Mask | None:
    """The mask (height, width) bool of an annotation, or None where it has neither run lengths nor outline."""
    if annotation.rle:
        return counts_mask(annotation.rle, item.width, item.height)
    if annotation.polygons:
        return filled(annotation.polygons, item.width, item.height)
    return None


def rle_of(annotation: Annotation, item: DatasetItem) -> tuple[int, ...]:
    """The run lengths of an annotation's mask, or empty."""
    if annotation.rle or not annotation.polygons:
        return annotation.rle
    return tuple(mask_counts(filled(annotation.polygons, item.width, item.height)))


def rings_of(annotation: Annotation, item: DatasetItem) -> tuple[Ring, ...]:
    """The outline of an annotation: as drawn, or along the pixels of its mask; empty where it has neither."""
    if annotation.polygons or not annotation.rle:
        return annotation.polygons
    return outline(counts_mask(annotation.rle, item.width, item.height))


def filled(rings: Sequence[Ring], width: int, height: int) -> Mask:
    """(height, width) bool: the pixels whose centres an odd number of rings surrounds.

    An edge turns over every pixel to the right of where it crosses the middle of a row.
    """
    turned = np.zeros((height, width + 1), np.bool_)
    for ring in rings:
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            first, last = max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5)))
            if first >= last:
                continue
            rows = np.arange(first, last)
            crossing = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
            turned[rows, columns] ^= True
    return np.asarray(np.logical_xor.accumulate(turned[:, :width], axis=1), np.bool_)


def outline(mask: Mask) -> tuple[Ring, ...]:
    """Rings along the edges of a mask's pixels, corners only; ``filled`` gives the same mask back.

    Every edge between inside and outside is walked once, with the inside on the right. Where two pixels touch at a
    corner, the walk turns right: they become two rings.
    """
    padded = np.pad(mask, 1)
    follow: dict[Point, list[Point]] = defaultdict(list)
    steps: tuple[tuple[int, int, Point, Point], ...] = (
        (0, 1, (0, 0), (1, 0)),  # above is outside: to the right
        (2, 1, (1, 1), (0, 1)),  # below: to the left
        (1, 0, (0, 1), (0, 0)),  # left: up
        (1, 2, (1, 0), (1, 1)),  # right: down
    )
    height, width = mask.shape
    for down, across, start, end in steps:
        outside = ~padded[down : down + height, across : across + width]
        for y, x in np.argwhere(mask & outside).tolist():
            follow[x + start[0], y + start[1]].append((x + end[0], y + end[1]))
    rings: list[Ring] = []
    while follow:
        rings.append(_walked(follow))
    return tuple(rings)


def _walked(follow: dict[Point, list[Point]]) -> Ring:
    start = next(iter(follow))
    corners: list[Point] = []
    here, heading = start, (0, 0)
    while True:
        ends = follow[here]
        place = 0
        if len(ends) > 1:
            # y points down: a right turn of (dx, dy) is (-dy, dx).
            right = (here[0] - heading[1], here[1] + heading[0])
            place = ends.index(right) if right in ends else 0
        there = ends.pop(place)
        if not ends:
            del follow[here]
        step = (there[0] - here[0], there[1] - here[1])
        if step != heading:
            corners.append(here)
        here, heading = there, step
        if here == start:
            break
    first = (corners[1][0] - start[0], corners[1][1] - start[1])
    if first[0] * heading[1] == first[1] * heading[0]:
        del corners[0]  # It began in the middle of an edge.
    return tuple(float(value) for corner in corners for value in corner)


def joined(rings: Sequence[Ring]) -> Ring:
    """Several rings as one, for formats that know only one: bridges are walked there and back, and so enclose nothing.

    Filled even-odd it covers the same pixels, holes included.
    """
    if len(rings) == 1:
        return rings[0]
    path: list[float] = []
    for ring in rings:
        path += [*ring, *ring[:2]]
    for ring in reversed(rings[:-1]):
        path += ring[:2]
    return tuple(path)


def bounds(rings: Sequence[Ring]) -> Box:
    """The box around rings."""
    xs = [x for ring in rings for x in ring[0::2]]
    ys = [y for ring in rings for y in ring[1::2]]
    return min(xs), min(ys), max(xs), max(ys)
