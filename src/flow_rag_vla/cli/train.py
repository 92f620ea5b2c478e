# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla train``: demonstrations, encoder, policy, scores, model card."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flow_rag_vla.cli.progress import StageBars, progress_display
from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import task_names

if TYPE_CHECKING:
    from flow_rag_vla.data.demonstrations import Demonstration

OUTPUT = Path("runs/train/checkpoints")
WORK = Path("runs/train/work")


def train(
    output: Annotated[Path, typer.Option(help="Folder that gets compact/ and policy/")] = OUTPUT,
    work: Annotated[Path, typer.Option(help="Folder of intermediate results; a broken run goes on from it")] = WORK,
    encoder: Annotated[
        str, typer.Option(help="compact trains one; or dinov2, mobilenet, a folder, a hub id to use as it is")
    ] = "compact",
    seed: Annotated[int, typer.Option(min=0, help="Seed of data and networks")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes and threads")] = 2,
    scale: Annotated[
        float, typer.Option(min=0.01, max=100.0, help="Times the default demonstrations and iterations")
    ] = 1.0,
    test_episodes: Annotated[int, typer.Option(min=0, help="Test episodes a task for the model card")] = 50,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Train on these instead: bags, run folders, data sets, shards; may be repeated"),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="With --from: policy to begin with; empty: the one that ships")] = "",
    iterations: Annotated[int, typer.Option(min=1, help="With --from: steps of the training")] = 800,
) -> None:
    """Train the encoder and the policy from scripted demonstrations and write a checkpoint with its model card.

    Ctrl-C loses only the stage under way: the same command goes on from --work. With --from a policy is trained further
    on recorded episodes that succeeded; its encoder stays as it is.

    [bold]Examples[/bold]

      flow_rag_vla train --test-episodes 0                     as it ships, without the scores

      flow_rag_vla train --scale 0.1 --output runs/try/checkpoints --work runs/try/work   a quick try

      flow_rag_vla train --encoder dinov2 --output runs/dinov2 --work runs/dinov2/work

      flow_rag_vla train --from runs/A --from my_set --output runs/tuned     what was recorded
    """
    if sources:
        _train_on_recordings(sources, checkpoint, encoder, output / "policy", iterations, seed, workers)
        return
    from flow_rag_vla.data.demonstrations import DemonstrationError
    from flow_rag_vla.evaluate.model_card import score_table, write_model_card
    from flow_rag_vla.evaluate.rollout import TEST_SEEDS, RolloutResult, rollout_jobs, run_jobs
    from flow_rag_vla.learn.pipeline import PipelineError, PipelineSettings, run_pipeline, scaled
    from flow_rag_vla.policy.checkpoint import load_checkpoint
    from flow_rag_vla.policy.encoders import EncoderError

    console = Console()
    settings = scaled(replace(PipelineSettings(), encoder=encoder, seed=seed), scale)
    results: list[RolloutResult] = []
    try:
        with progress_display(console) as display:
            bars = StageBars(display)
            made = run_pipeline(work, output, settings, workers=workers, progress=lambda stage: bars.bar(stage.title))
            jobs = rollout_jobs(
                task_names(),
                ("plain",),
                test_episodes,
                TEST_SEEDS,
                checkpoint=str(made.policy_folder),
                encoder=str(made.encoder_folder or encoder),
            )
            bar = bars.bar("Test episodes")
            for batch in run_jobs(jobs, workers):
                results += batch
                bar(len(results), test_episodes * len(task_names()))
    except (PipelineError, DemonstrationError, EncoderError) as error:
        complain(console, error)
        raise typer.Exit(2) from error
    order = list(task_names())
    results.sort(key=lambda item: (order.index(item.task), item.seed))
    _, config, revision = load_checkpoint(made.policy_folder)
    card = write_model_card(
        made.policy_folder,
        config=config,
        revision=revision,
        command=" ".join(["flow_rag_vla", *sys.argv[1:]]),
        evaluation_command=f"flow_rag_vla evaluate --episodes {test_episodes} --seed {TEST_SEEDS}",
        report=made.report,
        results=results,
    )
    write_text(made.policy_folder / "scores.json", json.dumps([asdict(item) for item in results]) + "\n")
    for line in score_table(results):
        console.print(line, highlight=False)
    console.print(f"checkpoint: {made.policy_folder}, model card: {card}", highlight=False)


def _train_on_recordings(
    sources: list[Path], checkpoint: str, encoder: str, folder: Path, iterations: int, seed: int, workers: int
) -> None:
    import torch

    from flow_rag_vla.data.demonstrations import DemonstrationError
    from flow_rag_vla.learn.recordings import train_on_recordings
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.encoders import EncoderError, make_encoder

    if folder.exists():
        raise typer.BadParameter(f"--output: {folder} is there already; name another folder")
    console = Console(soft_wrap=True, highlight=False)
    torch.set_num_threads(workers)
    try:
        found = _recorded(sources)
        with progress_display(console) as display:
            done = train_on_recordings(
                found,
                make_encoder(encoder),
                checkpoint or None,
                folder,
                iterations=iterations,
                seed=seed,
                progress=StageBars(display).bar("Policy"),
            )
    except (DemonstrationError, CheckpointError, EncoderError) as error:
        complain(console, error)
        raise typer.Exit(2) from error
    for instruction, count in sorted(done.episodes.items()):
        console.print(f"{count} episodes: {instruction}")
    console.print(f"{done.samples} situations recorded, beside {done.before} of the earlier training")
    if not done.before:
        warn(
            console,
            f"policy {done.start} keeps nothing of its training: what it knows of other tasks may be lost; "
            "look with `flow_rag_vla evaluate --checkpoint`",
        )
    console.print(f"checkpoint: {folder}, revision {done.revision}, begun with {done.start}")


def _recorded(sources: list[Path]) -> list[Demonstration]:
    """Demonstrations of shards as they are, and those of recordings that succeeded."""
    from flow_rag_vla.cli.dataset import recorded_episodes
    from flow_rag_vla.data.demonstrations import read_shard, shard_paths
    from flow_rag_vla.learn.bag_demonstrations import demonstrations

    found: list[Demonstration] = []
    for source in sources:
        if source.suffix == ".npz":
            found += read_shard(source)
        elif source.is_dir() and any(source.glob("*.npz")):
            found += [item for path in shard_paths(source) for item in read_shard(path)]
        else:
            found += demonstrations(recorded_episodes([source]))
    return found
