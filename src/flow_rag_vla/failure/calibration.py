# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a monitor knows of success episodes: made from them, and refused with anything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.failure.bands import FEWEST, GOAL_MARK, Band, band_key, bands_for, conformal_threshold, fit_band
from flow_rag_vla.failure.fitting import fit_banks, fit_distillation, fit_space
from flow_rag_vla.failure.fusion import SCORES, Window, fuse, make_scores, standardised
from flow_rag_vla.failure.probe import Probe, ProbeInput
from flow_rag_vla.failure.scores import LEAST_WIDTH, Bank, Distillation, FeatureSpace
from flow_rag_vla.failure.trace import Origin, Trace

FEWEST_SUCCESSES = 30
"""Success episodes below which nothing is calibrated."""

RATE = 0.05
"""Share of success episodes that may raise an alarm."""

FOLDS = 5
SCALE_QUANTILE = 0.95
"""Of the peaks of a single score in success episodes: one unit of it when scores are fused."""

LEAST_SCALE = 2.0
"""Deviations that one unit holds at least: a score that success hardly ever raised shall not decide alone."""

REMAKE = "flow_rag_vla calibrate"

_LEAST_WIDTHS = tuple(LEAST_WIDTH[name] for name in SCORES)

Array = NDArray[np.float64]


class CalibrationError(RuntimeError):
    """A calibration that cannot be made or used; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that a monitor needs.

    origin: encoder and policy whose success episodes these were; rate: share of them that may raise an alarm
    bands: task, and ``band_key`` of a goal, to one band a score, in the order of ``Monitor.names``
    scales: (S,), one unit of each score when they are fused
    peaks: (N,) sorted, the highest fused score of each success episode that was held out
    episodes: how many success episodes each task gave; failures: how many taught the probe; source: in words
    """

    origin: Origin
    rate: float
    space: FeatureSpace
    banks: dict[int, Bank]
    distillation: Distillation
    probe: Probe | None
    bands: Mapping[str, tuple[Band, ...]]
    scales: Array
    peaks: Array
    episodes: Mapping[str, int]
    failures: int
    source: str
    revision: str = ""

    @property
    def threshold(self) -> float:
        """Fused score above which an episode is unlike success."""
        return conformal_threshold(self.peaks.tolist(), self.rate)

    def check_encoder(self, name: str, revision: str, dimension: int) -> None:
        """Refuse embeddings of another encoder.

        Raises:
            CalibrationError: naming both and the remedy.
        """
        own, size = self.origin, len(self.space.mean)
        if (revision, dimension) != (own.encoder_revision, size):
            raise CalibrationError(
                f"the calibration is of encoder {own.encoder!r} revision {own.encoder_revision} with {size} numbers, "
                f"but embeddings come from {name!r} revision {revision} with {dimension}; use that encoder, or make a "
                f"calibration with `{REMAKE}`"
            )

    def check_policy(self, name: str, revision: str) -> None:
        """Refuse chunks of another policy.

        Raises:
            CalibrationError: naming both and the remedy.
        """
        own = self.origin
        if revision != own.policy_revision:
            raise CalibrationError(
                f"the calibration is of policy {own.policy!r} revision {own.policy_revision}, but chunks come from "
                f"{name!r} revision {revision}; use that policy, or make a calibration with `{REMAKE}`"
            )

    def at_rate(self, rate: float) -> Calibration:
        """The same with another nominal share of false alarms.

        Raises:
            CalibrationError: if it is not between 0 and 1.
        """
        if not 0.0 < rate < 1.0:
            raise CalibrationError(f"false-alarm rate is {rate}, expected more than 0 and less than 1")
        values = {name: getattr(self, name) for name in self.__slots__}
        return Calibration(**(values | {"rate": rate}))


@dataclass(frozen=True, slots=True)
class Split:
    """Success episodes by use: remembered by the scores, learned from by the probe, held out for bands and peaks."""

    bank: tuple[Trace, ...]
    probe: tuple[Trace, ...]
    held_out: tuple[Trace, ...]


def split_successes(traces: Sequence[Trace], *, with_probe: bool, seed: int = 0) -> Split:
    """Cut success episodes by task into what each use gets; the same seed gives the same cut.

    Raises:
        CalibrationError: for fewer than ``FEWEST_SUCCESSES``.
    """
    successes = _successes(traces)
    rng = np.random.default_rng(seed)
    bank: list[Trace] = []
    probe: list[Trace] = []
    held_out: list[Trace] = []
    for task in sorted({trace.info.task for trace in successes}):
        some = [trace for trace in successes if trace.info.task == task]
        order = rng.permutation(len(some))
        first = round(len(some) / 3)
        second = first + (round(len(some) / 5) if with_probe else 0)
        bank += [some[index] for index in order[:first]]
        probe += [some[index] for index in order[first:second]]
        held_out += [some[index] for index in order[second:]]
    return Split(tuple(bank), tuple(probe), tuple(held_out))


