# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla report``: the report of a run that is on disk."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console


def report(
    folder: Path = typer.Argument(..., help="Run folder, e.g. runs/2026-01-31_12-00-00."),
    animation: bool = typer.Option(True, help="Also draw episode.gif."),
) -> None:
    """Make report.html and episode.gif of a run, also of one that was cut short.

    [bold]Examples[/bold]

      flow_rag_vla report runs/2026-01-31_12-00-00

      flow_rag_vla report runs/2026-01-31_12-00-00 --no-animation   the page alone
    """
    from flow_rag_vla.evaluate.report import make_report

    console = Console()
    if folder.is_dir() and not any((folder / name).exists() for name in ("run.json", "episodes", "bag")):
        raise typer.BadParameter(f"{folder} holds no run.json, episodes or bag; give a run's folder, below runs/")
    try:
        with console.status("making the report"):
            made = make_report(folder, animate=animation)
    except OSError as error:
        raise typer.BadParameter(str(error)) from None
    for path in made:
        console.print(str(path), soft_wrap=True)
