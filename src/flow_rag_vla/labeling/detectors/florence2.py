# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Florence-2 as a detector (Xiao et al. 2023, arXiv 2311.06242): any text, boxes as tokens.

The model writes what it found as text: a phrase and four tokens ``<loc_0>`` to ``<loc_999>``, the box's left, top,
right and bottom in thousandths of the picture. It says nothing about how sure it is; the probabilities of those tokens
do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline.boxes import clipped
from flow_rag_vla.labeling.pipeline.errors import ModelError, PromptError
from flow_rag_vla.labeling.pipeline.images import Image, check_image
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_model, load_processor, weights_revision

DEFAULT_SOURCE = "florence-community/Florence-2-base"
"""The checkpoint in the layout that transformers reads without remote code."""
TASK = "<OPEN_VOCABULARY_DETECTION>"
BINS = 1000
_LONGEST_ANSWER = 256


@dataclass(frozen=True, slots=True)
class FoundBox:
    """One box of an answer: (4,) pixels, and the geometric mean of its four tokens' probabilities."""

    box: tuple[float, float, float, float]
    score: float


def read_answer(
    tokens: Sequence[int], log_probabilities: Sequence[float], locations: dict[int, int], width: int, height: int
) -> list[FoundBox]:
    """The boxes in the tokens of one answer.

    A box is four location tokens in a row; what is left of a longer or shorter row is no box. A bin stands for its
    middle, as the model was trained.

    Args:
        tokens: ids in order.
        log_probabilities: of each of them.
        locations: token id -> bin, 0 to 999.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    found: list[FoundBox] = []
    row: list[tuple[int, float]] = []
    for token, value in zip(tokens, log_probabilities, strict=True):
        if token not in locations:
            row = []
            continue
        row.append((locations[token], value))
        if len(row) == 4:
            left, top, right, bottom = ((place + 0.5) / BINS for place, _ in row)
            if right > left and bottom > top:
                score = math.exp(min(0.0, sum(each for _, each in row) / 4.0))
                found.append(FoundBox((left * width, top * height, right * width, bottom * height), score))
            row = []
    return found


class Florence2Detector:
    """A ``Detector`` with an open vocabulary. One answer is generated for each picture and prompt, several at once."""

    def __init__(self, settings: PretrainedSettings | None = None) -> None:
        """Load model and processor.

        Raises:
            ModelError: when they are missing, damaged or of another kind.
        """
        from transformers import Florence2ForConditionalGeneration

        self.settings = settings or PretrainedSettings(DEFAULT_SOURCE)
        self._model: Any = load_model("Florence-2 model", self.settings, Florence2ForConditionalGeneration)
        self._processor: Any = load_processor("Florence-2 processor", self.settings)
        self._revision = weights_revision(self._model)
        vocabulary = self._processor.tokenizer.get_vocab()
        places = {token: re.fullmatch(r"<loc_(\d+)>", token) for token in vocabulary}
        self._locations = {vocabulary[token]: int(match[1]) for token, match in places.items() if match}
        if sorted(self._locations.values()) != list(range(BINS)):
            raise ModelError(
                f"the tokenizer of {self.settings.source!r} has {len(self._locations)} location tokens, expected "
                f"<loc_0> to <loc_{BINS - 1}>: it is not Florence-2's",
                "model_damaged",
            )

    @property
    def name(self) -> str:
        """What the backend is called."""
        return "florence2"

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    @property
    def score_kind(self) -> ScoreKind:
        """From the probabilities of the location tokens; see ``calibration`` for what they are worth."""
        return ScoreKind.TOKEN_PROBABILITY

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Empty: any text will do."""
        return ()

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """See ``Detector.detect``."""
        asked = open_prompts(prompts, self.name)
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        found: list[list[tuple[FoundBox, str]]] = [[] for _ in checked]
        jobs = iter([(place, prompt) for place in range(len(checked)) for prompt in asked])
        while chunk := list(islice(jobs, self.settings.batch)):
            answers = self._answers([checked[place] for place, _ in chunk], [prompt for _, prompt in chunk])
            for (place, prompt), boxes in zip(chunk, answers, strict=True):
                found[place] += [(box, prompt) for box in boxes if box.score >= threshold]
        origin = Origin(self.name, self.revision, "; ".join(asked), threshold)
        return [_detections(image, items, origin) for image, items in zip(checked, found, strict=True)]

    def _answers(self, images: Sequence[Image], prompts: Sequence[str]) -> list[list[FoundBox]]:
        import torch

        text = [TASK + prompt for prompt in prompts]
        inputs = self._processor(text=text, images=list(images), return_tensors="pt", padding=True)
        inputs = inputs.to(self.settings.device, getattr(torch, self.settings.precision))
        with torch.inference_mode():
            # Without beams: the probabilities of the answer are then those of the tokens that were taken.
            made = self._model.generate(
                **inputs,
                max_new_tokens=_LONGEST_ANSWER,
                num_beams=1,
                do_sample=False,
                output_scores=True,
                return_dict_in_generate=True,
            )
        count = len(made.scores)
        tokens = made.sequences[:, -count:]
        logs = torch.stack(made.scores, dim=1).float().log_softmax(dim=-1)
        values = logs.gather(2, tokens[..., None])[..., 0].cpu().numpy()
        return [
            read_answer(row.tolist(), value.tolist(), self._locations, image.shape[1], image.shape[0])
            for row, value, image in zip(tokens.cpu().numpy(), values, images, strict=True)
        ]


def open_prompts(prompts: Sequence[str], backend: str) -> tuple[str, ...]:
    """The prompts without doubles and blanks around them.

    Raises:
        PromptError: for none, or an empty one.
    """
    asked = tuple(dict.fromkeys(prompt.strip() for prompt in prompts))
    if not asked:
        raise PromptError(
            f"{backend} has an open vocabulary: say what to look for, such as 'red cube'", "prompt_missing"
        )
    if not all(asked):
        raise PromptError(f"prompt {asked.index('')} for {backend} is empty: name what to look for", "prompt_empty")
    return asked


def _detections(image: Image, items: Sequence[tuple[FoundBox, str]], origin: Origin) -> Detections:
    height, width = image.shape[:2]
    ordered = sorted(items, key=lambda item: -item[0].score)
    return Detections(
        width,
        height,
        clipped(np.asarray([item.box for item, _ in ordered], np.float32), width, height),
        np.asarray([item.score for item, _ in ordered], np.float32),
        tuple(prompt for _, prompt in ordered),
        ScoreKind.TOKEN_PROBABILITY,
        origin,
    )
