# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of a trained detector: weights, labels, thresholds and a card. It replaces the last one as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.detectors.detr import USUAL_THRESHOLD, DetectorSide
from flow_rag_vla.labeling.evaluation.evaluate import Evaluation

MODEL = "model"
CARD = "MODEL_CARD.md"
_NEW, _PART = "model.new", ".model.part"

_TEXT = """# Detector {revision}

{architecture}, {parameters:,} parameters, sees {width} x {height} pixels. It finds {count} kinds of things:
{labels}.

    flow_rag_vla label pictures/ --detector detr --detector-model {folder}

- **Scores** are sigmoids, stretched so that each label's own best threshold (below) is 0.5.
- **For:** pictures like those it was taught with. On others measure it first: `flow_rag_vla detector evaluate`.

## How it was made

    {command}

{train} pictures of {data} for training, {val} for validation (digest {digest}); started from {start}; seed {seed}.
These weights are of step {step} (epoch {epoch:.1f} of at most {epochs}), the best of the tries on the validation
pictures.

## Scores on the validation pictures

mAP (overlaps 0.50 to 0.95) **{ap:.3f}**, mAP@50 **{ap50:.3f}**, mAP@75 {ap75:.3f}. The thresholds and the choice of the
weights were made on these same pictures: expect a little less on others.

| label | things | AP | AP@50 | threshold | precision | recall |
|---|---|---|---|---|---|---|
{rows}
"""


def thresholds_of(evaluation: Evaluation, labels: tuple[str, ...]) -> tuple[float, ...]:
    """Score of the best F1 of each label; the usual one where the pictures show none of it, or none was found."""
    curves = evaluation.curves
    return tuple(
        curves[label].threshold if label in curves and curves[label].f1 > 0.0 else USUAL_THRESHOLD for label in labels
    )


def save_model(folder: Path, network: Any, side: DetectorSide, more: Mapping[str, Any], card: str) -> None:
    """Write ``folder``/model; a crash leaves the last one or the new one, see ``recovered``."""
    part = folder / _PART
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with _without_bars():
        network.save_pretrained(part)
    side.save(part, more)
    write_text(part / CARD, card)
    for path in part.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(folder / _NEW, ignore_errors=True)
    part.rename(folder / _NEW)
    shutil.rmtree(folder / MODEL, ignore_errors=True)
    (folder / _NEW).rename(folder / MODEL)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Transformers shows a bar for a file of a megabyte, in the middle of the training's own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def recovered(folder: Path) -> None:
    """End a replacement that a crash cut short."""
    shutil.rmtree(folder / _PART, ignore_errors=True)
    if (folder / _NEW).is_dir():
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        (folder / _NEW).rename(folder / MODEL)


def card_text(evaluation: Evaluation, side: DetectorSide, about: Mapping[str, Any]) -> str:
    """The model card. about: what ``_TEXT`` names besides."""
    rows = []
    for label, threshold in zip(side.labels, side.thresholds, strict=True):
        score, curve = evaluation.boxes.by_category.get(label), evaluation.curves.get(label)
        if score is None or curve is None:
            rows.append(f"| {label} | 0 | - | - | {threshold:.2f} | - | - |")
            continue
        rows.append(
            f"| {label} | {score.things} | {score.ap:.3f} | {score.ap50:.3f} | {threshold:.2f} | "
            f"{curve.best_precision:.3f} | {curve.best_recall:.3f} |"
        )
    boxes = evaluation.boxes
    return _TEXT.format(
        revision=evaluation.revision,
        width=side.width,
        height=side.height,
        count=len(side.labels),
        labels=", ".join(side.labels),
        rows="\n".join(rows),
        ap=boxes.ap,
        ap50=boxes.ap50,
        ap75=boxes.ap75,
        **about,
    )
