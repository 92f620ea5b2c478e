# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench curation``: what to label next, mistakes and duplicates, beside random and simple baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flow_rag_vla.core.files import write_text

if TYPE_CHECKING:
    from flow_rag_vla.labeling.curation.benchmark import CurationFigures


def bench_curation(console: Console, output: Path | None, *, quick: bool = False) -> None:
    """Measure on simulated scenes that nothing was tuned on.

    Args:
        console: where the tables go.
        output: JSON file; None: none.
        quick: a third of the scenes and runs, for a look.
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.labeling.curation.benchmark import measure_curation

    with progress_display(console) as display:
        bar = StageBars(display).bar("Curation")
        figures = measure_curation(scenes=30 if quick else 90, runs=6 if quick else 20, progress=bar)
    for table in _tables(figures):
        console.print(table, highlight=False)
    if output is not None:
        command = "flow_rag_vla bench curation" + (" --quick" if quick else "")
        write_text(output, json.dumps({"command": command, **figures.values()}, indent=1, allow_nan=False) + "\n")


def _tables(figures: CurationFigures) -> list[Table]:
    from flow_rag_vla.labeling.curation.benchmark import QUEUE

    total = sum(figures.classes.values())
    least = min(figures.classes.items(), key=lambda item: item[1])
    curves = Table(
        "chosen by",
        *(str(budget) for budget in figures.budgets),
        "mean",
        "queue better by (95 %)",
        title=f"Balanced accuracy in % after so many labels; {figures.runs} splits of {figures.scenes} scenes, "
        f"{total} proposals, {least[1]} of the rarest ({least[0]})",
    )
    for name, curve in figures.curves.items():
        cells = [f"{100 * value:.1f}" for value in (*curve.accuracy, curve.mean)]
        difference = curve.difference
        better = f"{100 * difference.value:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
        curves.add_row(name, *cells, "" if name == QUEUE else better)
    mistakes = Table(
        "wrong labels",
        "how many",
        "at random",
        "by neighbours",
        "by the model",
        "by both",
        title="Share of wrong labels in % among the k that look worst, k: how many there are",
    )
    for title, part in (
        ("a tenth, any other label", figures.random_noise),
        ("three in ten of one class", figures.systematic_noise),
        ("the detector's own", figures.own_errors),
    ):
        shares = [f"{100 * value:.1f}" for value in (part.random, part.neighbours, part.model, part.both)]
        mistakes.add_row(title, str(part.mistakes), *shares)
    doubles = Table(
        "pictures taken again",
        "recall",
        "precision",
        title=f"Near duplicates in %, {figures.duplicates.taken_again} pictures taken again in other light and noise",
    )
    for title, pair in (
        ("things and pixels", figures.duplicates.both),
        ("things alone", figures.duplicates.things),
        ("pixels and one thing", figures.duplicates.pixels),
    ):
        doubles.add_row(title, *(f"{100 * value:.1f}" for value in pair))
    return [curves, mistakes, doubles]
