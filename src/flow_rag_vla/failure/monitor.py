"""Watches one episode by all scores at once and says when it leaves what success episodes do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.failure.bands import bands_for, p_value
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
    names, values, bands: of the single scores: what each says, and above what it would leave its own band now
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


class Monitor:
    """Watches one episode at a time. Not safe for several threads."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._scores = make_scores(calibration.space, calibration.banks, calibration.distillation)
        names = [score.name for score in self._scores]
        self.names = (*names, PROBE) if calibration.probe is not None else tuple(names)
        self._window, self._probe_window, self._input = Window(), Window(), ProbeInput()
        self.start()

    def start(self) -> None:
        """Begin a new episode."""
        for score in self._scores:
            score.reset()
        self._window.reset()
        self._probe_window.reset()
        self._input.reset()
        self._peak = -math.inf
        self._alarm = False
        self._leading = self._reason = ""
        self._onset_ns = 0
        self._stamp_ns = -1

    def update(self, frame: Frame) -> Reading | None:
        """Take one frame in; None for a task without a band. A stamp that goes back begins anew."""
        calibration = self.calibration
        bands = bands_for(calibration.bands, frame.task, "" if frame.goal is None else frame.goal.target)
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
        fused = fuse(smooth, calibration.scales)
        threshold = calibration.threshold
        if not fused > 0.5 * threshold:
            self._onset_ns = 0
        elif not self._onset_ns:
            self._onset_ns = frame.stamp_ns
        self._peak = max(self._peak, fused) if not math.isnan(fused) else self._peak
        raised = not self._alarm and self._peak > threshold
        shares = np.nan_to_num(smooth / calibration.scales, nan=-math.inf)
        leading = int(np.argmax(shares))
        if raised:
            self._alarm = True
            self._leading = self.names[leading]
            self._reason = (
                f"{self._leading} is {smooth[leading]:.1f} deviations above success episodes {frame.elapsed:.1f} s "
                f"after the start, in {frame.phase.value}"
            )
        upper = [
            mean + width * scale
            for (mean, width), scale in zip(
                (band.at(frame.elapsed) for band in bands), calibration.scales.tolist(), strict=True
            )
        ]
        return Reading(
            stamp_ns=frame.stamp_ns,
            score=fused,
            band=threshold,
            p_value=p_value(calibration.peaks, self._peak),
            alarm=self._alarm,
            raised=raised,
            leading=self._leading or self.names[leading],
            reason=self._reason,
            names=self.names,
            values=values,
            bands=np.array(upper),
            probability=probability,
            probability_band=math.nan if calibration.probe is None else _logistic(upper[-1]),
            onset_ns=self._onset_ns or frame.stamp_ns,
        )


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def probe_logit(probe: Probe, inputs: ProbeInput, frame: Frame, scores: NDArray[np.float64]) -> float:
    """The probe's opinion of a frame, as a logit."""
    return float(probe.logits(inputs.features(frame, scores)[None, :])[0])
