# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From pictures and boxes to what the networks take: augmentation, scaling, targets. NumPy and Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Boxes
from flow_rag_vla.labeling.detectors.detr import scaled_pixels
from flow_rag_vla.labeling.pipeline.images import Image

if TYPE_CHECKING:
    import torch

LEAST_SHARE = 0.4
"""Of a box that a crop must leave for the thing to count as still there."""
_CROPS = 0.5
"""How often a picture is cut."""


@dataclass(frozen=True, slots=True)
class Example:
    """image: (H, W, 3) uint8 RGB; boxes: (N, 4) float32 pixels; labels: (N,) int64, rows of the categories."""

    image: Image
    boxes: Boxes
    labels: NDArray[np.int64]


def augmented(example: Example, rng: np.random.Generator) -> Example:
    """Flipped, cut and coloured by chance; a thing of which a cut leaves less than ``LEAST_SHARE`` is gone."""
    if rng.random() < _CROPS:
        example = _cut(example, rng)
    if rng.random() < 0.5:
        width = example.image.shape[1]
        boxes = example.boxes.copy()
        boxes[:, [0, 2]] = width - example.boxes[:, [2, 0]]
        example = Example(np.ascontiguousarray(example.image[:, ::-1]), boxes, example.labels)
    return Example(_coloured(example.image, rng), example.boxes, example.labels)


def targets_of(example: Example) -> dict[str, NDArray[Any]]:
    """class_labels: (N,) int64; boxes: (N, 4) float32, middle, width and height as shares of the picture."""
    height, width = example.image.shape[:2]
    low, high = example.boxes[:, :2], example.boxes[:, 2:]
    scale = np.asarray([width, height], np.float32)
    return {
        "class_labels": example.labels,
        "boxes": np.concatenate([(low + high) / 2 / scale, (high - low) / scale], axis=1).astype(np.float32),
    }


def batch_of(
    examples: Sequence[Example], width: int, height: int, device: Any
) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """pixel_values (B, 3, height, width) and a target of each picture, as the networks of transformers take them."""
    import torch

    pixels = np.stack([scaled_pixels(example.image, width, height) for example in examples])
    targets = [
        {name: torch.from_numpy(value).to(device) for name, value in targets_of(example).items()}
        for example in examples
    ]
    return torch.from_numpy(pixels).to(device), targets


def _cut(example: Example, rng: np.random.Generator) -> Example:
    """A part of 0.6 to 1 of each side; the whole if nothing would be left."""
    height, width = example.image.shape[:2]
    shares = rng.uniform(0.6, 1.0, 2)
    part = np.maximum(1, np.round(shares * (width, height))).astype(int)
    left, top = (int(rng.integers(0, whole - size + 1)) for whole, size in zip((width, height), part, strict=True))
    corner = np.asarray([left, top], np.float32)
    size = part.astype(np.float32)
    moved = example.boxes - np.tile(corner, 2)
    boxes = np.clip(moved, 0.0, np.tile(size, 2)).astype(np.float32)
    before = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
    kept = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) >= LEAST_SHARE * before
    if len(boxes) and not kept.any():
        return example
    image = np.ascontiguousarray(example.image[top : top + part[1], left : left + part[0]])
    return Example(image, boxes[kept], example.labels[kept])


def _coloured(image: Image, rng: np.random.Generator) -> Image:
    """Brighter or darker, more or less contrast, warmer or colder."""
    gain = np.float32(rng.uniform(0.8, 1.2)) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    shift = np.float32(rng.uniform(-16.0, 16.0))
    # A table is a tenth of the work of a product of every pixel.
    levels = np.arange(256, dtype=np.float32)[:, None] * gain + shift
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)
