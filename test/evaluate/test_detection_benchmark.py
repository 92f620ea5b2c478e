# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of failure detection, on episodes whose figures are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.benchmarks.detection import (
    ELAPSED,
    FUSED,
    Fold,
    Judged,
    figures,
    judge,
    matched_wins,
    roc_auc,
    score_folds,
    table,
)
from flow_rag_vla.evaluate.benchmarks.detection_cost import Cost, measure_cost
from flow_rag_vla.failure.calibration import calibrate, fit_knowledge, split_successes
from flow_rag_vla.failure.trace import TraceInfo

from ..failure.synthetic import ORIGIN, make_trace, successes

COST = Cost(0.4, 0.1)


def made(length: int, level: float, *, success: bool, alarm_at: float | None = None, cause: str = "") -> Judged:
    """An episode whose scores rise evenly to ``level``."""
    times = np.arange(length) * 0.1
    fused = np.linspace(0.0, level, length)
    duration = length * 0.1
    info = TraceInfo("push", "yellow_cylinder", 0, "plain", success, duration, duration, cause, 0.1, first_truth=0.2)
    return Judged(info, times, fused, {"rules": fused * 0.0}, alarm_at, "rules" if alarm_at else "")


@given(
    samples=st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({label for _, label in rows}) == 2
    )
)
def test_the_roc_area_is_the_share_of_pairs_in_the_right_order(samples):
    low = [score for score, label in samples if not label]
    high = [score for score, label in samples if label]
    pairs = [(a > b) + 0.5 * (a == b) for a in high for b in low]
    assert roc_auc(low, high) == pytest.approx(float(np.mean(pairs)))


def test_length_alone_tells_nothing_once_episodes_are_cut_to_length():
    short = [made(20, 1.0, success=True) for _ in range(5)]
    long = [made(100, 5.0, success=False) for _ in range(5)]
    assert roc_auc([item.peak(FUSED) for item in short], [item.peak(FUSED) for item in long]) == 1.0
    assert np.all(matched_wins(ELAPSED, short, long) == 0.5)
    assert np.all(matched_wins(FUSED, short, long) == 0.0)


def test_detections_false_alarms_and_time_to_spare_are_counted():
    calm = [made(20, 1.0, success=True, alarm_at=0.5 if number == 0 else None) for number in range(20)]
    found = [made(100, 9.0, success=False, alarm_at=4.0, cause="slip") for _ in range(8)]
    late = [made(100, 9.0, success=False, alarm_at=9.8, cause="slip")]
    missed = [made(100, 0.5, success=False, cause="latency")]
    back = [made(40, 0.5, success=True, alarm_at=1.0, cause="slip")]
    score = score_folds([Fold(tuple(calm), (*found, *late, *missed), tuple(back))], 0.05)
    assert (score.detected.successes, score.detected.trials) == (9, 10)
    assert score.early.successes == 8
    assert (score.false_alarms.successes, score.false_alarms.trials) == (1, 20)
    assert score.recovered_alarms.successes == 1
    assert score.balanced_accuracy.value == pytest.approx((0.95 + 0.9) / 2)
    assert score.auc.low <= score.auc.value <= score.auc.high
    assert score.lead_s[1] == pytest.approx(6.0)
    assert score.delay_s[1] == pytest.approx(3.8)
    assert score.baseline_lead_s[1] == pytest.approx(10.0 - 1.9)
    assert {kind.kind: kind.failed for kind in score.kinds} == {"slip": 9, "latency": 1}
    page = table(score, COST)
    assert "| slip | 9 | 9 | 8 |" in page
    assert "ratio 2.0" in page
    assert json.loads(json.dumps(figures(score, COST, {}), allow_nan=False))["nominal_rate"] == 0.05


def test_a_fold_without_failures_changes_nothing():
    calm = tuple(made(20, 1.0, success=True) for _ in range(5))
    fold = Fold(calm, (made(100, 9.0, success=False, alarm_at=4.0, cause="slip"),), ())
    alone, beside = score_folds([fold], 0.05), score_folds([fold, Fold(calm, (), ())], 0.05)
    assert alone.single == beside.single
    assert (alone.auc, alone.false_alarms) == (beside.auc, beside.false_alarms)


def test_without_a_failure_there_is_no_score():
    with pytest.raises(ValueError, match="0 failed and 1 success"):
        score_folds([Fold((made(20, 1.0, success=True),), (), ())], 0.05)


def test_a_calibrated_monitor_tells_synthetic_failures_from_successes():
    split = split_successes(successes(90), with_probe=False)
    calibration = calibrate(split, fit_knowledge(split.bank), ORIGIN, rate=0.1)
    calm = judge(calibration, successes(40, first=5000))
    failed = judge(calibration, [make_trace(seed, "stuck") for seed in range(800, 820)])
    score = score_folds([Fold(tuple(calm), tuple(failed), ())], 0.1)
    assert score.auc.value > 0.95
    assert score.matched_auc.value > 0.5
    assert math.isnan(score.recovered_auc.value)
    assert "nan" in table(score, COST)
    cost = measure_cost(calibration, successes(5), frames=50, ticks=50)
    assert cost.tick_ms > 0.0
