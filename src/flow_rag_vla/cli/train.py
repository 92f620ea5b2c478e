"""``flow_rag_vla train``: demonstrations, encoder, policy, scores, model card."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flow_rag_vla.cli.progress import StageBars, progress_display
from flow_rag_vla.cli.saying import complain
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import task_names

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
) -> None:
    """Train the encoder and the policy from scripted demonstrations and write a checkpoint with its model card.

    Ctrl-C loses only the stage under way: the same command goes on from --work.

    [bold]Examples[/bold]

      flow_rag_vla train --test-episodes 0                     as it ships, without the scores

      flow_rag_vla train --scale 0.1 --output runs/try/checkpoints --work runs/try/work   a quick try

      flow_rag_vla train --encoder dinov2 --output runs/dinov2 --work runs/dinov2/work
    """
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
