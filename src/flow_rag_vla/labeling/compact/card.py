# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The model card of a compact detector: what it is for, how it was made, how it does on held-out scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.compact.categories import CATEGORIES
from flow_rag_vla.labeling.compact.held_out import (
    LARGE_SIZE,
    POSES,
    ROBOT_SIZE,
    SMALLEST_SHARE,
    held_out_frames,
    score_detector,
)
from flow_rag_vla.labeling.compact.model import CARD_FILE, CompactModel
from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS, TRAINING_SEEDS
from flow_rag_vla.labeling.compact.scoring import DetectionScore
from flow_rag_vla.labeling.compact.training import CompactTraining
from flow_rag_vla.labeling.detectors.compact import CompactDetector
from flow_rag_vla.learn.progress import Progress, silent

_TEXT = """# Compact detector {revision}

Finds, outlines and describes (an embedding of {dimension} numbers) what the simulator's scenes hold, in one pass of a
convolutional network of {parameters:,} parameters. No download, no GPU.

- **Knows:** {categories}. A prompt that fits none of them is refused, with the words that are known.
- **For:** labelling pictures of the simulator's cameras: data for training, tracks, tests of what comes after. It was
  taught with simulated pictures only. On photographs of real things expect it to fail: use Grounding DINO or
  Florence-2 there.
- **Scores** are means of pixel probabilities, not shares of correct ones.

## How it was made

    {command}

{pictures} pictures of the simulator with its own segmentation as truth, seeds from {training_seeds} on: all tasks and
variants, three cameras, four sizes, any light, strangers on the table, second things of a kind, the arm in front.
{iterations} steps of {batch} squares of {crop} pixels; seed {seed}.

## Scores on held-out scenes

{scenes} scenes of each size, {poses} pictures each, seeds from {test_seeds} on, drawn like those of the training.
Average precision at an overlap of 0.5 (boxes) / mean overlap of masks, where what was not found counts 0. Things of
less than {smallest:.3%} of a picture are not counted.

| category | 640 x 480 | 128 x 128 |
|---|---|---|
{rows}
| **mean (mAP@50 / mIoU)** | **{large}** | **{robot}** |
"""


@dataclass(frozen=True, slots=True)
class ModelScores:
    """Scores on held-out scenes of two sizes."""

    large: DetectionScore
    robot: DetectionScore
    scenes: int
    parameters: int
    dimension: int

    def lines(self) -> list[str]:
        """For the console."""
        sizes = (("640 x 480", self.large), ("128 x 128", self.robot))
        return [f"{name}: mAP@50 {score.map50:.3f}, mIoU {score.miou:.3f}" for name, score in sizes]


def score_model(model: CompactModel, scenes: int, progress: Progress = silent) -> ModelScores:
    """Score a model on ``scenes`` held-out scenes of each size."""
    detector = CompactDetector(model)
    scores = []
    for place, size in enumerate((LARGE_SIZE, ROBOT_SIZE)):
        scores.append(score_detector(detector, held_out_frames(scenes, size)))
        progress(place + 1, 2)
    parameters = sum(value.numel() for value in model.network.parameters())
    return ModelScores(scores[0], scores[1], scenes, parameters, model.dimension)


def write_card(
    folder: str | Path, revision: str, scores: ModelScores, command: str, pictures: int, training: CompactTraining
) -> Path:
    """Write the card beside the weights; give its path."""
    rows = [
        f"| {name} | {_pair(scores.large, name)} | {_pair(scores.robot, name)} |"
        for name in CATEGORIES
        if name in scores.large.things or name in scores.robot.things
    ]
    path = Path(folder) / CARD_FILE
    text = _TEXT.format(
        revision=revision,
        dimension=scores.dimension,
        parameters=scores.parameters,
        categories=", ".join(CATEGORIES),
        command=command,
        pictures=pictures,
        training_seeds=TRAINING_SEEDS,
        iterations=training.iterations,
        batch=training.batch,
        crop=training.crop,
        seed=training.seed,
        scenes=scores.scenes,
        poses=POSES,
        test_seeds=TEST_SEEDS,
        smallest=SMALLEST_SHARE,
        rows="\n".join(rows),
        large=f"{scores.large.map50:.3f} / {scores.large.miou:.3f}",
        robot=f"{scores.robot.map50:.3f} / {scores.robot.miou:.3f}",
    )
    write_text(path, text)
    return path


def _pair(score: DetectionScore, name: str) -> str:
    if name not in score.things:
        return "-"
    return f"{score.average_precision[name]:.3f} / {score.mask_overlap[name]:.3f}"
