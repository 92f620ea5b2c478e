# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla train-compact``: the shipped detector is made again from the simulator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape


def train_compact(
    output: Annotated[Path, typer.Option(help="Folder that gets the detector and its model card")] = Path(
        "runs/train/compact_detector"
    ),
    seed: Annotated[int, typer.Option(min=0, max=90, help="Seed of scenes and network")] = 0,
    scenes: Annotated[int, typer.Option(min=1, help="Simulated layouts, each seen six times")] = 300,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of training")] = 2400,
    batch: Annotated[int, typer.Option(min=1, help="Squares a step")] = 8,
    start: Annotated[Path | None, typer.Option("--from", help="Folder of a detector to go on from")] = None,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Its peak")] = 4e-3,
    test_scenes: Annotated[int, typer.Option(min=1, help="Held-out layouts of each size for the model card")] = 40,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training")] = 2,
) -> None:
    """Train the compact detector and segmenter on the simulator's own segmentation, and write its model card.

    About 20 minutes of one processor, some 10 on two; the same seed gives the same weights on the same machine with
    the same threads.

    [bold]Examples[/bold]

      flow_rag_vla train-compact

      flow_rag_vla train-compact --scenes 4 --iterations 20 --test-scenes 2     a look at how it goes

      flow_rag_vla label pictures/ --detector-model runs/train/compact_detector
    """
    import torch

    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.labeling.compact.card import score_model, write_card
    from flow_rag_vla.labeling.compact.categories import CATEGORIES
    from flow_rag_vla.labeling.compact.model import CompactModel, save_compact
    from flow_rag_vla.labeling.compact.network import CompactConfig
    from flow_rag_vla.labeling.compact.training import FINE, CompactTraining, collect
    from flow_rag_vla.labeling.compact.training import train_compact as train
    from flow_rag_vla.labeling.pipeline import LabelingError

    console = Console()
    torch.set_num_threads(threads)
    training = CompactTraining(
        scenes=scenes, iterations=iterations, batch=batch, seed=seed, learning_rate=learning_rate
    )
    config = CompactConfig(CATEGORIES, fine=FINE)
    try:
        network = CompactModel.load(start).network if start is not None else None
        if network is not None and not network.config.fine:
            network = network.refined(FINE)
        with progress_display(console) as display:
            bars = StageBars(display)
            frames = collect(training, bars.bar("Pictures"))
            made = train(frames, config, training, start=network, progress=bars.bar("Training"))
            revision = save_compact(made, output)
            scores = score_model(CompactModel.load(output), test_scenes, progress=bars.bar("Held-out scenes"))
    except (LabelingError, OSError) as error:
        console.print(f"[red]{escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error
    card = write_card(output, revision, scores, " ".join(["flow_rag_vla", *sys.argv[1:]]), len(frames), training)
    for line in scores.lines():
        console.print(line, highlight=False)
    console.print(f"detector {revision}: {output}, model card: {card}", highlight=False, soft_wrap=True)
