# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Scores to shares of correct ones, fitted on detections that somebody has checked.

Isotonic regression by pooling adjacent violators (Zadrozny and Elkan 2002), kept as the corners of a rising line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.detections import Detections, ScoreKind
from flow_rag_vla.labeling.pipeline.boxes import select
from flow_rag_vla.labeling.pipeline.errors import ModelError, SettingError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.stages import Detector

LEAST_SAMPLES = 20
"""Checked detections below which a fit says more about chance than about the detector."""
_FORMAT = "flow_rag_vla.score_calibration/1"


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """A rising line through ``scores`` -> ``precisions``, both 0 to 1, level beyond its ends.

    kind: of the scores that it takes; revision: of the detector that gave them; samples: how many it was fitted on
    """

    scores: tuple[float, ...]
    precisions: tuple[float, ...]
    kind: ScoreKind
    revision: str
    samples: int

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) float32: how often a detection of such a score is right."""
        return np.interp(scores, self.scores, self.precisions).astype(np.float32)

    def threshold_for(self, precision: float) -> float | None:
        """Least raw score from which detections are right at least that often; None if no score is."""
        enough = [score for score, value in zip(self.scores, self.precisions, strict=True) if value >= precision]
        return min(enough) if enough else None

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        values = {
            "format": _FORMAT,
            "scores": self.scores,
            "precisions": self.precisions,
            "kind": self.kind.value,
            "revision": self.revision,
            "samples": self.samples,
        }
        write_text(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> ScoreCalibration:
        """Read what ``save`` wrote.

        Raises:
            ModelError: if the file is missing or not of this format.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != _FORMAT:
                raise ValueError(f"its format is {values['format']!r}")
            return cls(
                tuple(float(value) for value in values["scores"]),
                tuple(float(value) for value in values["precisions"]),
                ScoreKind(values["kind"]),
                str(values["revision"]),
                int(values["samples"]),
            )
        except OSError as error:
            raise ModelError(f"calibration {path} cannot be read ({error.strerror}); fit one first") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"calibration {path} is damaged ({error}); fit it again", "model_damaged") from error


def fit_calibration(
    scores: Sequence[float] | NDArray[np.float32],
    correct: Sequence[bool] | NDArray[np.bool_],
    kind: ScoreKind,
    revision: str,
    *,
    threshold: float = 0.0,
) -> ScoreCalibration:
    """The rising line that fits checked detections best, by squares.

    Args:
        scores: of each detection.
        correct: whether a person, or ground truth, agreed.
        kind: of the scores.
        revision: of the detector.
        threshold: score below which nobody looked: nothing there counts as right, rather than as much as just above.

    Raises:
        SettingError: for fewer than ``LEAST_SAMPLES`` detections, or lists that differ in length.
    """
    values, right = np.asarray(scores, np.float64), np.asarray(correct, np.float64)
    if values.shape != right.shape or values.size < LEAST_SAMPLES:
        raise SettingError(
            f"{values.size} scores and {right.size} verdicts: a calibration needs as many of one as of the other, and "
            f"at least {LEAST_SAMPLES}"
        )
    # Equal scores are one sample: their order says nothing.
    unique, places = np.unique(values, return_inverse=True)
    weight = np.bincount(places).astype(np.float64)
    share = np.bincount(places, weights=right) / weight
    blocks: list[tuple[float, float, float, float]] = []
    for score, value, count in zip(unique, share, weight, strict=True):
        blocks.append((float(score), float(score), float(value), float(count)))
        while len(blocks) > 1 and blocks[-2][2] >= blocks[-1][2]:
            low, high = blocks[-2], blocks[-1]
            total = low[3] + high[3]
            blocks[-2:] = [(low[0], high[1], (low[2] * low[3] + high[2] * high[3]) / total, total)]
    corners: dict[float, float] = {}
    unseen = float(np.nextafter(np.float32(min(threshold, unique[0])), np.float32(0.0)))
    if unseen > 0.0:
        corners[unseen] = 0.0
    for first, last, value, _ in blocks:
        corners[first] = corners[last] = value
    return ScoreCalibration(tuple(corners), tuple(corners.values()), kind, revision, int(values.size))


class CalibratedDetector:
    """A detector whose scores are shares of correct ones. The threshold is applied to those.

    Raises:
        ModelError: if the calibration was fitted on scores of another kind or on other weights.
    """

    def __init__(self, detector: Detector, calibration: ScoreCalibration) -> None:
        if (calibration.kind, calibration.revision) != (detector.score_kind, detector.revision):
            raise ModelError(
                f"the calibration is of {calibration.kind.value} scores of revision {calibration.revision}, the "
                f"detector {detector.name} gives {detector.score_kind.value} scores of revision {detector.revision}: "
                "fit it again on this detector",
                "model_damaged",
            )
        self._detector = detector
        self._calibration = calibration

    @property
    def name(self) -> str:
        """The detector's name."""
        return self._detector.name

    @property
    def revision(self) -> str:
        """The detector's revision."""
        return self._detector.revision

    @property
    def score_kind(self) -> ScoreKind:
        """Shares of correct ones."""
        return ScoreKind.CALIBRATED

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The detector's vocabulary."""
        return self._detector.vocabulary

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """See ``Detector.detect``."""
        results = []
        for found in self._detector.detect(images, prompts, 0.0):
            scores = self._calibration(found.scores)
            origin = replace(found.origin, threshold=threshold)
            scored = replace(found, scores=scores, score_kind=ScoreKind.CALIBRATED, origin=origin)
            results.append(select(scored, scores >= threshold))
        return results