def _successes(traces: Sequence[Trace]) -> list[Trace]:
    """Those that succeeded; CalibrationError if they are too few."""
    successes = [trace for trace in traces if trace.info.success and trace.frames]
    if len(successes) < FEWEST_SUCCESSES:
        raise CalibrationError(
            f"{len(successes)} success episodes, a calibration needs at least {FEWEST_SUCCESSES}: record more, or "
            f"take simulated ones with `{REMAKE} --simulate`"
        )
    return successes


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is fitted to the first part of the success episodes."""

    space: FeatureSpace
    banks: dict[int, Bank]
    distillation: Distillation


def fit_knowledge(bank: Sequence[Trace], seed: int = 0) -> Knowledge:
    """Feature space, success frames and distilled network of some success episodes."""
    rng = np.random.default_rng((seed, 1))
    space = fit_space(bank)
    return Knowledge(space, fit_banks(space, bank, rng), fit_distillation(space, bank, rng))


def raw_scores(knowledge: Knowledge, traces: Sequence[Trace]) -> list[Array]:
    """(F, S) for each trace: every score but the probe, as it comes."""
    scores = make_scores(knowledge.space, knowledge.banks, knowledge.distillation)
    rows = []
    for trace in traces:
        for score in scores:
            score.reset()
        rows.append(np.array([[score.update(frame) for score in scores] for frame in trace.frames]))
    return rows


def fit_bands(
    traces: Sequence[Trace], values: Sequence[Array], least: Sequence[float] = _LEAST_WIDTHS
) -> dict[str, tuple[Band, ...]]:
    """Bands of each task over its episodes, and of each of its goals over theirs; see ``band_key``.

    A task with fewer than ``FEWEST`` episodes gets the bands of all together, a goal with fewer none of its own.

    Args:
        traces: the episodes.
        values: (F, S) for each: its scores.
        least: the narrowest that a band of the first columns may be; the others may be as narrow as they are.
    """
    everything = _bands(traces, values, least)
    found = {}
    keys = {trace.info.task for trace in traces} | {band_key(trace.info.task, trace.info.target) for trace in traces}
    for key in sorted(keys):
        rows = [
            index
            for index, trace in enumerate(traces)
            if key in (trace.info.task, band_key(trace.info.task, trace.info.target))
        ]
        if len(rows) >= FEWEST:
            found[key] = _bands([traces[row] for row in rows], [values[row] for row in rows], least)
        elif GOAL_MARK not in key:
            found[key] = everything
    return found


def _bands(traces: Sequence[Trace], values: Sequence[Array], least: Sequence[float]) -> tuple[Band, ...]:
    times = [np.array([frame.elapsed for frame in trace.frames]) for trace in traces]
    flat = Band(np.zeros(1), np.ones(1))
    bands = []
    for column in range(values[0].shape[1]):
        curves = [rows[:, column] for rows in values]
        known = sum(bool(np.isfinite(curve).any()) for curve in curves)
        # A score that no episode could give (no chunks were recorded) says nothing: NaN stays NaN in any band.
        narrowest = least[column] if column < len(least) else 0.0
        bands.append(fit_band(times, curves, narrowest) if known >= FEWEST else flat)
    return tuple(bands)


def smooth_scores(
    bands: Mapping[str, tuple[Band, ...]], traces: Sequence[Trace], values: Sequence[Array]
) -> list[Array]:
    """(F, S) for each trace: in standard deviations, averaged over the window."""
    window, smoothed = Window(), []
    for trace, rows in zip(traces, values, strict=True):
        window.reset()
        own = bands_for(bands, trace.info.task, trace.info.target)
        if own is None:
            raise CalibrationError(f"there is no band for task {trace.info.task!r}; record success episodes of it")
        columns = rows.shape[1]
        smoothed.append(
            np.stack(
                [
                    window.add(standardised(own[:columns], frame.elapsed, row))
                    for frame, row in zip(trace.frames, rows, strict=True)
                ]
            )
        )
    return smoothed


def probe_features(traces: Sequence[Trace], smooth: Sequence[Array]) -> list[NDArray[np.float32]]:
    """(F, P) for each trace: the probe's input."""
    inputs, features = ProbeInput(), []
    for trace, rows in zip(traces, smooth, strict=True):
        inputs.reset()
        features.append(np.stack([inputs.features(frame, row) for frame, row in zip(trace.frames, rows, strict=True)]))
    return features


def with_probe(
    probe: Probe | None, bands: Mapping[str, tuple[Band, ...]], traces: Sequence[Trace], values: Sequence[Array]
) -> list[Array]:
    """(F, S + 1) for each trace: scores with the probe's logit as the last column; without a probe as they are."""
    if probe is None:
        return list(values)
    features = probe_features(traces, smooth_scores(bands, traces, values))
    return [
        np.concatenate([rows, probe.logits(some)[:, None]], axis=1) for rows, some in zip(values, features, strict=True)
    ]


