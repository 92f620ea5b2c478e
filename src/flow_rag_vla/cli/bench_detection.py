# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench detection``: runs the episodes, leaves kinds of failure out in turn, prints the scores."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from flow_rag_vla.core.files import write_text

KINDS_A_FOLD = 4
QUICK = 0.12
"""Share of the usual episodes in the quick form."""


def bench_detection(
    console: Console, work: Path | None, output: Path | None, *, quick: bool = False, workers: int = 1, seed: int = 0
) -> None:
    """Score detection on fresh seeds and on kinds of failure that the probe was not taught with.

    Args:
        console: where the table goes.
        work: folder that keeps the episodes; None: nothing is kept.
        output: JSON file; None: none.
        quick: a tenth of the episodes, for a look.
        workers: processes that simulate.
        seed: of splits, weights and the bootstrap.
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.evaluate.benchmarks.detection import Fold, figures, judge, score_folds, table
    from flow_rag_vla.evaluate.benchmarks.detection_cost import measure_cost
    from flow_rag_vla.failure.calibration import RATE
    from flow_rag_vla.learn.before_after import make_before_after
    from flow_rag_vla.learn.detection_data import PARTS, collect_part
    from flow_rag_vla.learn.train_probe import make_calibration
    from flow_rag_vla.sim.perturbation import PerturbationKind

    kinds = [kind.value for kind in PerturbationKind]
    count = len(kinds) // KINDS_A_FOLD
    with progress_display(console) as display:
        bars = StageBars(display)
        parts = {}
        for part in PARTS:
            origin, traces = collect_part(
                part, work, scale=QUICK if quick else 1.0, workers=workers, progress=bars.bar(part.name)
            )
            parts[part.name] = traces
        successes = [trace for trace in parts["test"] if trace.info.success]
        # Undisturbed episodes that fail are a kind of their own, and one that no probe is taught with.
        own = [trace for trace in parts["test"] if not trace.info.success]
        calm = [trace for trace in parts["calibration"] if trace.info.success]
        bar, folds = bars.bar("Folds"), []
        for number in range(count):
            left_out = set(kinds[number::count])
            taught = [trace for trace in parts["training_faults"] if trace.info.cause not in left_out]
            calibration = make_calibration(calm, taught, origin, seed=seed)
            classifier = None
            if any(not trace.info.success for trace in taught):
                classifier = make_before_after(calm, taught, calibration, seed=seed)
            tested = [
                trace
                for trace in (*parts["test_faults"], *(own if number == 0 else ()))
                if trace.info.cause in left_out or (number == 0 and not trace.info.cause and not trace.info.success)
            ]
            judged = judge(calibration, tested, classifier)
            folds.append(
                Fold(
                    tuple(judge(calibration, successes, classifier)),
                    tuple(item for item in judged if not item.info.success),
                    tuple(item for item in judged if item.info.success and item.info.cause),
                )
            )
            bar(number + 1, count)
        cost = measure_cost(calibration, successes, classifier)
    score = score_folds(folds, RATE, seed)
    console.print(table(score, cost), highlight=False, soft_wrap=True)
    if output is not None:
        about = {
            "command": "flow_rag_vla bench detection" + (" --quick" if quick else ""),
            "encoder": f"{origin.encoder} {origin.encoder_revision}",
            "policy": f"{origin.policy} {origin.policy_revision}",
            "parts": {name: len(traces) for name, traces in parts.items()},
            "test_seeds": [part.first_seed for part in PARTS if part.name.startswith("test")],
            "seed": seed,
        }
        write_text(output, json.dumps(figures(score, cost, about), indent=1, allow_nan=False) + "\n")
