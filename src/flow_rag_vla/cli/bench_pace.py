# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench pace``: whether tasks succeed when they are done slower, on the same starts as at full speed."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.progress import track

from flow_rag_vla.core.files import write_text

PACES = (1.0, 0.7, 0.5)
STARTS = 12
FIRST_SEED = 320_000
"""Of starts that nothing was trained or chosen on."""


def bench_pace(console: Console, output: Path | None, *, quick: bool = False) -> None:
    """Do each task's starts at each pace; full speed is the baseline.

    Args:
        console: where the table goes.
        output: JSON file; None: none.
        quick: a quarter of the starts.
    """
    from rich.table import Table

    from flow_rag_vla.core.action import TICK_S
    from flow_rag_vla.deliberation.rehearsal import Rehearsed, Way, rehearse
    from flow_rag_vla.evaluate.trials.protocol import Start
    from flow_rag_vla.evaluate.trials.rig import Rig
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
    from flow_rag_vla.sim.tasks import TASK_RULES

    count = STARTS // 4 if quick else STARTS
    done: dict[tuple[str, float], list[Rehearsed]] = {(task, pace): [] for task in TASK_RULES for pace in PACES}
    for task in TASK_RULES:
        rig = Rig(simulated_spec(task, "plain"))
        try:
            for seed in track(range(FIRST_SEED, FIRST_SEED + count), task, console=console, transient=True):
                for pace in PACES:
                    way = Way(f"pace {pace:g}", speed_scale=pace)
                    done[task, pace].append(rehearse(rig, Start(seed, seed), way))
        finally:
            rig.close()
    table = Table("task", *(f"at {pace:g}" for pace in PACES), *(f"seconds at {pace:g}" for pace in PACES))
    figures = []
    for task in TASK_RULES:
        successes = [sum(item.success for item in done[task, pace]) for pace in PACES]
        seconds = [
            statistics.median([item.ticks * TICK_S for item in done[task, pace] if item.success] or [float("nan")])
            for pace in PACES
        ]
        told = [sum(len(item.reports) for item in done[task, pace] if item.success) for pace in PACES]
        table.add_row(
            task, *(f"{one} of {count}" for one in successes), f"{seconds[0]:.1f}",
            *(f"{one:.1f} ({one / seconds[0]:.2f} times)" for one in seconds[1:]),
        )  # fmt: skip
        for pace, one, took, reports in zip(PACES, successes, seconds, told, strict=True):
            figures.append(
                {
                    "task": task,
                    "pace": pace,
                    "starts": count,
                    "successes": one,
                    "median_s": took,
                    "false_reports": reports,
                }
            )
    console.print(table)
    false = dict.fromkeys(PACES, 0)
    for (_, pace), items in done.items():
        false[pace] += sum(len(item.reports) for item in items if item.success)
    text = ", ".join(f"{number} at {pace:g}" for pace, number in false.items())
    console.print(f"reports of failures in episodes that succeeded: {text}", highlight=False)
    if output is not None:
        write_text(output, json.dumps({"first_seed": FIRST_SEED, "figures": figures}, indent=1) + "\n")
