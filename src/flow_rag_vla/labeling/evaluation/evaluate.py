# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A detector on pictures whose truth is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.compact.scoring import score_detections
from flow_rag_vla.labeling.detections import Detections, Masks
from flow_rag_vla.labeling.evaluation.coco import BOXES, MASKS, CocoCount, CocoScores
from flow_rag_vla.labeling.evaluation.confusion import Confusion, Mistakes, confusion_of
from flow_rag_vla.labeling.evaluation.curves import Curve, curve_of
from flow_rag_vla.labeling.evaluation.pictures import TruePicture, categories_of
from flow_rag_vla.labeling.pipeline.boxes import select
from flow_rag_vla.labeling.pipeline.errors import SettingError, SourceError
from flow_rag_vla.labeling.pipeline.stages import Detector
from flow_rag_vla.learn.progress import Progress, silent

LEAST_SCORE = 0.01
"""Average precision needs the unsure ones too."""
THRESHOLD = 0.5
"""Least score that counts as found where one answer is asked for: what labelling uses unless told otherwise."""
FORMAT = "flow_rag_vla.detector_evaluation/1"


@dataclass(frozen=True, slots=True)
class Looked:
    """One picture: what was found and what is there, both without masks, and what is wrong."""

    picture: TruePicture
    found: Detections
    mistakes: Mistakes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of one detector on one set of pictures.

    detector, revision, score_kind: what was measured; data: what it was measured on
    unknown: categories of the truth that the detector has no word for; their things count as missed
    boxes: scores of the boxes; masks: of the masks, None where either side has none
    mask_overlap: by category, mean intersection over union of the masks; a thing that was not found counts 0
    threshold: least score of what the confusions count; seconds: a picture, of the detector alone
    """

    detector: str
    revision: str
    score_kind: str
    data: str
    categories: tuple[str, ...]
    unknown: tuple[str, ...]
    boxes: CocoScores
    masks: CocoScores | None
    mask_overlap: dict[str, float]
    confusion: Confusion
    curves: dict[str, Curve]
    looked: tuple[Looked, ...]
    threshold: float
    seconds: float

    @property
    def miou(self) -> float | None:
        """Mean over the categories of ``mask_overlap``; None without masks."""
        return float(np.mean(list(self.mask_overlap.values()))) if self.mask_overlap else None

    def worst(self, most: int) -> tuple[Looked, ...]:
        """Pictures with the most mistakes, at most so many; none that is all right."""
        order = sorted(self.looked, key=lambda item: -item.mistakes.count)
        return tuple(item for item in order[:most] if item.mistakes.count)

    def values(self) -> dict[str, Any]:
        """For JSON."""
        matrix = self.confusion
        return {
            "format": FORMAT,
            "detector": {"name": self.detector, "revision": self.revision, "score_kind": self.score_kind},
            "data": self.data,
            "pictures": len(self.looked),
            "categories": list(self.categories),
            "unknown_categories": list(self.unknown),
            "boxes": self.boxes.values(),
            "masks": None if self.masks is None else self.masks.values(),
            "mask_overlap": self.mask_overlap,
            "miou": self.miou,
            "threshold": self.threshold,
            "confusion": {"rows_true_columns_found": [*self.categories, ""], "counts": matrix.counts.tolist()},
            "curves": {
                name: {
                    "things": curve.things,
                    "best_threshold": curve.threshold,
                    "f1": curve.f1,
                    "precision": curve.best_precision,
                    "recall": curve.best_recall,
                    "score_precision_recall": curve.thinned(),
                }
                for name, curve in self.curves.items()
            },
            "worst": [
                {
                    "picture": item.picture.name,
                    "missed": len(item.mistakes.missed),
                    "imagined": len(item.mistakes.imagined),
                    "mistaken": len(item.mistakes.mistaken),
                }
                for item in self.worst(20)
            ],
            "seconds_per_picture": self.seconds,
        }

    def save(self, path: str | Path) -> None:
        """Write ``values`` as JSON."""
        write_text(path, json.dumps(self.values(), indent=1, allow_nan=False) + "\n")


def evaluate_detector(
    detector: Detector,
    pictures: Sequence[TruePicture],
    *,
    data: str = "",
    categories: Sequence[str] = (),
    threshold: float = THRESHOLD,
    batch: int = 4,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Measure a detector.

    Args:
        detector: any backend. One with an open vocabulary is asked for the categories, one with a closed one for those
            of them that it knows.
        pictures: with their truth.
        data: what the pictures are, for the report.
        categories: that count; none: all that are in the truth.
        threshold: least score of what the confusions count.
        batch: pictures given to the detector at once.
        progress: told of the pictures.
        stop: looked at between batches.

    Raises:
        SourceError: without pictures, or without a thing in them.
        SettingError: for a threshold that is no number of 0 to 1.
        ImageError: for a picture that cannot be read.
        InterruptedError: ``stop`` said so; a part would look like the whole.
    """
    if not 0.0 <= threshold <= 1.0:
        raise SettingError(f"threshold is {threshold}, expected a number of 0 to 1")
    names = tuple(categories) or categories_of(pictures)
    if not pictures or not names:
        raise SourceError(
            f"{data or 'the set'} has {len(pictures)} pictures with {len(names)} categories: nothing can be measured",
            "source_empty",
        )
    words = known_words(detector.vocabulary, names)
    boxes = CocoCount(names, BOXES)
    masks: CocoCount | None = None
    overlap_sums = dict.fromkeys(names, 0.0)
    things = dict.fromkeys(names, 0)
    kept: list[tuple[TruePicture, Detections]] = []
    seconds = 0.0
    for begin in range(0, len(pictures), batch):
        if stop():
            raise InterruptedError("the evaluation was stopped")
        part = pictures[begin : begin + batch]
        images = [picture.load() for picture in part]
        started = time.perf_counter()
        answers = detector.detect(images, tuple(words), LEAST_SCORE) if words else [None] * len(part)
        seconds += time.perf_counter() - started
        for picture, answer in zip(part, answers, strict=True):
            found = _named(answer, words) if answer is not None else _nothing(picture.truth)
            truth = picture.truth
            size = (truth.width, truth.height)
            true_masks = picture.masks if found.masks is not None else None
            boxes.add(size, (truth.boxes, truth.labels, None), (found.boxes, found.labels, found.scores, None))
            if true_masks is not None:
                masks = masks or CocoCount(names, MASKS)
                masks.add(
                    size, (truth.boxes, truth.labels, true_masks),
                    (found.boxes, found.labels, found.scores, found.masks),
                )  # fmt: skip
                _add_overlaps(found, truth, true_masks, overlap_sums, things)
            kept.append((picture, replace(found, masks=None, embeddings=None)))
        progress(len(kept), len(pictures))
    pairs = [(found, replace(picture.truth, masks=None)) for picture, found in kept]
    confusion, mistakes = confusion_of(pairs, names, dict.fromkeys(names, threshold))
    return Evaluation(
        detector.name,
        detector.revision,
        detector.score_kind.value,
        data,
        names,
        tuple(name for name in names if name not in words.values()),
        boxes.scores(),
        masks.scores() if masks is not None and any(things.values()) else None,
        {name: overlap_sums[name] / things[name] for name in names if things[name]},
        confusion,
        {name: curve_of(name, pairs) for name in names},
        tuple(
            Looked(picture, found, wrong) for (picture, found), wrong in zip(kept, mistakes, strict=True)
        ),
        threshold,
        seconds / len(pictures),
    )  # fmt: skip


