# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was found in one image: the one value type that detectors, segmenters, embedders, tracks and exports share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Boxes: TypeAlias = NDArray[np.float32]
"""(N, 4) float32: left, top, right, bottom in pixels; right and bottom are exclusive: right - left is the width."""
Masks: TypeAlias = NDArray[np.bool_]
"""(N, height, width) bool, the size of the image."""
Vectors: TypeAlias = NDArray[np.float32]
"""(N, D) float32, each of unit length."""

UNIT_TOLERANCE = 1e-3
"""How far an embedding's length may be from 1: float16 backends round."""


class ScoreKind(str, Enum):
    """What a score means: scores of different kinds may not be compared."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    TOKEN_PROBABILITY = "token_probability"
    CALIBRATED = "calibrated"
    GROUND_TRUTH = "ground_truth"
    HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said so: enough to ask the same again.

    model: name of the backend or of the person; revision: of its weights; prompt: the text it was asked with
    threshold: the least score that was kept, 0 to 1
    """

    model: str
    revision: str = ""
    prompt: str = ""
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Detections:
    """N objects in one image of ``width`` x ``height`` pixels.

    boxes: see Boxes; scores: (N,) float32, 0 to 1, of kind ``score_kind``; labels: N category names
    masks: see Masks, or None where none were made; embeddings: see Vectors, or None

    Raises:
        ValueError: arrays do not agree in N, a box has no area, is outside the image or not finite, a score is not a
            number of 0 to 1, a label is empty, or an embedding is not of unit length; names the row and its value.
    """

    width: int
    height: int
    boxes: Boxes
    scores: NDArray[np.float32]
    labels: tuple[str, ...]
    score_kind: ScoreKind
    origin: Origin
    masks: Masks | None = None
    embeddings: Vectors | None = None

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"an image of {self.width} x {self.height} pixels has no area")
        count = len(self.labels)
        self._check_shapes(count)
        inside = np.asarray([self.width, self.height, self.width, self.height], np.float32)
        for row, (box, score, label) in enumerate(zip(self.boxes, self.scores, self.labels, strict=True)):
            if not np.isfinite(box).all() or (box < 0).any() or (box > inside).any():
                raise ValueError(f"box {row} is {box.tolist()}, expected inside 0, 0, {self.width}, {self.height}")
            if box[2] <= box[0] or box[3] <= box[1]:
                raise ValueError(f"box {row} is {box.tolist()}: it has no area")
            if not 0.0 <= score <= 1.0:
                raise ValueError(f"score {row} is {score}, expected 0 to 1")
            if not label.strip():
                raise ValueError(f"label {row} is empty")

    def _check_shapes(self, count: int) -> None:
        expected: dict[str, tuple[int, ...]] = {"boxes": (count, 4), "scores": (count,)}
        if self.masks is not None:
            expected["masks"] = (count, self.height, self.width)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has the shape {getattr(self, name).shape}, expected {shape}")
        if self.embeddings is not None:
            if self.embeddings.ndim != 2 or len(self.embeddings) != count:
                raise ValueError(f"embeddings has the shape {self.embeddings.shape}, expected ({count}, D)")
            lengths = np.linalg.norm(self.embeddings, axis=1)
            for row in np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE)):
                raise ValueError(f"embedding {row} has the length {lengths[row]:.4g}, expected 1")

    def __len__(self) -> int:
        return len(self.labels)
