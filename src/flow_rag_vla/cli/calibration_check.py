# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla calibrate RUNS --check FILE``: what a calibration says of recorded episodes, at several rates."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.benchmarks.detection import Judged
    from flow_rag_vla.failure.calibration import Calibration
    from flow_rag_vla.failure.trace import Origin, Trace

RATES = (0.01, 0.02, 0.05, 0.10)
"""Nominal shares of false alarms that are tried beside the calibration's own."""


def check_calibration(console: Console, calibration: Calibration, origin: Origin, traces: Sequence[Trace]) -> None:
    """Print alarms on episodes that succeeded and on ones that failed, as a running detector would have raised them.

    Raises:
        CalibrationError: if the episodes are of another encoder or policy.
        ValueError: if there is none, or none of a task that the calibration knows.
    """
    from flow_rag_vla.evaluate.benchmarks.detection import judge
    from flow_rag_vla.evaluate.intervals import wilson

    if not traces:
        raise ValueError("the bags hold no episode that succeeded or failed")
    check_origin(calibration, origin)
    judged = judge(calibration, traces)
    if not judged:
        raise ValueError(
            f"none of the {len(traces)} episodes is of a task that calibration {calibration.revision} knows"
        )
    successes = [item for item in judged if item.info.success]
    failures = [item for item in judged if not item.info.success]
    table = Table("nominal", "alarms on successes [95 %]", "failures detected [95 %]", "median seconds to spare")
    for rate in sorted({*RATES, calibration.rate}):
        threshold = calibration.at_rate(rate).threshold
        alarms = wilson(sum(alarm_at(item, threshold) is not None for item in successes), len(successes))
        leads = [item.info.timeout_at - at for item in failures if (at := alarm_at(item, threshold)) is not None]
        own = " (its own)" if rate == calibration.rate else ""
        spare = f"{statistics.median(leads):.1f}" if leads else ""
        table.add_row(f"{rate:.1%}{own}", str(alarms), str(wilson(len(leads), len(failures))), spare)
    console.print(table)
    threshold = calibration.threshold
    tasks = Table("task", "successes", "with an alarm", "failures", "detected")
    for task in sorted({item.info.task for item in judged}):
        counts = []
        for part in (successes, failures):
            some = [item for item in part if item.info.task == task]
            counts += [str(len(some)), str(sum(alarm_at(item, threshold) is not None for item in some))]
        tasks.add_row(task, *counts)
    console.print(tasks)


def check_origin(calibration: Calibration, origin: Origin) -> None:
    """Refuse episodes of another encoder or policy than a calibration's.

    Raises:
        CalibrationError: naming both and the remedy.
    """
    calibration.check_encoder(origin.encoder, origin.encoder_revision, len(calibration.space.mean))
    if origin.policy_revision:  # without recorded chunks two scores say nothing, and the others all the same
        calibration.check_policy(origin.policy, origin.policy_revision)


def alarm_at(item: Judged, threshold: float) -> float | None:
    """Seconds until the fused score passed a threshold; None if it never did."""
    return next((float(time) for time, peak in zip(item.times, item.fused, strict=True) if peak > threshold), None)