def known_words(vocabulary: Sequence[str], categories: Sequence[str]) -> dict[str, str]:
    """What to ask a detector -> the category that it means; capitals and ``_`` or ``-`` for a blank do not matter."""
    if not vocabulary:
        return {category: category for category in categories}
    by_word = {plain(word): word for word in vocabulary}
    return {by_word[plain(name)]: name for name in categories if plain(name) in by_word}


def plain(word: str) -> str:
    """A name as it is compared."""
    return " ".join(word.lower().replace("_", " ").replace("-", " ").split())


def _named(found: Detections, words: dict[str, str]) -> Detections:
    """What was found, under the categories' names; best scores first."""
    rows = [row for row, label in enumerate(found.labels) if label in words]
    rows.sort(key=lambda row: -float(found.scores[row]))
    chosen = select(found, rows)
    return replace(chosen, labels=tuple(words[label] for label in chosen.labels))


def _nothing(truth: Detections) -> Detections:
    return select(replace(truth, masks=None, embeddings=None), [])


def _add_overlaps(
    found: Detections, truth: Detections, masks: Masks, sums: dict[str, float], things: dict[str, int]
) -> None:
    score = score_detections([(found, replace(truth, masks=masks))])
    for name, count in score.things.items():
        if name in sums:
            sums[name] += score.mask_overlap[name] * count
            things[name] += count
