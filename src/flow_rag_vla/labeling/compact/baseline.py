# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The simplest detector that could work here, and the measure of what learning adds: patches of a colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from flow_rag_vla.labeling.compact.categories import asked_categories
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline.boxes import box_of
from flow_rag_vla.labeling.pipeline.images import Image, check_image

_HUES = {
    "red cube": (0.0, 18.0),
    "blue box": (219.0, 25.0),
    "yellow cylinder": (48.0, 14.0),
    "green zone": (141.0, 25.0),
}
"""Degrees of hue and how far a pixel may be from it."""
_LEAST_SATURATION, _LEAST_VALUE = 0.45, 0.15
_LEAST_SHARE = 2e-4
"""Of the picture's pixels; a smaller patch is left out."""


class ColourDetector:
    """A ``Detector`` of four categories with masks. A patch's score is how well its mean hue fits."""

    name = "colour"
    revision = "1"
    score_kind = ScoreKind.SOFTMAX
    vocabulary: tuple[str, ...] = tuple(_HUES)

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """See ``Detector.detect``."""
        asked = [name for name in asked_categories(prompts) if name in _HUES]
        return [self._found(check_image(image), asked, threshold) for image in images]

    def _found(self, image: Image, asked: Sequence[str], threshold: float) -> Detections:
        height, width = image.shape[:2]
        values = image.astype(np.float32) / 255.0
        high, low = values.max(axis=2), values.min(axis=2)
        spread = np.maximum(high - low, 1e-6)
        red, green, blue = (values[..., index] for index in range(3))
        third = np.where(high == green, 2.0 + (blue - red) / spread, 4.0 + (red - green) / spread)
        hue = 60.0 * np.where(high == red, (green - blue) / spread, third) % 360.0
        vivid = (spread / np.maximum(high, 1e-6) > _LEAST_SATURATION) & (high > _LEAST_VALUE)
        boxes, scores, labels, masks = [], [], [], []
        for name in asked:
            centre, reach = _HUES[name]
            off = np.abs((hue - centre + 180.0) % 360.0 - 180.0)
            patches, count = ndimage.label(vivid & (off < reach))
            sizes = np.bincount(patches.ravel(), minlength=count + 1)
            for patch in range(1, count + 1):
                mask = patches == patch
                score = float(1.0 - off[mask].mean() / reach)
                box = box_of(mask)
                if sizes[patch] < _LEAST_SHARE * mask.size or score < threshold or box is None:
                    continue
                boxes.append(box)
                scores.append(score)
                labels.append(name)
                masks.append(mask)
        return Detections(
            width,
            height,
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(scores, np.float32),
            tuple(labels),
            ScoreKind.SOFTMAX,
            Origin(self.name, self.revision, "; ".join(asked), threshold),
            np.stack(masks) if masks else np.zeros((0, height, width), np.bool_),
        )
