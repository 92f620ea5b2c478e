# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla external``: paired trials in any Gymnasium environment with a Box action."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain

MEMORY = "consensus,shuffled+consensus,residual,dagger"


def external(
    task: Annotated[
        list[str], typer.Option(help="metaworld/<task> or gym/<environment id>; repeat for several, or with commas")
    ],
    memory: Annotated[str, typer.Option(help="What the memory does, with commas; see docs/metaworld.md")] = MEMORY,
    episodes: Annotated[int, typer.Option(min=1, help="Fresh starts of each policy")] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; tests begin at 100000")] = 100_000,
    repeats: Annotated[int, typer.Option(min=0, help="Times that each failed start is tried again")] = 0,
    policy_seed: Annotated[list[int] | None, typer.Option(help="Training seed; repeat for several; default: 0")] = None,
    demonstrations: Annotated[int, typer.Option(min=0, help="Of the expert; 0: as declared for the task")] = 0,
    pixels: Annotated[bool, typer.Option("--pixels", help="Observe pictures instead of the state")] = False,
    success: Annotated[str, typer.Option(help="info:KEY, terminated, return>=X or steps>=N")] = "",
    step_limit: Annotated[int, typer.Option(min=0, help="Of an episode; 0: the task's own")] = 0,
    bank_episodes: Annotated[int, typer.Option(min=1, help="Episodes in which failures are collected")] = 30,
    iterations: Annotated[int, typer.Option(min=1, help="Of the training")] = 800,
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 1,
    prepared: Annotated[Path, typer.Option(help="Folder of policies and their failures")] = Path("runs/external"),
    output: Annotated[Path, typer.Option(help="Folder of trials and report")] = Path("runs/external_trials"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the trials in the folder")] = False,
) -> None:
    """Train a small policy on few demonstrations, remember its failures, and compare behaviours of the memory.

    [bold]Examples[/bold]

      flow_rag_vla external --task metaworld/door-open-v3 --episodes 20

      flow_rag_vla external --task gym/MountainCarContinuous-v0 --step-limit 200

      flow_rag_vla external --task metaworld/drawer-open-v3 --pixels --demonstrations 2
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.evaluate.external.environment import ExternalError
    from flow_rag_vla.evaluate.external.preparation import Preparation
    from flow_rag_vla.evaluate.external.study import prepared_benches
    from flow_rag_vla.evaluate.external.training import ExternalTraining
    from flow_rag_vla.evaluate.trials.plan import make_plan, words
    from flow_rag_vla.evaluate.trials.protocol import TrialError, TrialResult
    from flow_rag_vla.evaluate.trials.runner import Broken
    from flow_rag_vla.evaluate.trials.session import TABLES, run_plan
    from flow_rag_vla.evaluate.trials.variants import parse_all

    console = Console()
    preparation = Preparation(
        demonstrations,
        observation="pixels" if pixels else "state",
        episodes=bank_episodes,
        training=ExternalTraining(iterations=iterations),
    )
    try:
        variants = parse_all(memory)
        specs = prepared_benches(
            words(task),
            prepared,
            policy_seeds=policy_seed or [0],
            preparation=preparation,
            success=success,
            step_limit=step_limit,
            workers=workers,
            report=lambda text: console.print(text, highlight=False),
        )
        plan = make_plan(specs, variants, episodes=episodes, first_seed=seed, repeats=repeats)
        with progress_display(console) as display:
            bar = StageBars(display).bar("Trials")

            def progress(done: int, total: int, last: TrialResult | Broken | None) -> None:
                bar(done, total, "" if last is None else last.trial.bench)

            about = {"command": ["flow_rag_vla", *sys.argv[1:]]}
            summary = run_plan(plan, output, workers=workers, resume=resume, about=about, progress=progress)
    except (ExternalError, TrialError, ValueError) as error:
        complain(console, error)
        raise typer.Exit(2) from error
    console.print((output / TABLES).read_text(encoding="utf-8"), highlight=False, markup=False)
    if summary.broken:
        said = f"{len(summary.broken)} trials broke; the first: {summary.broken[0]}"
        complain(console, said)
        raise typer.Exit(1)
