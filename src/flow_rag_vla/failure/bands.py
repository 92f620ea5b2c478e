# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Bands around what scores do in success episodes, and how unusual an episode is beside them.

Functional conformal prediction (Diquigiovanni, Fontana and Vantini 2022, doi 10.1016/j.jmva.2021.104879; used for
failures by FAIL-Detect, arXiv 2503.08558): a mean and a width over time from some success episodes, and from others the
factor by which the band must be widened so that a new success episode stays inside, whole, with a chosen chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP_S = 0.1
"""Seconds between the points of a band."""

FEWEST = 5
"""Episodes that must be under way at a point of time for it to have a mean and a width of its own."""

SMOOTHING = 2
"""Points on each side over which mean and width are averaged."""

TOLERANCE = 3
"""Points on each side of which the highest counts: the same stretch comes earlier one day and later another."""

LEAST_WIDTH = 0.3
"""The narrowest a band may be anywhere, as a share of its mean width: few episodes may agree by chance."""


@dataclass(frozen=True, slots=True)
class Band:
    """Mean and width (both (T,) float64) of a score, every STEP_S seconds; the last holds ever after."""

    mean: Array
    width: Array

    def standardised(self, elapsed: float, value: float) -> float:
        """How many widths a value at a time (seconds) lies above the mean; NaN stays NaN."""
        mean, width = self.at(elapsed)
        return (value - mean) / width

    def upper(self, elapsed: float, deviations: float) -> float:
        """The value that lies so many widths above the mean at a time, seconds."""
        mean, width = self.at(elapsed)
        return mean + width * deviations

    def at(self, elapsed: float) -> tuple[float, float]:
        """Mean and width at a time, seconds, linear between the points."""
        last = len(self.mean) - 1
        place = min(max(elapsed / STEP_S, 0.0), float(last))
        low = int(place)
        high, share = min(low + 1, last), place - low
        mean = self.mean[low] * (1.0 - share) + self.mean[high] * share
        return float(mean), float(self.width[low] * (1.0 - share) + self.width[high] * share)


def fit_band(times: Sequence[Array], values: Sequence[Array], least: float = 0.0) -> Band:
    """The band of one score over success episodes.

    Args:
        times: seconds since the beginning of each episode's frames, (F,) each.
        values: the score at them, (F,) each; NaN where it said nothing.
        least: narrowest width, in the score's unit.

    Raises:
        ValueError: if fewer than ``FEWEST`` episodes hold a value.
    """
    curves = []
    for moments, row in zip(times, values, strict=True):
        known = np.isfinite(row)
        if known.any():
            grid = np.arange(0, int(moments[known][-1] / STEP_S + 0.5) + 1) * STEP_S
            curves.append(np.interp(grid, moments[known], row[known]))
    if len(curves) < FEWEST:
        raise ValueError(f"{len(curves)} episodes hold a value of this score, a band needs {FEWEST}")
    lengths = sorted((len(curve) for curve in curves), reverse=True)
    length = lengths[FEWEST - 1]
    mean, width = np.empty(length), np.empty(length)
    for point in range(length):
        alive = np.array([curve[point] for curve in curves if len(curve) > point])
        mean[point] = alive.mean()
        width[point] = alive.std(ddof=1)
    mean, width = _highest(_smoothed(mean)), _highest(_smoothed(width))
    floor = max(least, LEAST_WIDTH * float(width.mean()), 1e-9 * max(1.0, float(np.abs(mean).max())), 1e-6)
    return Band(mean, np.maximum(width, floor))


def _highest(curve: Array) -> Array:
    padded = np.pad(curve, TOLERANCE, mode="edge")
    highest: Array = np.lib.stride_tricks.sliding_window_view(padded, 2 * TOLERANCE + 1).max(axis=1)
    return highest


def _smoothed(curve: Array) -> Array:
    padded = np.pad(curve, SMOOTHING, mode="edge")
    return np.convolve(padded, np.full(2 * SMOOTHING + 1, 1.0 / (2 * SMOOTHING + 1)), mode="valid")


def conformal_threshold(peaks: Sequence[float], rate: float) -> float:
    """What a new success episode's peak exceeds with a chance of at most ``rate`` (split conformal).

    With n peaks it is the ceil((n + 1)(1 - rate))-th smallest (Vovk et al., Algorithmic Learning in a Random World,
    2005); infinite where n is too small for the rate: no alarm at all.
    """
    rank = math.ceil((len(peaks) + 1) * (1.0 - rate))
    return math.inf if rank > len(peaks) else sorted(peaks)[rank - 1]


def p_value(peaks: Array, peak: float) -> float:
    """Conformal p-value of an episode's peak: the rank among sorted success peaks (N,), counting itself."""
    if math.isnan(peak):
        return 1.0
    above = len(peaks) - int(np.searchsorted(peaks, peak, side="left"))
    return (1 + above) / (len(peaks) + 1)


GOAL_MARK = "/"


def band_key(task: str, target: str) -> str:
    """The name under which bands of a goal are kept: ``task/target``; those of a task: its name."""
    return f"{task}{GOAL_MARK}{target}" if target else task


def bands_for(bands: Mapping[str, tuple[Band, ...]], task: str, target: str) -> tuple[Band, ...] | None:
    """The bands of a goal, of its task if the goal has none, None if the task has none."""
    return bands.get(band_key(task, target)) or bands.get(task)
