# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench retrieval``: what a bank's memory says where nothing needs to be corrected."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.core.files import write_text


def bench_retrieval(console: Console, bank: Path | None, output: Path | None) -> None:
    """Print how often the memory speaks in situations that went well, and how often it would change them.

    Args:
        console: where the table goes.
        bank: folder of a bank with successes.
        output: JSON file; None: none.

    Raises:
        Exit: with 2, if there is no such bank.
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.evaluate.benchmarks.retrieval import false_retrievals
    from flow_rag_vla.evaluate.intervals import wilson
    from flow_rag_vla.evaluate.trials.protocol import TrialError

    if bank is None:
        console.print("[red]retrieval needs a bank of cases: --bank FOLDER, made with practice")
        raise typer.Exit(2)
    try:
        with progress_display(console) as display:
            found = false_retrievals(bank, progress=StageBars(display).bar("Episodes"))
    except TrialError as error:
        console.print(f"[red]{error}", highlight=False)
        raise typer.Exit(2) from error
    table = Table("answer", "speaks", "another action than what went well [95 %]", "median distance")
    for item in found:
        spoken = f"{100 * item.spoken / item.successes:.1f} % of {item.successes}"
        table.add_row(item.way, spoken, str(wilson(item.false, item.successes)), f"{item.distance:.3f}")
    console.print(table)
    if output is not None:
        write_text(output, json.dumps([asdict(item) for item in found], indent=1) + "\n")
