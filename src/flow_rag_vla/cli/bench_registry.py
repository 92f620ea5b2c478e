"""``flow_rag_vla bench registry``: search, registration, writers and readers, each beside its baseline."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

MILLION = 1_000_000


def bench_registry(console: Console, output: Path | None, objects: int, *, quick: bool = False) -> None:
    """Measure the registry in a temporary folder.

    Args:
        console: where the figures are printed.
        output: file for them as JSON, or None.
        objects: how many; with a million also 16 writers and 32 readers for 60 s.
        quick: fewer queries, writers and readers.
    """
    from flow_rag_vla.core.files import write_text
    from flow_rag_vla.labeling.registry.benchmark.report import in_words, measure, missed

    full = objects >= MILLION
    writers, readers, seconds = (16, 32, 60.0) if full else (2, 2, 2.0) if quick else (4, 8, 5.0)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("registry", total=None)
        figures = measure(
            objects,
            5 if quick else 30,
            writers,
            readers,
            seconds,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    for line in in_words(figures):
        console.print(line, highlight=False, soft_wrap=True)
    for line in missed(figures):
        console.print(f"[yellow]not reached[/yellow]: {line}", highlight=False)
    if output is not None:
        write_text(output, json.dumps(figures.as_json(), indent=1))
