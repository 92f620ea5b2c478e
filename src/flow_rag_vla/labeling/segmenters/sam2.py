# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""SAM 2 as a segmenter (Ravi et al. 2024, arXiv 2408.00714): a mask for each box.

The picture is scaled to the model's square and the boxes with it. This is done here and not by the processor of
transformers, which needs torchvision; the numbers are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flow_rag_vla.labeling.detections import Detections, Masks
from flow_rag_vla.labeling.pipeline.images import Image, check_image
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_model, weights_revision
from flow_rag_vla.policy.encoders.huggingface import IMAGENET_MEAN, IMAGENET_STD

DEFAULT_SOURCE = "facebook/sam2.1-hiera-base-plus"
_BOXES_AT_ONCE = 64


class Sam2Segmenter:
    """A ``Segmenter``. The picture is encoded once, whatever the number of boxes."""

    def __init__(self, settings: PretrainedSettings | None = None) -> None:
        """Load the model.

        Raises:
            ModelError: when it is missing, damaged or of another kind.
        """
        from transformers import Sam2Model

        self.settings = settings or PretrainedSettings(DEFAULT_SOURCE)
        self._model: Any = load_model("SAM 2 model", self.settings, Sam2Model)
        self._revision = weights_revision(self._model)
        size = self._model.config.vision_config.backbone_config.image_size
        self._size = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def name(self) -> str:
        """What the backend is called."""
        return "sam2"

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    def segment(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Masks]:
        """See ``Segmenter.segment``."""
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        return [self._masks(image, item) for image, item in zip(checked, found, strict=True)]

    def _masks(self, image: Image, found: Detections) -> Masks:
        import torch
        from torch import nn

        height, width = image.shape[:2]
        masks = np.zeros((len(found), height, width), np.bool_)
        if not len(found):
            return masks
        rows, columns = self._size
        dtype = getattr(torch, self.settings.precision)
        scale = np.asarray([columns / width, rows / height] * 2, np.float32)
        boxes = torch.from_numpy(found.boxes * scale).to(self.settings.device, dtype)
        with torch.inference_mode():
            embedded = self._model.get_image_embeddings(self._pixels(image).to(self.settings.device, dtype))
            for begin in range(0, len(found), _BOXES_AT_ONCE):
                part = boxes[None, begin : begin + _BOXES_AT_ONCE]
                made = self._model(image_embeddings=embedded, input_boxes=part, multimask_output=False)
                logits = made.pred_masks[0].float()
                full = nn.functional.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
                masks[begin : begin + _BOXES_AT_ONCE] = (full[:, 0] > 0.0).cpu().numpy()
        return masks

    def _pixels(self, image: Image) -> Any:
        import torch
        from PIL import Image as Pillow

        rows, columns = self._size
        scaled = Pillow.fromarray(image).resize((columns, rows), Pillow.Resampling.BILINEAR)
        values = np.asarray(scaled, np.float32) / 255.0
        normal = (values - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(IMAGENET_STD, np.float32)
        return torch.from_numpy(normal).permute(2, 0, 1)[None].contiguous()
