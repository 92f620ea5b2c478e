# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failure detection scored: what is told from success, how early, at what rate of false alarms, at what cost.

Pure: episodes and calibrations come in, figures go out. ``flow_rag_vla bench detection`` runs the episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.evaluate.benchmarks.detection_cost import Cost
from flow_rag_vla.evaluate.intervals import Proportion, wilson
from flow_rag_vla.failure.bands import bands_for
from flow_rag_vla.failure.before_after import BeforeAfter
from flow_rag_vla.failure.calibration import Calibration
from flow_rag_vla.failure.fusion import standardised
from flow_rag_vla.failure.monitor import Monitor, Reading
from flow_rag_vla.failure.trace import Trace, TraceInfo

Array = NDArray[np.float64]

DRAWS = 500
"""Of the bootstrap."""

EARLY_S = 0.5
"""Seconds before time runs out at which a detection is worth something."""

COUNTED = ("detected", "early", "false_alarms", "recovered_alarms", "detected_with", "false_alarms_with")
"""Figures that are shares of episodes."""

ELAPSED, FUSED = "time alone (baseline)", "fused"
BEFORE_AFTER, FUSED_WITH = "before and after (baseline)", "fused with before and after"


@dataclass(frozen=True, slots=True)
class Judged:
    """One episode and what was said of it.

    times: (F,) seconds; fused: (F,) the highest fused score so far; single: score to (F,), its highest so far, in
    deviations; alarm_at: seconds until the alarm, None without one; leading: which score raised it; alarm_with: whether
    a monitor that asks the before/after classifier too raised one, None where there was none to ask
    """

    info: TraceInfo
    times: Array
    fused: Array
    single: dict[str, Array]
    alarm_at: float | None
    leading: str
    alarm_with: bool | None = None

    def peak(self, name: str, until: float = math.inf) -> float:
        """The highest that a score, ``FUSED`` or ``ELAPSED`` got within so many seconds."""
        last = max(0, int(np.searchsorted(self.times, until, side="right")) - 1)
        if name == ELAPSED:
            return float(self.times[last])
        return float((self.fused if name == FUSED else self.single[name])[last])


