# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench deliberation``: the seven stages beside the bare provider, and what known commands become."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from flow_rag_vla.core.files import write_text

ROUNDS = 300


def bench_deliberation(console: Console, output: Path | None, *, quick: bool = False) -> None:
    """Measure with the provider that needs no network.

    Args:
        console: where the table goes.
        output: JSON file; None: none.
        quick: a tenth of the rounds, and of the commands.
    """
    from rich.table import Table

    from flow_rag_vla.deliberation.benchmark import held_out_file, measure
    from flow_rag_vla.llm.task_language.held_out import read_commands

    try:
        commands = read_commands(held_out_file())
    except (OSError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from None
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("deliberating", total=None)
        figures = measure(
            ROUNDS // 10 if quick else ROUNDS,
            commands[::10] if quick else commands,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    table = Table("", "median, ms", "mean, ms", "")
    for stage, (median, mean) in figures.stages.items():
        table.add_row(stage, f"{median:.2f}", f"{mean:.2f}", "")
    table.add_row(
        "all seven stages", f"{figures.whole_ms:.2f}", f"{figures.whole_mean_ms:.2f}", f"{figures.rounds} times"
    )
    table.add_row(
        "bare call of the provider",
        f"{figures.bare_ms:.2f}",
        f"{figures.bare_mean_ms:.2f}",
        f"ratio {figures.ratio:.1f}",
    )
    console.print(table)
    plans = figures.plans
    count = plans["correct"] + plans["refused"] + plans["wrong"]
    console.print(f"plans checked in full, a second: {figures.checks_per_second:.0f}", highlight=False)
    console.print(
        f"of {count} known commands: {plans['correct']} correct ({plans['asks a person']} of them ask a person), "
        f"{plans['refused']} refused though they can be done, {plans['wrong']} wrong (target: none)",
        highlight=False,
    )
    for text in figures.wrong:
        console.print(f"wrong: {text}", highlight=False)
    if output is not None:
        write_text(output, json.dumps(asdict(figures), indent=1, ensure_ascii=False) + "\n")
    if plans["wrong"]:
        raise typer.Exit(1)
