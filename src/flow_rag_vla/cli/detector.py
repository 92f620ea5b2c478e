# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla detector``: detectors of one's own from labelled pictures, and how good a detector is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flow_rag_vla.cli.signals import INTERRUPTED

if TYPE_CHECKING:
    from flow_rag_vla.labeling.evaluation.evaluate import Evaluation

app = typer.Typer(help="Train detectors on labelled pictures, and measure any detector.", no_args_is_help=True)

RUNS = Path("runs/detectors")


@contextmanager
def _told(console: Console) -> Iterator[None]:
    """What goes wrong becomes one line and exit code 2."""
    from flow_rag_vla.labeling.pipeline.errors import LabelingError

    try:
        yield
    except (LabelingError, OSError) as error:
        console.print(f"[red]{escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="Folder of a dataset, or simulator:N for N scenes drawn now")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the training; default: runs/detectors/<dataset>")
    ] = None,
    architecture: Annotated[str, typer.Option(help="rtdetr_v2 or d_fine, for a model made anew")] = "rtdetr_v2",
    size: Annotated[
        str, typer.Option(help="Of a model made anew: small (a processor), medium (a GPU), tiny")
    ] = "small",
    model: Annotated[str, typer.Option(help="Go on from a folder or hub id of either architecture")] = "",
    width: Annotated[int, typer.Option(help="Of what it sees, pixels; a multiple of 32")] = 320,
    height: Annotated[int, typer.Option(help="Of what it sees, pixels; a multiple of 32")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="Times that every picture is seen, at most")] = 40,
    batch: Annotated[int, typer.Option(min=1, max=512, help="Pictures a step")] = 8,
    rate: Annotated[float, typer.Option(help="Peak learning rate")] = 5e-4,
    every: Annotated[int, typer.Option(min=1, help="Epochs between tries on the validation pictures")] = 2,
    patience: Annotated[int, typer.Option(min=0, help="Tries without a better one that end it; 0: never")] = 8,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 100,
    augment: Annotated[bool, typer.Option(help="Flip, cut and colour the pictures by chance")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and augmentation")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Of the processor; 0: as many as it has")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    tracking: Annotated[str, typer.Option(help="auto: MLflow if it is installed; mlflow; none")] = "auto",
) -> None:
    """Train a detector, or go on with a training that was interrupted: the same command again.

    Ctrl-C ends it with a checkpoint. The folder gets [bold]model/[/bold] (the best weights, with a card),
    [bold]training.html[/bold], [bold]evaluation.html[/bold] and [bold]metrics.jsonl[/bold].
    It ends with 0 when it is finished, with 130 when it was interrupted, with 2 if nothing could be done.

    [bold]Examples[/bold]

      flow_rag_vla detector train datasets/cups/v3

      flow_rag_vla detector train datasets/cups/v3 --model PekingU/rtdetr_v2_r18vd --width 640 --height 640

      flow_rag_vla detector train simulator:100 -o runs/detectors/sim --architecture d_fine

      flow_rag_vla label pictures/ --detector detr --detector-model runs/detectors/sim/model
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.cli.signals import ended_by_signals
    from flow_rag_vla.labeling.training.runs import run_training
    from flow_rag_vla.labeling.training.settings import DetectorTraining

    console = Console(soft_wrap=True, highlight=False)
    folder = output or RUNS / dataset.strip("/").replace(":", "_").replace("/", "_")
    command = " ".join(["flow_rag_vla", *sys.argv[1:]])
    with _told(console), ended_by_signals() as ended:
        settings = DetectorTraining(
            architecture, size, model, width, height, epochs, batch, rate, every=every, patience=patience,
            save_every=save_every, augment=augment, seed=seed, threads=threads, device=device,
        )  # fmt: skip
        with progress_display(console) as display:
            run = run_training(
                dataset, folder, settings, tracking=tracking, command=command, bar=StageBars(display).bar,
                say=console.print, stop=ended.is_set,
            )  # fmt: skip
    trained = run.trained
    if not trained.finished:
        console.print(f"interrupted at step {trained.steps} of {trained.total}; the same command goes on: {folder}")
        raise typer.Exit(INTERRUPTED)
    why = ", as no try was better for a while" if trained.early else ""
    console.print(f"{trained.steps} steps{why}; best mAP on the validation pictures {trained.best:.3f}")
    if run.evaluation is not None:
        _tell(console, run.evaluation)
    console.print(f"model: {trained.model}, pages: {run.page}, {folder / 'evaluation.html'}")


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Argument(help="Folder of a dataset, or simulator:N for N scenes drawn now")],
    detector: Annotated[
        str, typer.Option(help="detr (a training's), compact, florence2 or grounding_dino")
    ] = "compact",
    model: Annotated[
        str, typer.Option("--model", "-m", help="Its folder or hub id; also the folder of a training")
    ] = "",
    part: Annotated[str, typer.Option(help="train, val or test")] = "test",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the page and the figures")] = Path(
        "runs/evaluations/detector"
    ),
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score of what the confusions count")] = 0.5,
    most: Annotated[int, typer.Option(min=0, help="Pictures at most, spread over the part; 0: all")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Pictures that go through the detector at once")] = 4,
    threads: Annotated[int, typer.Option(min=0, help="Of the processor; 0: as many as it has")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps")] = "cpu",
) -> None:
    """Measure a detector: COCO's mAP, curves, confusions, overlap of masks, and the pictures that went worst.

    It ends with 0, with 130 when it was interrupted, with 2 if nothing could be measured.

    [bold]Examples[/bold]

      flow_rag_vla detector evaluate datasets/cups/v3 --detector detr -m runs/detectors/cups

      flow_rag_vla detector evaluate simulator:20

      flow_rag_vla detector evaluate datasets/cups/v3 --detector grounding_dino --device cuda --most 200
    """
    import torch

    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.cli.signals import ended_by_signals
    from flow_rag_vla.labeling.training.runs import named_backend, run_evaluation

    console = Console(soft_wrap=True, highlight=False)
    if threads:
        torch.set_num_threads(threads)
    with _told(console), ended_by_signals() as ended:
        try:
            with progress_display(console) as display:
                scores, page = run_evaluation(
                    dataset, part, output, named_backend(detector, model, device, batch), threshold=threshold,
                    most=most, bar=StageBars(display).bar, stop=ended.is_set,
                )  # fmt: skip
        except InterruptedError as error:
            console.print("interrupted; nothing was written")
            raise typer.Exit(INTERRUPTED) from error
    _tell(console, scores)
    console.print(f"page: {page}")


def _tell(console: Console, scores: Evaluation) -> None:
    boxes = scores.boxes
    masks = "" if scores.masks is None else f"; masks: mAP {scores.masks.ap:.3f}, mean overlap {scores.miou or 0.0:.3f}"
    console.print(
        f"{scores.detector} {scores.revision} on {len(scores.looked)} pictures of {scores.data}: mAP {boxes.ap:.3f}, "
        f"mAP@50 {boxes.ap50:.3f}, mAP@75 {boxes.ap75:.3f}{masks}"
    )
    for name, score in boxes.by_category.items():
        console.print(f"  {name:24} {score.things:5} things   AP {score.ap:.3f}   AP@50 {score.ap50:.3f}")
    if scores.unknown:
        console.print(f"the detector has no word for {', '.join(scores.unknown)}")
