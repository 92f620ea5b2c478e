# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench swapping``: the 40 Hz loop while a language model generates and models swap."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from flow_rag_vla.core.files import write_text


def bench_swapping(console: Console, output: Path | None, *, seconds: float) -> None:
    """Measure the loop without and with the load, by turns.

    Args:
        console: where the table goes.
        output: JSON file; None: none.
        seconds: of all runs together; the usual length of the loop's benchmark is doubled.
    """
    from flow_rag_vla.evaluate.benchmarks.swapping import run

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("ticking", total=None)
        figures = run(2.0 * seconds, lambda done, total: progress.update(bar, completed=done, total=total))
    console.print(figures.table(), highlight=False, soft_wrap=True)
    if output is not None:
        write_text(output, json.dumps({**asdict(figures), "ratio_p99": figures.ratio("p99")}, indent=1) + "\n")
