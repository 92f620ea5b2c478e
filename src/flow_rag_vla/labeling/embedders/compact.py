# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The embedder inside the shipped detector, for boxes and masks that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from flow_rag_vla.labeling.compact.model import NAME, CompactModel
from flow_rag_vla.labeling.detections import Detections, Vectors
from flow_rag_vla.labeling.pipeline.images import Image, check_image


class CompactEmbedder:
    """An ``Embedder``: the network's features and the colours within a mask, or a box, decorrelated."""

    def __init__(self, model: CompactModel | None = None) -> None:
        self.model = model or CompactModel.load()

    @property
    def name(self) -> str:
        """What it is called."""
        return NAME

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self.model.revision

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.model.dimension

    def embed(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Vectors]:
        """See ``Embedder.embed``."""
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        return self.model.embed(checked, found)
