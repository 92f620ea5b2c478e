# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of the pipeline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flow_rag_vla.labeling.pipeline.errors import PromptError, SettingError
from flow_rag_vla.labeling.pipeline.tiles import Tiling

DEFAULT_THRESHOLD = 0.5
DEFAULT_OVERLAP = 0.7


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """What to look for, and how sure to be.

    prompts: words for what is looked for; none: all that a closed vocabulary knows
    threshold: least score that is kept, 0 to 1
    overlap: intersection over union above which two boxes are one thing found twice, 0 to 1
    synonyms: category -> other words for it; the detector is asked for all of them, the label is the category
    tiling: how a large picture is cut, or None

    Raises:
        PromptError: for an empty prompt.
        SettingError: for a threshold or overlap that is no number of 0 to 1.
    """

    prompts: tuple[str, ...] = ()
    threshold: float = DEFAULT_THRESHOLD
    overlap: float = DEFAULT_OVERLAP
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        words = [*self.prompts, *self.synonyms, *(word for words in self.synonyms.values() for word in words)]
        for place, word in enumerate(words):
            if not word.strip():
                raise PromptError(f"prompt {place} is empty: name what to look for, such as 'red cube'", "prompt_empty")
        for name, value in (("threshold", self.threshold), ("overlap", self.overlap)):
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise SettingError(f"{name} is {value}, expected a number of 0 to 1")

    def phrases(self) -> dict[str, str]:
        """Every phrase to ask the detector for -> the label that is given to what it finds."""
        asked = {prompt.strip(): prompt.strip() for prompt in self.prompts}
        for category, words in self.synonyms.items():
            if not self.prompts or category in asked:
                asked.update({word.strip(): category for word in (category, *words)})
        return asked


def parse_synonyms(entries: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """``category=word,word`` entries as the mapping that a request takes.

    Raises:
        PromptError: for an entry without ``=`` or with an empty word.
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        category, equals, words = entry.partition("=")
        parts = tuple(word.strip() for word in words.split(","))
        if not equals or not category.strip() or not all(parts):
            raise PromptError(f"synonyms {entry!r} are not of the form category=word,word", "prompt_empty")
        found[category.strip()] = parts
    return found
