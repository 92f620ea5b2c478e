# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A few drawn pictures, and settings with which a training takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.evaluation.pictures import TruePicture
from flow_rag_vla.labeling.training.settings import DetectorTraining
from flow_rag_vla.labeling.training.train import TrainingData, train_detector

CATEGORIES = ("red", "blue")
COLOURS = {"red": (220, 30, 30), "blue": (30, 40, 220)}


def drawn(seed: int) -> TruePicture:
    """A grey picture of 96 x 64 with one to three coloured squares."""
    rng = np.random.default_rng(seed)
    image = np.full((64, 96, 3), 120, np.uint8)
    boxes, labels = [], []
    for _ in range(rng.integers(1, 4)):
        side = int(rng.integers(14, 26))
        left, top = int(rng.integers(0, 96 - side)), int(rng.integers(0, 64 - side))
        label = CATEGORIES[int(rng.integers(2))]
        image[top : top + side, left : left + side] = COLOURS[label]
        boxes.append((left, top, left + side, top + side))
        labels.append(label)
    truth = Detections(
        96, 64, np.asarray(boxes, np.float32), np.ones(len(boxes), np.float32), tuple(labels), ScoreKind.GROUND_TRUTH,
        Origin("drawn"),
    )  # fmt: skip
    return TruePicture(f"drawn {seed}", lambda: image, truth)


@pytest.fixture(scope="session")
def data() -> TrainingData:
    return TrainingData("squares", CATEGORIES, [drawn(seed) for seed in range(8)], [drawn(100), drawn(101)])


@pytest.fixture(scope="session")
def trained(data: TrainingData, tiny: Callable[..., DetectorTraining], tmp_path_factory) -> Path:
    """The folder of a training of two steps; copy what you change."""
    folder = tmp_path_factory.mktemp("trained")
    train_detector(data, folder, tiny(epochs=1))
    return folder


@pytest.fixture(scope="session")
def tiny() -> Callable[..., DetectorTraining]:
    """``tiny(epochs=2)``: settings of a model of 40,000 weights."""

    def settings(**changed: object) -> DetectorTraining:
        usual = {
            "size": "tiny", "width": 96, "height": 64, "epochs": 3, "batch": 4, "every": 1, "save_every": 2,
            "threads": 1, "device": "cpu",
        }  # fmt: skip
        return DetectorTraining(**(usual | changed))  # type: ignore[arg-type]

    return settings
