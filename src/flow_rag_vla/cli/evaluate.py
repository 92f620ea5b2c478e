"""``flow_rag_vla evaluate``: closed-loop episodes of a checkpoint, with intervals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import UnknownTaskError, check_task, task_names


def evaluate(
    task: Annotated[list[str] | None, typer.Option(help="Task; repeat for several; default: all")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Scene variant; repeat for several; all: every one")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task in each variant")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; tests begin at 100000")] = 100_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 2,
    checkpoint: Annotated[Path | None, typer.Option(help="Policy folder; default: the one that ships")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder that the policy was trained with")] = "compact",
    delay_ticks: Annotated[int, typer.Option(min=0, max=15, help="Ticks from picture to chunk")] = 3,
    replan_ticks: Annotated[int, typer.Option(min=1, max=15, help="Ticks between pictures")] = 4,
    heun: Annotated[bool, typer.Option("--heun", help="Integrate with Heun's method instead of Euler's")] = False,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Integration steps of the flow")] = 6,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Chunks drawn at once")] = 4,
    output: Annotated[Path | None, typer.Option(help="JSON file for every episode")] = None,
) -> None:
    """Run episodes in this machine's simulator without the graph, and print success with Wilson 95 % intervals."""
    from flow_rag_vla.cli.train import StageBars, progress_display
    from flow_rag_vla.evaluate.intervals import wilson
    from flow_rag_vla.evaluate.rollout import RolloutResult, RolloutSettings, rollout_jobs, run_jobs
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.encoders import EncoderError
    from flow_rag_vla.sim.scene import VARIANTS

    console = Console()
    variants = list(VARIANTS) if variant == ["all"] else variant or ["plain"]
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        console.print(f"[red]unknown variant {unknown[0]!r}; known: {', '.join(VARIANTS)}, all")
        raise typer.Exit(2)
    results: list[RolloutResult] = []
    try:
        tasks = [check_task(name) for name in task or task_names()]
        jobs = rollout_jobs(
            tasks,
            variants,
            episodes,
            seed,
            checkpoint=None if checkpoint is None else str(checkpoint),
            encoder=encoder,
            settings=RolloutSettings(delay_ticks, replan_ticks, "heun" if heun else "euler", steps, samples),
        )
        with progress_display(console) as display:
            bar = StageBars(display).bar("Episodes")
            total = episodes * len(tasks) * len(variants)
            bar(0, total)
            for batch in run_jobs(jobs, workers):
                results += batch
                done = sum(item.success for item in results)
                bar(len(results), total, f"{done}/{len(results)} succeeded")
    except (UnknownTaskError, CheckpointError, EncoderError) as error:
        console.print(f"[red]{error}")
        raise typer.Exit(2) from error
    table = Table("task", "variant", "success [95 %]", "seconds", "starved ticks")
    for name in tasks:
        for kind in variants:
            some = [item for item in results if (item.task, item.variant) == (name, kind)]
            durations = [item.duration_s for item in some if item.success]
            table.add_row(
                name,
                kind,
                str(wilson(len(durations), len(some))),
                f"{sum(durations) / len(durations):.1f}" if durations else "-",
                str(sum(item.starved_ticks for item in some)),
            )
    console.print(table)
    if output is not None:
        ordered = sorted(results, key=lambda item: (item.task, item.variant, item.seed))
        write_text(output, json.dumps([asdict(item) for item in ordered], indent=1) + "\n")
        console.print(f"every episode: {output}", highlight=False)
