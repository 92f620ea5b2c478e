# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench registry``: search, registration, writers and readers, each beside its baseline."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

MILLION = 1_000_000
CROWD = (16, 32)
"""Writers and readers of the full measurement."""


def bench_registry(
    console: Console, output: Path | None, objects: int, *, quick: bool = False, soak: float = 0.0
) -> None:
    """Measure the registry in a temporary folder.

    Args:
        console: where the figures are printed.
        output: file for them as JSON, or None.
        objects: how many; with a million also 16 writers and 32 readers for 60 s.
        quick: fewer queries, writers and readers.
        soak: only 16 writers and 32 readers for so many seconds, if more than 0.
    """
    from flow_rag_vla.core.files import write_text
    from flow_rag_vla.labeling.registry.benchmark.report import in_words, measure, missed

    if soak > 0.0:
        _soak(console, output, soak)
        return
    full = objects >= MILLION
    writers, readers, seconds = (*CROWD, 60.0) if full else (2, 2, 2.0) if quick else (4, 8, 5.0)
    with _progress(console) as bar:
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


def _soak(console: Console, output: Path | None, seconds: float) -> None:
    from dataclasses import asdict

    from flow_rag_vla.core.files import write_text
    from flow_rag_vla.labeling.registry.benchmark.report import crowd_in_words, missed_by_crowd, soak

    with _progress(console) as bar:
        task = bar.add_task("registry", total=None)
        together, deferred = soak(
            *CROWD, seconds, lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
        )
    for line in crowd_in_words(together, deferred):
        console.print(line, highlight=False, soft_wrap=True)
    for line in missed_by_crowd(together):
        console.print(f"[yellow]not reached[/yellow]: {line}", highlight=False)
    if output is not None:
        write_text(output, json.dumps({"crowd": asdict(together), "deferred": asdict(deferred)}, indent=1))


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not console.is_terminal)
