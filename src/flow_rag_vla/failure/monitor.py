# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Watches one episode by all scores at once and says when it leaves what success episodes do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.failure.bands import bands_for, conformal_threshold, p_value
from flow_rag_vla.failure.before_after import NAME as BEFORE_AFTER
from flow_rag_vla.failure.before_after import BeforeAfter, BeforeAfterWatch
from flow_rag_vla.failure.calibration import Calibration
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.fusion import Window, fuse, make_scores, standardised
from flow_rag_vla.failure.probe import NAME as PROBE
from flow_rag_vla.failure.probe import Probe, ProbeInput

SPAN_S = 0.5
"""Seconds over which scores are averaged: ``fusion.WINDOW`` frames at the camera's 10 Hz."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the monitor says at one frame.

    score: all scores fused; band: what it must exceed for an alarm; NaN and infinity where nothing is known
    p_value: share of success episodes that have ever gone as far as this episode has so far
    alarm: whether this episode has left the band, now or before; raised: whether it did so at this frame
    leading: the score that says most; reason: in words, empty without an alarm
    names, values, bands: of the single scores: what each says, and above what it would leave its own band now; a band
        is NaN for a score that has none and decides nothing
    probability: the probe's chance that the episode fails, and probability_band, above which the probe alone would
        leave its band now; NaN without a probe
    onset_ns: when the stretch began that led here
    """

    stamp_ns: int
    score: float
    band: float
    p_value: float
    alarm: bool
    raised: bool
    leading: str
    reason: str
    names: tuple[str, ...]
    values: NDArray[np.float64]
    bands: NDArray[np.float64]
    probability: float
    probability_band: float
    onset_ns: int

    def evidence(self, name: str) -> Evidence:
        """What one score says, beside what would leave its band."""
        column = self.names.index(name)
        return Evidence(name, float(self.values[column]), float(self.bands[column]))


class Monitor:
    """Watches one episode at a time. Not safe for several threads."""

    def __init__(self, calibration: Calibration, before_after: BeforeAfter | None = None) -> None:
        """Make a monitor.

        Args:
            calibration: what success episodes do.
            before_after: a further score. It is fused with the others if its band was measured with this calibration,
                and otherwise only told.

        Raises:
            CalibrationError: if it is of another encoder.
        """
        if before_after is not None:
            before_after.check(calibration)
        self.calibration = calibration
        self._scores = make_scores(calibration.space, calibration.banks, calibration.distillation)
        names = [score.name for score in self._scores]
        names += [PROBE] if calibration.probe is not None else []
        self.names = tuple(names if before_after is None else [*names, BEFORE_AFTER])
        self._scales, self._peaks = calibration.scales, calibration.peaks
        self._watch: BeforeAfterWatch | None = None
        self._fuses = before_after is not None and before_after.belongs_to(calibration)
        if before_after is not None:
            self._watch = BeforeAfterWatch(before_after, banded=self._fuses)
            if self._fuses:
                self._scales, self._peaks = np.append(calibration.scales, before_after.scale), before_after.peaks
        self.threshold = conformal_threshold(self._peaks.tolist(), calibration.rate)
        self._window, self._probe_window, self._input = Window(), Window(), ProbeInput()
        self.start()

    def start(self) -> None:
        """Begin a new episode."""
        for score in self._scores:
            score.reset()
        self._window.reset()
        self._probe_window.reset()
        if self._watch is not None:
            self._watch.reset()
        self._input.reset()
        self._peak = -math.inf
        self._alarm = False
        self._leading = self._reason = ""
        self._onset_ns = 0
        self._stamp_ns = -1

    def update(self, frame: Frame) -> Reading | None:
        """Take one frame in; None for a task without a band. A stamp that goes back begins anew."""
        calibration = self.calibration
        target = "" if frame.goal is None else frame.goal.target
        bands = bands_for(calibration.bands, frame.task, target)
        if bands is None:
            return None
        if frame.stamp_ns <= self._stamp_ns:
            self.start()
        self._stamp_ns = frame.stamp_ns
        values = np.array([score.update(frame) for score in self._scores])
        smooth = self._window.add(standardised(bands[: len(values)], frame.elapsed, values))
        probability = math.nan
        if calibration.probe is not None:
            logit = probe_logit(calibration.probe, self._input, frame, smooth)
            probability = _logistic(logit)
            values = np.append(values, logit)
            alone = np.array([bands[-1].standardised(frame.elapsed, logit)])
            smooth = np.concatenate([smooth, self._probe_window.add(alone)])
        upper = [
            band.upper(frame.elapsed, scale) for band, scale in zip(bands, calibration.scales.tolist(), strict=True)
        ]
        probability_band = math.nan if calibration.probe is None else _logistic(upper[-1])
        if self._watch is not None:
            said, limit, deviations = self._watch.update(frame, target)
            values, upper = np.append(values, said), [*upper, limit]
            smooth = np.append(smooth, deviations) if self._fuses else smooth
        fused = fuse(smooth, self._scales)
        threshold = self.threshold
        if not fused > 0.5 * threshold:
            self._onset_ns = 0
        elif not self._onset_ns:
            self._onset_ns = frame.stamp_ns
        self._peak = max(self._peak, fused) if not math.isnan(fused) else self._peak
        raised = not self._alarm and self._peak > threshold
        shares = np.nan_to_num(smooth / self._scales, nan=-math.inf)
        leading = int(np.argmax(shares))
        if raised:
            self._alarm = True
            self._leading = self.names[leading]
            self._reason = (
                f"{self._leading} is {smooth[leading]:.1f} deviations above success episodes {frame.elapsed:.1f} s "
                f"after the start, in {frame.phase.value}"
            )
        return Reading(
            stamp_ns=frame.stamp_ns,
            score=fused,
            band=threshold,
            p_value=p_value(self._peaks, self._peak),
            alarm=self._alarm,
            raised=raised,
            leading=self._leading or self.names[leading],
            reason=self._reason,
            names=self.names,
            values=values,
            bands=np.array(upper),
            probability=probability,
            probability_band=probability_band,
            onset_ns=self._onset_ns or frame.stamp_ns,
        )


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def probe_logit(probe: Probe, inputs: ProbeInput, frame: Frame, scores: NDArray[np.float64]) -> float:
    """The probe's opinion of a frame, as a logit."""
    return float(probe.logits(inputs.features(frame, scores)[None, :])[0])
