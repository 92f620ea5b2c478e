# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The classifier that the project began with: two pictures, one before and one after, and whether something failed.

A perceptron on both embeddings. It knows neither goal nor phase nor what the hand feels, and tells less than the probe
does; a detector that is asked to takes its answer as one more score. What success episodes make of that answer, its
band and the fused scores with it, belongs to one calibration and is kept beside the weights: a calibration is the same
with it and without.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.failure.bands import Band, bands_for
from flow_rag_vla.failure.calibration import (
    Array,
    Calibration,
    CalibrationError,
    Knowledge,
    Split,
    cross_fitted,
    fit_bands,
    fused_peaks,
    held_out_scores,
    one_unit,
    raw_scores,
    smooth_scores,
)
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.fusion import Window, standardised
from flow_rag_vla.failure.perceptron import Perceptron
from flow_rag_vla.failure.trace import Origin, Trace

NAME = "before_after"

APART_S = 1.0
"""Seconds between the two pictures: about what a chunk and its way to the robot take."""

FARTHEST_S = 1.5
"""Seconds between two pictures that are no longer compared: the classifier never saw such a pair."""

KEPT = 240
"""Pictures among which the one from before is looked for: a second of them at any rate of a camera."""

REMAKE = "flow_rag_vla calibrate --simulate --before-after FILE"


class BeforeAfterNetwork(Perceptron):
    """The perceptron on two embeddings."""

    subject: ClassVar[str] = "before/after classifier"


class PicturePairs:
    """Pairs each picture of one episode with the newest that is at least ``APART_S`` older."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, NDArray[np.float32]]] = deque(maxlen=KEPT)

    def reset(self) -> None:
        """Begin a new episode."""
        self._seen.clear()

    def pair(self, frame: Frame) -> NDArray[np.float32] | None:
        """(2 D,) float32: the embedding then and now; None where there is none from before."""
        self._seen.append((frame.elapsed, frame.embedding))
        due = frame.elapsed - APART_S + 1e-6
        while len(self._seen) > 1 and self._seen[1][0] <= due:
            self._seen.popleft()
        elapsed, before = self._seen[0]
        if elapsed > due or frame.elapsed - elapsed > FARTHEST_S:
            return None
        return np.concatenate([before, frame.embedding]).astype(np.float32, copy=False)


class BeforeAfterScore:
    """What the classifier says of each picture of one episode."""

    name = NAME

    def __init__(self, network: BeforeAfterNetwork) -> None:
        self._network, self._pairs = network, PicturePairs()

    def reset(self) -> None:
        """Begin a new episode."""
        self._pairs.reset()

    def update(self, frame: Frame) -> float:
        """The logit of a failure; NaN in the first second, after a gap, and where it is not finite."""
        pair = self._pairs.pair(frame)
        if pair is None:
            return math.nan
        logit = float(self._network.logits(pair[None, :])[0])
        return logit if math.isfinite(logit) else math.nan


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """The classifier, and what success episodes make of its answers.

    origin: encoder and policy of the episodes that taught it
    calibration: revision of the calibration that bands and peaks belong to
    bands: as those of a calibration, of this score alone; scale: one unit of it when scores are fused
    peaks: (N,) sorted, the highest fused score, this one among them, of each success episode that was held out
    successes, failures: how many episodes of each taught it; source: where they come from, in words
    """

    network: BeforeAfterNetwork
    origin: Origin
    calibration: str
    bands: Mapping[str, tuple[Band, ...]]
    scale: float
    peaks: Array
    successes: int
    failures: int
    source: str
    revision: str = ""

    def check(self, calibration: Calibration) -> None:
        """Refuse a calibration of another encoder.

        Raises:
            CalibrationError: naming both and the remedy.
        """
        own, other, size = self.origin, calibration.origin, len(calibration.space.mean)
        if (own.encoder_revision, self.network.inputs) != (other.encoder_revision, 2 * size):
            raise CalibrationError(
                f"the before/after classifier is of encoder {own.encoder!r} revision {own.encoder_revision} with "
                f"{self.network.inputs // 2} numbers, but the calibration is of {other.encoder!r} revision "
                f"{other.encoder_revision} with {size}; make both with `{REMAKE}`"
            )

    def belongs_to(self, calibration: Calibration) -> bool:
        """Whether its bands and peaks were measured with this calibration; without, it is shown and decides nothing."""
        return self.calibration == calibration.revision


class BeforeAfterWatch:
    """The classifier beside the other scores, over one episode at a time."""

    def __init__(self, classifier: BeforeAfter, *, banded: bool) -> None:
        """Make one; ``banded``: its bands were measured with the monitor's calibration and may be used."""
        self._score, self._window = BeforeAfterScore(classifier.network), Window()
        self._bands = classifier.bands if banded else {}
        self._scale = classifier.scale

    def reset(self) -> None:
        """Begin a new episode."""
        self._score.reset()
        self._window.reset()

    def update(self, frame: Frame, target: str) -> tuple[float, float, float]:
        """What the classifier says, above what it would leave its band now, and its deviations over the window.

        The last two are NaN without a band.
        """
        said = self._score.update(frame)
        bands = bands_for(self._bands, frame.task, target)
        if bands is None:
            return said, math.nan, math.nan
        deviations = self._window.add(standardised(bands, frame.elapsed, np.array([said])))
        return said, bands[0].upper(frame.elapsed, self._scale), float(deviations[0])


def answers(network: BeforeAfterNetwork, trace: Trace) -> Array:
    """(F,) logits of the frames of an episode, as a running detector has them; NaN where it says nothing."""
    score = BeforeAfterScore(network)
    return np.array([score.update(frame) for frame in trace.frames])


def calibrate_before_after(
    network: BeforeAfterNetwork,
    calibration: Calibration,
    split: Split,
    *,
    successes: int = 0,
    failures: int = 0,
    source: str = "",
    seed: int = 0,
) -> BeforeAfter:
    """Give the classifier a band, and measure how far success episodes stray once its answer is fused with the scores.

    Args:
        network: taught by other episodes than ``split.held_out``.
        calibration: of the monitor, made with the same split and seed.
        split: success episodes by use.
        successes: how many taught it.
        failures: how many failed episodes did.
        source: where they come from, in words.
        seed: of the folds.

    Raises:
        CalibrationError: if a task has too few episodes.
    """
    traces = split.held_out
    knowledge = Knowledge(calibration.space, calibration.banks, calibration.distillation)
    others = held_out_scores(traces, raw_scores(knowledge, traces), calibration.probe, seed)
    values = [answers(network, trace)[:, None] for trace in traces]

    def measure(inside: Sequence[int], outside: Sequence[int]) -> list[Array]:
        bands = fit_bands([traces[index] for index in inside], [values[index] for index in inside], ())
        return smooth_scores(bands, [traces[index] for index in outside], [values[index] for index in outside])

    smooth = cross_fitted(traces, seed, measure)
    scale = one_unit([rows[:, 0] for rows in smooth])
    joined = [np.concatenate(parts, axis=1) for parts in zip(others, smooth, strict=True)]
    return BeforeAfter(
        network,
        calibration.origin,
        calibration.revision,
        fit_bands(traces, values, ()),
        scale,
        fused_peaks(joined, np.append(calibration.scales, scale)),
        successes,
        failures,
        source,
    )
