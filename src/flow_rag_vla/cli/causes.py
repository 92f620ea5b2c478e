# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla causes``: what the failures of a log depend on."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain


def causes(
    runs: list[Path] = typer.Argument(..., help="Run folders, trials.jsonl or rehearsals.jsonl; taken together."),
    variables: str = typer.Option(
        "", "--variables", "-v", help="At most four names with commas; empty: three are chosen on half the episodes."
    ),
    task: str = typer.Option("", help="Only episodes of this task."),
    method: str = typer.Option("", help="Only trials in which the memory did this, such as off or consensus."),
    bins: int = typer.Option(2, min=2, max=8, help="Parts that a number is cut into, with as many episodes each."),
    permutations: int = typer.Option(200, min=20, max=10_000, help="Shuffled logs for what chance reaches."),
    seed: int = typer.Option(0, min=0, help="Of the shuffles."),
    html: Path | None = typer.Option(None, "--html", help="Also write a page with the plot to this file."),
    names: bool = typer.Option(False, "--list", help="List the variables that the episodes have, and end."),
) -> None:
    """Say which variables failures depend on: redundantly, each by itself, or only together (SURD).

    Refuses below enough episodes. What it names came together with failures; it is no proof of cause.

    [bold]Examples[/bold]

      flow_rag_vla causes runs/trials/drawer --method off --html causes.html

      flow_rag_vla causes runs/2026-01-31_12-00-00 runs/2026-02-01_09-30-00 --list

      flow_rag_vla causes runs/trials/drawer --method off -v scale,friction --bins 3
    """
    from rich.progress import track
    from rich.table import Table

    from flow_rag_vla.core.files import write_text
    from flow_rag_vla.deliberation.causes import CAVEAT, causes_page, find_causes, ranked, summary
    from flow_rag_vla.deliberation.history import HistoryError, read_history
    from flow_rag_vla.deliberation.surd import TooFewError
    from flow_rag_vla.deliberation.variables import VariableError, episode_table

    console = Console(soft_wrap=True, highlight=False)
    try:
        facts = [
            fact
            for run in track(runs, "reading", console=console, transient=True, disable=not console.is_terminal)
            for fact in read_history(run)
            if task in ("", fact.task) and method in ("", fact.method)
        ]
        if not facts:
            raise HistoryError("no episode is left; see --task and --method")
        if names:
            for name, values in episode_table(facts).columns.items():
                console.print(f"{name}: {len(set(values))} different values")
            return
        wanted = [name.strip() for name in variables.split(",") if name.strip()]
        with console.status(f"{permutations} shuffles of {len(facts)} episodes"):
            found = find_causes(facts, wanted, bins=bins, permutations=permutations, seed=seed)
    except (HistoryError, TooFewError, VariableError, ValueError) as error:
        complain(console, error)
        raise typer.Exit(2) from None
    console.print(f"[bold]{summary(found)}[/bold]")
    chosen = "; the variables were chosen on the other starts" if found.selected else ""
    console.print(
        f"measured: {found.measured} episodes of {found.starts} starts{chosen}; the log: {found.episodes} episodes, "
        f"{found.failures} failed"
    )
    table = Table("part", "variables")
    for column in ("bit", "chance reaches"):
        table.add_column(column, justify="right")
    for part in ranked(found.decomposition):
        style = "" if part.found else "dim"
        table.add_row(part.kind, " + ".join(part.sources), f"{part.bits:.4f}", f"{part.bound:.4f}", style=style)
    console.print(table)
    table = Table(*found.decomposition.sources)
    for column in ("episodes", "failed"):
        table.add_column(column, justify="right")
    for cell in found.cells:
        table.add_row(*cell.states, str(cell.failures.trials), f"{100 * cell.failures.rate:.1f} %")
    console.print(table)
    console.print(f"[dim]{CAVEAT}[/dim]")
    if html is not None:
        write_text(html, causes_page(found, ", ".join(str(run) for run in runs)))
        console.print(str(html))
