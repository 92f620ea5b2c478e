# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench likeness``: whether a plan finds the cases of its own start among those of others."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from flow_rag_vla.core.files import write_text

STARTS = 20
FIRST_SEED = 330_000
"""Of starts that nothing was trained or chosen on."""


def bench_likeness(console: Console, output: Path | None, *, quick: bool = False) -> None:
    """Look for each start's case by what is seen before the hand moves; the baseline leaves the hand where it is.

    Args:
        console: where the table goes.
        output: JSON file; None: none.
        quick: a quarter of the starts.
    """
    from rich.table import Table

    from flow_rag_vla.deliberation.likeness_benchmark import Found, found_again
    from flow_rag_vla.evaluate.trials.rig import Rig
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
    from flow_rag_vla.sim.tasks import TASK_RULES

    count = max(STARTS // 4 if quick else STARTS, 2)
    figures: list[Found] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("rehearsing", total=count * len(TASK_RULES))
        for task in TASK_RULES:
            rig = Rig(simulated_spec(task, "plain"))
            try:
                for found in found_again(rig, range(FIRST_SEED, FIRST_SEED + count)):
                    if found is None:
                        progress.advance(bar)
                    else:
                        figures.append(found)
            finally:
                rig.close()
    table = Table("task", "own start first", "hand as it is", "by chance", "alike", "own, median", "others, 95 % below")
    for one in figures:
        table.add_row(
            one.task, f"{one.moved} of {one.starts}", f"{one.still} of {one.starts}", f"1 of {one.starts}",
            f"{one.alike} of {one.starts}", f"{one.own:.2f}", f"{one.others:.2f}",
        )  # fmt: skip
    console.print(table)
    if output is not None:
        write_text(output, json.dumps({"figures": [asdict(one) for one in figures]}, indent=1) + "\n")
