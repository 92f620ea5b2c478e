# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped detector: a closed vocabulary, masks and embeddings in the same pass, no download and no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flow_rag_vla.labeling.compact.categories import asked_categories
from flow_rag_vla.labeling.compact.model import NAME, CompactModel
from flow_rag_vla.labeling.detections import Detections, ScoreKind
from flow_rag_vla.labeling.pipeline.images import Image, check_image


class CompactDetector:
    """A ``Detector`` that also segments and embeds; see :mod:`flow_rag_vla.labeling.compact`.

    Labels are the prompts that found something: "큐브" finds the red cube and calls it "큐브". Without prompts they are
    the categories' own names.
    """

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
    def score_kind(self) -> ScoreKind:
        """Means of pixel probabilities."""
        return ScoreKind.SOFTMAX

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The categories."""
        return self.model.categories

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """See ``Detector.detect``.

        Raises:
            PromptError: for a prompt outside the vocabulary; it lists what is known.
        """
        named = asked_categories(prompts)
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        found = self.model.find(checked, tuple(named), threshold)
        return [replace(item, labels=tuple(named[label] for label in item.labels)) for item in found]
