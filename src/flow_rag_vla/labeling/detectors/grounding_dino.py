# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Grounding DINO as a detector (Liu et al. 2023, arXiv 2303.05499): any text, boxes with a score for each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.detectors.florence2 import open_prompts
from flow_rag_vla.labeling.pipeline.boxes import areas, clipped
from flow_rag_vla.labeling.pipeline.errors import ModelError, PromptError
from flow_rag_vla.labeling.pipeline.images import Image, check_image
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_model, load_processor, weights_revision

DEFAULT_SOURCE = "IDEA-Research/grounding-dino-tiny"


class GroundingDinoDetector:
    """A ``Detector`` with an open vocabulary: all prompts are asked in one pass, as "red cube. blue box."."""

    def __init__(self, settings: PretrainedSettings | None = None) -> None:
        """Load model and processor.

        Raises:
            ModelError: when they are missing, damaged or of another kind.
        """
        from transformers import GroundingDinoForObjectDetection

        self.settings = settings or PretrainedSettings(DEFAULT_SOURCE)
        self._model: Any = load_model("Grounding DINO model", self.settings, GroundingDinoForObjectDetection)
        self._processor: Any = load_processor("Grounding DINO processor", self.settings)
        if not getattr(self._processor.tokenizer, "is_fast", False):
            raise ModelError(
                f"the tokenizer of {self.settings.source!r} cannot say where its tokens lie; save its fast form "
                "(tokenizer.json) beside the model",
                "model_damaged",
            )
        self._revision = weights_revision(self._model)

    @property
    def name(self) -> str:
        """What the backend is called."""
        return "grounding_dino"

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    @property
    def score_kind(self) -> ScoreKind:
        """Sigmoids of the match between a box and a prompt's words."""
        return ScoreKind.SIGMOID

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Empty: any text will do."""
        return ()

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """See ``Detector.detect``."""
        asked = open_prompts(prompts, self.name)
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        text, spans = joined_prompts(asked)
        results: list[Detections] = []
        for begin in range(0, len(checked), self.settings.batch):
            results += self._found(checked[begin : begin + self.settings.batch], asked, text, spans, threshold)
        return results

    def _found(
        self,
        images: Sequence[Image],
        asked: Sequence[str],
        text: str,
        spans: Sequence[tuple[int, int]],
        threshold: float,
    ) -> list[Detections]:
        import torch

        tokens = self._processor.tokenizer(text, return_offsets_mapping=True)
        owners = [token_owner(offset, spans) for offset in tokens["offset_mapping"]]
        longest = int(self._model.config.max_text_len)
        if len(owners) > longest:
            raise PromptError(
                f"{len(asked)} prompts make {len(owners)} words' parts, more than the {longest} that the model reads: "
                "ask for fewer at once",
                "prompt_unknown",
            )
        inputs = self._processor(images=list(images), text=[text] * len(images), return_tensors="pt")
        inputs = inputs.to(self.settings.device, getattr(torch, self.settings.precision))
        with torch.inference_mode():
            made = self._model(**inputs)
        probabilities = made.logits.float().sigmoid().cpu().numpy()
        boxes = made.pred_boxes.float().cpu().numpy()
        origin = Origin(self.name, self.revision, "; ".join(asked), threshold)
        results = []
        for image, values, places in zip(images, probabilities, boxes, strict=True):
            # A prompt's score is that of the best of its words, as in the paper.
            scores = np.stack(
                [
                    values[:, [place for place, owner in enumerate(owners) if owner == index]].max(axis=1, initial=0.0)
                    for index in range(len(asked))
                ],
                axis=1,
            )
            results.append(_detections(image, scores, places, asked, origin))
        return results


def joined_prompts(prompts: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Prompts as the one text that the model reads, and where each lies in it (first character, one past the last)."""
    text, spans = "", []
    for prompt in prompts:
        word = prompt.lower().replace(".", " ")
        spans.append((len(text), len(text) + len(word)))
        text += f"{word}. "
    return text.rstrip(), spans


def token_owner(offset: tuple[int, int], spans: Sequence[tuple[int, int]]) -> int | None:
    """Index of the prompt to which a token of the text belongs; None for stops and special tokens."""
    begin, end = offset
    if end <= begin:
        return None
    return next((index for index, (low, high) in enumerate(spans) if low <= begin and end <= high), None)


def _detections(
    image: Image, scores: np.ndarray, places: np.ndarray, asked: Sequence[str], origin: Origin
) -> Detections:
    height, width = image.shape[:2]
    centres, sizes = places[:, :2], places[:, 2:]
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    boxes = clipped(corners * np.asarray([width, height, width, height], np.float32), width, height)
    best = scores.argmax(axis=1)
    values = scores[np.arange(len(best)), best]
    kept = np.flatnonzero((values >= origin.threshold) & (areas(boxes) > 0.0))
    kept = kept[np.argsort(-values[kept], kind="stable")]
    return Detections(
        width,
        height,
        boxes[kept],
        values[kept].astype(np.float32),
        tuple(asked[best[row]] for row in kept),
        ScoreKind.SIGMOID,
        origin,
    )