def cross_fitted(
    traces: Sequence[Trace], seed: int, measure: Callable[[Sequence[int], Sequence[int]], list[Array]]
) -> list[Array]:
    """What is measured of each episode with what other episodes taught, fold by fold.

    Cross-conformal prediction (Vovk 2015, doi 10.1007/s10472-013-9368-4): every episode gives a peak.

    Args:
        traces: the episodes.
        seed: of the folds.
        measure: takes the places of the episodes that teach and of those that are measured; an array for each of these.

    Raises:
        CalibrationError: if a task has no episode to be taught with.
    """
    folds = np.random.default_rng((seed, 2)).permutation(len(traces)) % FOLDS
    found: list[Array] = [np.zeros((0, 0))] * len(traces)
    for fold in range(FOLDS):
        inside = [index for index in range(len(traces)) if folds[index] != fold]
        outside = [index for index in range(len(traces)) if folds[index] == fold]
        if not outside:
            continue
        missing = {traces[index].info.task for index in outside} - {traces[index].info.task for index in inside}
        if missing:
            raise CalibrationError(
                f"too few success episodes of {', '.join(sorted(missing))}: record more, or calibrate for other tasks"
            )
        for index, rows in zip(outside, measure(inside, outside), strict=True):
            found[index] = rows
    return found


def held_out_scores(
    traces: Sequence[Trace], values: Sequence[Array], probe: Probe | None, seed: int = 0
) -> list[Array]:
    """(F, S) for each episode held out: scores in standard deviations of the others, the probe's last."""

    def measure(inside: Sequence[int], outside: Sequence[int]) -> list[Array]:
        bands = _all_bands([traces[index] for index in inside], [values[index] for index in inside], probe)
        there = [traces[index] for index in outside]
        return smooth_scores(bands, there, with_probe(probe, bands, there, [values[index] for index in outside]))

    return cross_fitted(traces, seed, measure)


def calibrate(
    split: Split,
    knowledge: Knowledge,
    origin: Origin,
    *,
    rate: float = RATE,
    probe: Probe | None = None,
    failures: int = 0,
    source: str = "",
    seed: int = 0,
) -> Calibration:
    """Bands from the episodes held out, and how far success episodes stray from them.

    Each held-out episode is measured against bands that were fitted to other ones; see ``cross_fitted``.

    Args:
        split: success episodes by use.
        knowledge: fitted to ``split.bank``.
        origin: of the episodes.
        rate: share of success episodes that may raise an alarm.
        probe: trained on other episodes than ``split.held_out``.
        failures: how many failed episodes taught the probe.
        source: where the episodes come from, in words.
        seed: of the folds.
    """
    traces = split.held_out
    values = raw_scores(knowledge, traces)
    smooth = held_out_scores(traces, values, probe, seed)
    scales = np.array([one_unit([rows[:, column] for rows in smooth]) for column in range(smooth[0].shape[1])])
    peaks = fused_peaks(smooth, scales)
    counts: dict[str, int] = {}
    for trace in (*split.bank, *split.probe, *split.held_out):
        counts[trace.info.task] = counts.get(trace.info.task, 0) + 1
    bands = _all_bands(traces, values, probe)
    return Calibration(
        origin,
        rate,
        knowledge.space,
        knowledge.banks,
        knowledge.distillation,
        probe,
        bands,
        scales,
        peaks,
        counts,
        failures,
        source,
    )


def recalibrated(
    calibration: Calibration, traces: Sequence[Trace], *, rate: float = RATE, source: str = "", seed: int = 0
) -> tuple[Calibration, Split]:
    """The same scores and probe with bands and threshold from episodes of another place, and how those were used.

    A rate of false alarms is promised only where episodes come about as the held-out ones did: on a busy computer, on a
    robot, anywhere but in the simulator. What scores and probe have learned may come from elsewhere. None of these
    episodes taught them, so all that succeeded are held out.

    Args:
        calibration: of the same encoder and policy.
        traces: episodes of the place where the monitor will run; those that failed are left out.
        rate: share of success episodes that may raise an alarm.
        source: where the episodes come from, in words.
        seed: of the folds.

    Raises:
        CalibrationError: for fewer than ``FEWEST_SUCCESSES``.
    """
    split = Split((), (), tuple(_successes(traces)))
    made = calibrate(
        split,
        Knowledge(calibration.space, calibration.banks, calibration.distillation),
        calibration.origin,
        rate=rate,
        probe=calibration.probe,
        failures=calibration.failures,
        source=source,
        seed=seed,
    )
    return made, split


def _all_bands(traces: Sequence[Trace], values: Sequence[Array], probe: Probe | None) -> dict[str, tuple[Band, ...]]:
    """Bands of all scores, the probe's too."""
    bands = fit_bands(traces, values)
    if probe is None:
        return bands
    return fit_bands(traces, with_probe(probe, bands, traces, values))


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)] or [0.0]


def fused_peaks(smooth: Sequence[Array], scales: Array) -> Array:
    """(N,) sorted: the highest that the scores (F, S) of each episode got when fused by their scales (S,)."""
    return np.sort([max(_known([fuse(row, scales) for row in rows])) for rows in smooth])


def one_unit(curves: Sequence[Array]) -> float:
    """One unit of a score when scores are fused, from what it said in success episodes, (F,) each, in deviations."""
    peaks = [max(_known(curve.tolist())) for curve in curves]
    return max(float(np.quantile(peaks, SCALE_QUANTILE)), LEAST_SCALE)
