# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench labeling``: the default labelling backend beside baselines of the same run."""

from __future__ import annotations

import json
from dataclasses import asdict
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
    from flow_rag_vla.gateway.labeling.benchmark import measure_service, service_lines
    from flow_rag_vla.labeling.backends import make_pipeline
    from flow_rag_vla.labeling.benchmark import figures_table, measure_labeling, missed
    from flow_rag_vla.labeling.compact.held_out import LARGE_SIZE, held_out_frames
    from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS

    with progress_display(console) as display:
        bars = StageBars(display)
        figures = measure_labeling(scenes=8 if quick else 40, videos=1 if quick else 4, progress=bars.bar("Labeling"))
        images = [frame.image for frame in held_out_frames(8 if quick else 20, LARGE_SIZE, TEST_SEEDS)]
        service = measure_service(make_pipeline(), images)
    console.print(figures_table(figures), highlight=False, soft_wrap=True)
    console.print(service_lines(service), highlight=False, soft_wrap=True)
    for line in missed(figures):
        console.print(f"[yellow]not reached[/yellow]: {line}", highlight=False)
    if output is not None:
        command = "flow_rag_vla bench labeling" + (" --quick" if quick else "")
        values = {"command": command, **figures.values(), "service": asdict(service)}
        write_text(output, json.dumps(values, indent=1, allow_nan=False) + "\n")