@dataclass(frozen=True, slots=True)
class Fold:
    """Episodes judged by one calibration; ``failures`` and ``recovered`` are of kinds that it was not taught with."""

    successes: tuple[Judged, ...]
    failures: tuple[Judged, ...]
    recovered: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """For people: ``0.98 [0.97, 0.99]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class KindScore:
    """What became of one kind of fault. lead_s: median seconds from the alarm until time ran out."""

    kind: str
    failed: int
    detected: int
    early: int
    auc: float
    matched_auc: float
    lead_s: float
    recovered: int
    recovered_alarms: int


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """All figures. auc: failed against undisturbed success episodes, whole; matched_auc: each failed episode cut to the
    length of the success episode that it is compared with; recovered_auc: failed against disturbed ones that succeeded;
    detected_with, false_alarms_with: of a monitor that asks the before/after classifier too, None without one.
    """  # noqa: D205

    rate: float
    auc: Estimate
    matched_auc: Estimate
    recovered_auc: Estimate
    balanced_accuracy: Estimate
    detected: Proportion
    early: Proportion
    false_alarms: Proportion
    recovered_alarms: Proportion
    lead_s: tuple[float, float, float]
    delay_s: tuple[float, float, float]
    baseline_lead_s: tuple[float, float, float]
    kinds: tuple[KindScore, ...]
    single: dict[str, tuple[float, float]]
    detected_with: Proportion | None = None
    false_alarms_with: Proportion | None = None


def judge(calibration: Calibration, traces: Sequence[Trace], before_after: BeforeAfter | None = None) -> list[Judged]:
    """What a monitor with this calibration says of each episode.

    Args:
        calibration: of the monitor.
        traces: the episodes.
        before_after: measured with the same calibration. A second monitor takes it in; what that says stands beside the
            scores of the first, as ``BEFORE_AFTER`` and ``FUSED_WITH``, and changes none of them.
    """
    monitor, judged = Monitor(calibration), []
    beside = None if before_after is None else Monitor(calibration, before_after)
    for trace in traces:
        rows = _readings(monitor, trace)
        bands = bands_for(calibration.bands, trace.info.task, trace.info.target)
        if not rows or bands is None:
            continue
        times = np.array([elapsed for elapsed, _ in rows])
        values = np.stack([standardised(bands, elapsed, reading.values) for elapsed, reading in rows])
        single = {name: _highest(values[:, column]) for column, name in enumerate(monitor.names)}
        alarm_with = None
        if beside is not None and before_after is not None:
            own = bands_for(before_after.bands, trace.info.task, trace.info.target)
            told = _readings(beside, trace)
            alarm_with = any(reading.raised for _, reading in told)
            if own is not None:
                said = [own[0].standardised(elapsed, float(reading.values[-1])) for elapsed, reading in told]
                single[BEFORE_AFTER] = _highest(np.array(said))
                single[FUSED_WITH] = _highest(np.array([reading.score for _, reading in told]))
        raised = next(((elapsed, reading) for elapsed, reading in rows if reading.raised), None)
        judged.append(
            Judged(
                trace.info,
                times,
                _highest(np.array([reading.score for _, reading in rows])),
                single,
                None if raised is None else raised[0],
                "" if raised is None else raised[1].leading,
                alarm_with,
            )
        )
    return judged


def _readings(monitor: Monitor, trace: Trace) -> list[tuple[float, Reading]]:
    """Seconds and what the monitor says then, of the frames that it knows a band for."""
    monitor.start()
    readings = [(frame.elapsed, monitor.update(frame)) for frame in trace.frames]
    return [(elapsed, reading) for elapsed, reading in readings if reading is not None]


def _highest(values: Array) -> Array:
    return np.maximum.accumulate(np.nan_to_num(values, nan=-1e9))


def roc_auc(negatives: Sequence[float] | Array, positives: Sequence[float] | Array) -> float:
    """Chance that a positive scores higher than a negative, ties half; NaN without either."""
    if not len(negatives) or not len(positives):
        return math.nan
    ordered = np.sort(np.asarray(negatives, dtype=float))
    wanted = np.asarray(positives, dtype=float)
    below, upto = np.searchsorted(ordered, wanted, side="left"), np.searchsorted(ordered, wanted, side="right")
    return float(np.mean(below + upto) / (2 * len(ordered)))


def whole_auc(name: str, negatives: Sequence[Judged], positives: Sequence[Judged]) -> float:
    """ROC-AUC of episodes by the highest score that they ever had."""
    return roc_auc([item.peak(name) for item in negatives], [item.peak(name) for item in positives])


def matched_wins(name: str, negatives: Sequence[Judged], positives: Sequence[Judged]) -> Array:
    """(N, P): 1 where the positive scored higher within the negative's length, 1/2 for a tie, NaN across tasks.

    A failed episode lasts until time runs out and thereby has more chances of a high score; cut to the length of the
    success episode beside it, it has not.
    """
    wins = np.full((len(negatives), len(positives)), math.nan)
    for row, negative in enumerate(negatives):
        until, own = float(negative.times[-1]), negative.peak(name)
        for column, positive in enumerate(positives):
            if positive.info.task == negative.info.task:
                other = positive.peak(name, until)
                wins[row, column] = 0.5 if other == own else float(other > own)
    return wins


def score_folds(folds: Sequence[Fold], rate: float, seed: int = 0) -> DetectionScore:
    """All figures over the folds. Areas are means over folds, weighted by their failures.

    Raises:
        ValueError: without a failed or a success episode.
    """
    failures = [item for fold in folds for item in fold.failures]
    recovered = [item for fold in folds for item in fold.recovered]
    successes = [item for fold in folds for item in fold.successes]
    if not failures or not successes:
        raise ValueError(f"{len(failures)} failed and {len(successes)} success episodes: both are needed for a score")
    # In a short run a fold may lack failures: it has nothing to say.
    folds = [fold for fold in folds if fold.failures and fold.successes]
    successes = [item for fold in folds for item in fold.successes]
    rng = np.random.default_rng(seed)
    wins = [matched_wins(FUSED, fold.successes, fold.failures) for fold in folds]
    again = [matched_wins(FUSED, fold.recovered, fold.failures) for fold in folds]
    detected = [item for item in failures if item.alarm_at is not None]
    early = [item for item in detected if _lead(item) >= EARLY_S]
    # Every fold judges the same success episodes: counted once, by the share of folds in which they raised an alarm.
    alarms = sum(item.alarm_at is not None for item in successes) / len(folds)
    count = round(len(successes) / len(folds))
    asked = all(item.alarm_with is not None for item in (*successes, *failures))
    alarms_with = sum(item.alarm_with is True for item in successes) / len(folds)
    kinds = sorted({item.info.cause for item in [*failures, *recovered]})
    return DetectionScore(
        rate=rate,
        auc=_bootstrap(folds, rng, lambda fold, s, f, r: _peaks_auc(fold.successes, fold.failures, s, f)),
        matched_auc=_bootstrap_wins(wins, rng),
        recovered_auc=_bootstrap_wins(again, rng),
        balanced_accuracy=_bootstrap(folds, rng, _balanced),
        detected=wilson(len(detected), len(failures)),
        early=wilson(len(early), len(failures)),
        false_alarms=wilson(round(alarms), count),
        recovered_alarms=wilson(sum(item.alarm_at is not None for item in recovered), len(recovered)),
        lead_s=_quantiles([_lead(item) for item in detected]),
        delay_s=_quantiles([_delay(item) for item in detected if item.info.first_truth is not None]),
        baseline_lead_s=_quantiles(_time_leads(folds[0].successes, failures, rate)),
        kinds=tuple(_kind(kind, folds) for kind in kinds),
        single=_single(folds),
        detected_with=wilson(sum(item.alarm_with is True for item in failures), len(failures)) if asked else None,
        false_alarms_with=wilson(round(alarms_with), count) if asked else None,
    )


def _lead(item: Judged) -> float:
    return -math.inf if item.alarm_at is None else item.info.timeout_at - item.alarm_at


def _time_leads(successes: Sequence[Judged], failures: Sequence[Judged], rate: float) -> list[float]:
    """Seconds to spare of the baseline: an alarm once an episode is older than all but ``rate`` of these successes."""
    oldest = {
        task: float(np.quantile([item.times[-1] for item in successes if item.info.task == task], 1.0 - rate))
        for task in {item.info.task for item in successes}
    }
    return [item.info.timeout_at - oldest[item.info.task] for item in failures if item.info.task in oldest]


def _delay(item: Judged) -> float:
    return (item.alarm_at or 0.0) - (item.info.first_truth or 0.0)


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """10 %, 50 % and 90 %; NaN without values."""
    if not values:
        return (math.nan, math.nan, math.nan)
    low, middle, high = (float(value) for value in np.quantile(values, [0.1, 0.5, 0.9]))
    return (low, middle, high)


Rows = NDArray[np.int64]


def _peaks_auc(negatives: Sequence[Judged], positives: Sequence[Judged], some: Rows, others: Rows) -> float:
    low = np.array([item.fused[-1] for item in negatives])[some]
    return roc_auc(low, np.array([item.fused[-1] for item in positives])[others])


def _balanced(fold: Fold, some: Rows, others: Rows, rest: Rows) -> float:
    silent = np.array([item.alarm_at is None for item in fold.successes])[some]
    found = np.array([item.alarm_at is not None for item in fold.failures])[others]
    return float((silent.mean() + found.mean()) / 2)


def _bootstrap(
    folds: Sequence[Fold], rng: np.random.Generator, measure: Callable[[Fold, Rows, Rows, Rows], float]
) -> Estimate:
    weights = np.array([len(fold.failures) for fold in folds], dtype=float)

    def mean(draw: Callable[[int], Rows]) -> float:
        values = [
            measure(fold, draw(len(fold.successes)), draw(len(fold.failures)), draw(len(fold.recovered)))
            for fold in folds
        ]
        return float(np.average(values, weights=weights))

    drawn = [mean(lambda size: rng.integers(0, max(size, 1), size)) for _ in range(DRAWS)]
    low, high = (float(value) for value in np.quantile(drawn, [0.025, 0.975]))
    return Estimate(mean(lambda size: np.arange(size)), low, high)


def _bootstrap_wins(tables: Sequence[Array], rng: np.random.Generator) -> Estimate:
    """Mean of the pairs that can be compared, episodes drawn anew."""
    used = [table for table in tables if np.isfinite(table).any()]
    if not used:
        return Estimate(math.nan, math.nan, math.nan)
    weights = np.array([table.shape[1] for table in used], dtype=float)
    value = float(np.average([np.nanmean(table) for table in used], weights=weights))
    drawn = []
    for _ in range(DRAWS):
        means = []
        for table in used:
            rows = rng.integers(0, table.shape[0], table.shape[0])
            columns = rng.integers(0, table.shape[1], table.shape[1])
            part = table[np.ix_(rows, columns)]
            means.append(float(np.nanmean(part)) if np.isfinite(part).any() else value)
        drawn.append(float(np.average(means, weights=weights)))
    low, high = (float(item) for item in np.quantile(drawn, [0.025, 0.975]))
    return Estimate(value, low, high)


def _kind(kind: str, folds: Sequence[Fold]) -> KindScore:
    failed = [item for fold in folds for item in fold.failures if item.info.cause == kind]
    recovered = [item for fold in folds for item in fold.recovered if item.info.cause == kind]
    home = next((fold for fold in folds if any(item.info.cause == kind for item in fold.failures)), folds[0])
    detected = [item for item in failed if item.alarm_at is not None]
    wins = matched_wins(FUSED, home.successes, failed)
    return KindScore(
        kind or "none (the policy's own)",
        len(failed),
        len(detected),
        sum(_lead(item) >= EARLY_S for item in detected),
        whole_auc(FUSED, home.successes, failed),
        float(np.nanmean(wins)) if np.isfinite(wins).any() else math.nan,
        _quantiles([_lead(item) for item in detected])[1],
        len(recovered),
        sum(item.alarm_at is not None for item in recovered),
    )


def _single(folds: Sequence[Fold]) -> dict[str, tuple[float, float]]:
    """Whole and matched area of each score on its own, of all fused, and of the baseline."""
    every = [item for fold in folds for item in (*fold.successes, *fold.failures)]
    # In a short run a fold may lack what a further score is taught with.
    shared = [name for name in folds[0].successes[0].single if all(name in item.single for item in every)]
    names = [ELAPSED, *shared, FUSED]
    weights = np.array([len(fold.failures) for fold in folds], dtype=float)
    table = {}
    for name in names:
        whole = [whole_auc(name, fold.successes, fold.failures) for fold in folds]
        matched = [float(np.nanmean(matched_wins(name, fold.successes, fold.failures))) for fold in folds]
        table[name] = (float(np.average(whole, weights=weights)), float(np.average(matched, weights=weights)))
    return table


def table(score: DetectionScore, cost: Cost) -> str:
    """The figures as Markdown, targets beside them."""
    low, middle, high = score.lead_s
    early, usual, late = score.delay_s
    lines = [
        "| measure | value [95 %] | target |",
        "|---|---|---|",
        f"| ROC-AUC, failed against success episodes | {score.auc} | 0.90 |",
        f"| the same, the failed one cut to the length of the success | {score.matched_auc} | |",
        f"| the same, against disturbed episodes that succeeded | {score.recovered_auc} | |",
        f"| balanced accuracy | {score.balanced_accuracy} | 0.85 |",
        f"| failures detected | {score.detected} | |",
        f"| at least {EARLY_S} s before a rule says that time ran out | {score.early} | all |",
        f"| false alarms, nominal {score.rate:.0%} | {score.false_alarms} | within 2 points |",
        f"| alarms on disturbed episodes that succeeded | {score.recovered_alarms} | |",
        f"| seconds before time ran out: 10 %, median, 90 % | {low:.1f}, {middle:.1f}, {high:.1f} | 0.5 |",
        "| the same by time alone (baseline), at the nominal rate on these very episodes | "
        f"{', '.join(f'{value:.1f}' for value in score.baseline_lead_s)} | |",
        f"| seconds after the first thing went wrong: 10 %, median, 90 % | {early:.1f}, {usual:.1f}, {late:.1f} | |",
        f"| processor time a tick, ms (rules alone {cost.rules_tick_ms:.3f}: ratio "
        f"{cost.tick_ms / cost.rules_tick_ms:.1f}) | {cost.tick_ms:.3f} | 1 |",
    ]
    if score.detected_with is not None and score.false_alarms_with is not None:
        lines += [
            f"| with the before/after classifier: failures detected | {score.detected_with} | |",
            f"| with it: false alarms, nominal {score.rate:.0%} | {score.false_alarms_with} | within 2 points |",
        ]
    if math.isfinite(cost.with_ms):
        lines.append(
            f"| with it: processor time a tick, ms (ratio {cost.with_tick_ms / cost.tick_ms:.2f}) "
            f"| {cost.with_tick_ms:.3f} | 1 |"
        )
    lines += [
        "",
        "| kind of failure | failed | detected | in time | ROC-AUC | cut to length | median seconds to spare "
        "| recovered, alarms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {kind.kind} | {kind.failed} | {kind.detected} | {kind.early} | {kind.auc:.3f} | {kind.matched_auc:.3f} "
        f"| {kind.lead_s:.1f} | {kind.recovered}, {kind.recovered_alarms} |"
        for kind in score.kinds
    ]
    lines += ["", "| score on its own | ROC-AUC | cut to length |", "|---|---|---|"]
    lines += [f"| {name} | {whole:.3f} | {matched:.3f} |" for name, (whole, matched) in score.single.items()]
    return "\n".join(lines)


def figures(score: DetectionScore, cost: Cost, about: dict[str, Any]) -> dict[str, Any]:
    """The figures for JSON."""

    def of(value: Estimate | Proportion) -> list[float]:
        middle = value.value if isinstance(value, Estimate) else value.rate
        return [_plain(middle), _plain(value.low), _plain(value.high)]

    counted = [name for name in COUNTED if getattr(score, name) is not None]
    return {
        "about": about,
        "nominal_rate": score.rate,
        **{name: of(getattr(score, name)) for name in ("auc", "matched_auc", "recovered_auc", "balanced_accuracy")},
        **{name: [*of(getattr(score, name)), getattr(score, name).trials] for name in counted},
        "lead_s": [_plain(value) for value in score.lead_s],
        "baseline_lead_s": [_plain(value) for value in score.baseline_lead_s],
        "delay_s": [_plain(value) for value in score.delay_s],
        "tick_ms": cost.tick_ms,
        "rules_tick_ms": cost.rules_tick_ms,
        "frame_ms": cost.frame_ms,
        "frame_with_ms": _plain(cost.with_ms),
        "kinds": [{name: _plain(getattr(kind, name)) for name in kind.__slots__} for kind in score.kinds],
        "single": {name: [_plain(whole), _plain(matched)] for name, (whole, matched) in score.single.items()},
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
