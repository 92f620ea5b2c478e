# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes and masks: overlap, suppression of doubles, the box that a mask fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Boxes, Detections, Masks


def areas(boxes: Boxes) -> NDArray[np.float32]:
    """(N,) float32 square pixels."""
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float32)


def overlaps(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """(N, M) float32: intersection over union of each pair of boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def mask_overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one size; 0 for two empty ones."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 0.0


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom (exclusive) of what a mask (H, W) covers; None for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def clipped(boxes: NDArray[Any], width: int, height: int) -> Boxes:
    """(N, 4) float32 cut to the picture; a box that lies outside has no area afterwards."""
    limits = np.asarray([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes, np.float32).reshape(-1, 4), 0.0, limits)


def select(found: Detections, rows: Sequence[int] | NDArray[Any]) -> Detections:
    """Some rows of what was found, in the order given; rows: indices or (N,) bool."""
    chosen = np.asarray(rows)
    chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
    return replace(
        found,
        boxes=found.boxes[chosen],
        scores=found.scores[chosen],
        labels=tuple(found.labels[row] for row in chosen),
        masks=None if found.masks is None else found.masks[chosen],
        embeddings=None if found.embeddings is None else found.embeddings[chosen],
    )


def without_doubles(found: Detections, overlap: float) -> Detections:
    """Greedy suppression over all labels together, best score first: of two that overlap more, the better stays.

    Two prompts that mean the same thing find it twice. Where there are masks, they decide: two things may fill one box
    and share no pixel.
    """
    order = np.argsort(-found.scores, kind="stable")
    pairs = overlaps(found.boxes, found.boxes) > overlap
    kept: list[int] = []
    for row in order:
        if not any(pairs[row, other] and _same(found, int(row), other, overlap) for other in kept):
            kept.append(int(row))
    return found if len(kept) == len(found) and kept == list(range(len(found))) else select(found, kept)


def _same(found: Detections, first: int, second: int, overlap: float) -> bool:
    return found.masks is None or mask_overlap(found.masks[first], found.masks[second]) > overlap


def tightened(found: Detections, masks: Masks) -> Detections:
    """With the masks, cut to their boxes, and each box drawn in to its mask; what has no mask left is dropped."""
    kept, boxes, cut = [], [], []
    for row, (box, mask) in enumerate(zip(found.boxes, masks, strict=True)):
        left, top = int(np.floor(box[0])), int(np.floor(box[1]))
        right, bottom = int(np.ceil(box[2])), int(np.ceil(box[3]))
        inside = mask[top:bottom, left:right]
        tight = box_of(inside)
        if tight is None:
            continue
        if np.count_nonzero(inside) != np.count_nonzero(mask):
            whole = np.zeros_like(mask)
            whole[top:bottom, left:right] = inside
            mask = whole
        kept.append(row)
        boxes.append((tight[0] + left, tight[1] + top, tight[2] + left, tight[3] + top))
        cut.append(mask)
    rest = found if len(kept) == len(found) else select(replace(found, masks=None), kept)
    shape = (len(kept), found.height, found.width)
    stacked = np.stack(cut) if cut else np.zeros(shape, np.bool_)
    return replace(rest, boxes=np.asarray(boxes, np.float32).reshape(-1, 4), masks=stacked)
