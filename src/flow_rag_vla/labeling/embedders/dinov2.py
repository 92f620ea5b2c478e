# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""DINOv2 as an embedder (Oquab et al. 2023, arXiv 2304.07193): each crop to a vector.

Any vision backbone of transformers with a pooled output or feature maps works the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from flow_rag_vla.labeling.detections import Detections, Vectors
from flow_rag_vla.labeling.pipeline.images import Image, check_image
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_model, weights_revision
from flow_rag_vla.policy.encoders.huggingface import read_preprocessing

DEFAULT_SOURCE = "facebook/dinov2-base"
MARGIN = 0.1
"""Share of a box's sides that is added around it: a thing is known by its rim too."""


class Dinov2Embedder:
    """An ``Embedder``. What lies outside the mask stays visible: the backbone was trained on whole pictures."""

    def __init__(self, settings: PretrainedSettings | None = None) -> None:
        """Load the model and what it expects of a picture.

        Raises:
            ModelError: when it is missing, damaged or of another kind.
        """
        from transformers import AutoModel

        self.settings = settings or PretrainedSettings(DEFAULT_SOURCE, batch=16)
        self._model: Any = load_model("DINOv2 model", self.settings, AutoModel)
        self._revision = weights_revision(self._model)
        self._preprocessing = read_preprocessing(self.settings.source, self._model.config)
        blank = np.zeros((16, 16, 3), np.uint8)
        self._dimension = int(self._vectors([blank]).shape[1])

    @property
    def name(self) -> str:
        """What the backend is called."""
        return "dinov2"

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    def embed(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Vectors]:
        """See ``Embedder.embed``."""
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        crops = [
            _crop(image, box) for image, item in zip(checked, found, strict=True) for box in item.boxes.astype(float)
        ]
        parts = [
            self._vectors(crops[begin : begin + self.settings.batch])
            for begin in range(0, len(crops), self.settings.batch)
        ]
        vectors = np.concatenate(parts) if parts else np.zeros((0, self._dimension), np.float32)
        ends = np.cumsum([0, *(len(item) for item in found)])
        return [vectors[begin:end] for begin, end in pairwise(ends)]

    def _vectors(self, crops: Sequence[Image]) -> Vectors:
        import torch
        from PIL import Image as Pillow

        rows, columns = self._preprocessing.size
        scaled = [Pillow.fromarray(crop).resize((columns, rows), Pillow.Resampling.BICUBIC) for crop in crops]
        values = np.stack([np.asarray(item, np.float32) for item in scaled]) / 255.0
        mean, std = np.asarray(self._preprocessing.mean, np.float32), np.asarray(self._preprocessing.std, np.float32)
        pixels = torch.from_numpy((values - mean) / std).permute(0, 3, 1, 2).contiguous()
        with torch.inference_mode():
            made = self._model(pixel_values=pixels.to(self.settings.device, getattr(torch, self.settings.precision)))
            pooled = getattr(made, "pooler_output", None)
            if pooled is None:
                hidden = made.last_hidden_state
                pooled = hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden.mean(dim=1)
            unit = torch.nn.functional.normalize(pooled.flatten(1).float(), dim=1)
        return np.asarray(unit.cpu().numpy(), np.float32)


def _crop(image: Image, box: np.ndarray) -> Image:
    height, width = image.shape[:2]
    grow_x, grow_y = MARGIN * (box[2] - box[0]), MARGIN * (box[3] - box[1])
    left, top = max(0, int(box[0] - grow_x)), max(0, int(box[1] - grow_y))
    right, bottom = min(width, int(np.ceil(box[2] + grow_x))), min(height, int(np.ceil(box[3] + grow_y)))
    return np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])
