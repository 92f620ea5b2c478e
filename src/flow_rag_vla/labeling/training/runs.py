# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A training or an evaluation from a dataset to its pages: what the console command and the jobs do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flow_rag_vla.labeling.backends import BackendSettings, make_detector
from flow_rag_vla.labeling.detectors.detr import NAME, DetrDetector
from flow_rag_vla.labeling.evaluation.dataset import open_part
from flow_rag_vla.labeling.evaluation.evaluate import THRESHOLD, Evaluation, evaluate_detector
from flow_rag_vla.labeling.evaluation.report import write_report as write_evaluation
from flow_rag_vla.labeling.pretrained import PretrainedSettings
from flow_rag_vla.labeling.training import report
from flow_rag_vla.labeling.training.model_folder import MODEL
from flow_rag_vla.labeling.training.settings import DetectorTraining
from flow_rag_vla.labeling.training.tracking import AUTO, trackers
from flow_rag_vla.labeling.training.train import Trained, TrainingData, device_of, train_detector
from flow_rag_vla.learn.progress import Progress, silent

Bar = Callable[[str], Progress]
"""Gives a progress callback for a stage with a title."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a training left: see ``Trained``; its page; the scores of its model, once it is finished and measured."""

    trained: Trained
    page: Path
    evaluation: Evaluation | None


def no_bar(_title: str) -> Progress:
    """Bars that say nothing."""
    return silent


def run_training(
    dataset: str,
    folder: Path,
    settings: DetectorTraining,
    *,
    tracking: str = AUTO,
    command: str = "flow_rag_vla detector train",
    bar: Bar = no_bar,
    say: Callable[[str], None] = lambda _line: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingRun:
    """Train on a dataset's parts train and val, or go on with it, and write the pages.

    Args:
        dataset: folder of a dataset, or ``simulator:N`` scenes.
        folder: of the training.
        settings: how.
        tracking: auto, none or mlflow.
        command: how it was asked for, for the model card.
        bar: for each stage.
        say: told in words where the metrics go.
        stop: looked at after each step; when it is finished, between the pictures that it is measured on.

    Raises:
        LabelingError: with a code for programs.
    """
    tell, words = trackers(folder, tracking)
    name, categories, train = open_part(dataset, "train", bar("Pictures to learn from"))
    _, _, val = open_part(dataset, "val", bar("Pictures to try on"))
    data = TrainingData(name, categories, train, val)
    say(words)
    trained = train_detector(
        data, folder, settings, tell=tell, command=command, progress=bar("Training"), stop=stop
    )  # fmt: skip
    page = report.write_report(folder)
    evaluation = None
    if trained.finished and trained.model is not None:
        running = PretrainedSettings(str(trained.model), device_of(settings), batch=settings.batch)
        with contextlib.suppress(InterruptedError):
            evaluation = evaluate_detector(
                DetrDetector.load(running), val, data=f"{name}, val", categories=categories, batch=settings.batch,
                progress=bar("Validation pictures"), stop=stop,
            )  # fmt: skip
            write_evaluation(evaluation, folder)
    kept = [page, folder / "evaluation.html", folder / MODEL / "MODEL_CARD.md"]
    for tracker in tell:
        tracker.end("finished" if trained.finished else "stopped", kept)
    return TrainingRun(trained, page, evaluation)


def run_evaluation(
    dataset: str,
    part: str,
    folder: Path,
    backend: BackendSettings,
    *,
    threshold: float = THRESHOLD,
    most: int = 0,
    bar: Bar = no_bar,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Evaluation, Path]:
    """Measure a detector on a part of a dataset; the scores and their page.

    Args:
        dataset: folder of a dataset, or ``simulator:N`` scenes.
        part: train, val or test.
        folder: of the page and the figures.
        backend: which detector.
        threshold: least score of what the confusions count.
        most: pictures at most, spread over the part; 0: all.
        bar: for each stage.
        stop: looked at between batches.

    Raises:
        LabelingError: with a code for programs.
        InterruptedError: ``stop`` said so.
    """
    detector = make_detector(backend)
    name, categories, pictures = open_part(dataset, part, bar("Pictures"))
    if most and len(pictures) > most:
        pictures = [pictures[place * len(pictures) // most] for place in range(most)]
    scores = evaluate_detector(
        detector, pictures, data=f"{name}, {part}", categories=categories, threshold=threshold,
        batch=backend.batch, progress=bar("Detector"), stop=stop,
    )  # fmt: skip
    return scores, write_evaluation(scores, folder)


def named_backend(detector: str, model: str, device: str = "cpu", batch: int = 4) -> BackendSettings:
    """A detector by name; the folder of a training stands for the model in it."""
    folder = Path(model).expanduser()
    if detector == NAME and model and (folder / MODEL / "config.json").is_file():
        model = str(folder / MODEL)
    return replace(BackendSettings(), detector=detector, detector_model=model, device=device, batch=batch)
