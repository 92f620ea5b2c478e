"""``flow_rag_vla bench labeling``: the default labelling backend beside baselines of the same run."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from flow_rag_vla.core.files import write_text


def bench_labeling(console: Console, output: Path | None, *, quick: bool = False) -> None:
    """Score and time the compact detector on held-out scenes.

    Args:
        console: where the table goes.
        output: JSON file; None: none.
        quick: a fifth of the scenes, for a look.
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.labeling.benchmark import figures_table, measure_labeling

    with progress_display(console) as display:
        bar = StageBars(display).bar("Labeling")
        figures = measure_labeling(scenes=8 if quick else 40, videos=1 if quick else 4, progress=bar)
    console.print(figures_table(figures), highlight=False, soft_wrap=True)
    if output is not None:
        command = "flow_rag_vla bench labeling" + (" --quick" if quick else "")
        write_text(output, json.dumps({"command": command, **figures.values()}, indent=1, allow_nan=False) + "\n")
