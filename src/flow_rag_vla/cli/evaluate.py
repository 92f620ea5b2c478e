# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla evaluate``: closed-loop episodes of a checkpoint, with intervals; paired trials of the memory."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.known import SCENE, TASKS
from flow_rag_vla.cli.paired_trials import PairedTrials, run_paired
from flow_rag_vla.cli.saying import complain
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import UnknownTaskError, check_task, task_names

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.rollout import RolloutSettings
    from flow_rag_vla.evaluate.trials.protocol import TrialResult
    from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec

TRIALS_FOLDER = Path("runs/trials")
EXTERNAL_FOLDER = Path("runs/external_trials")

SIMULATOR_ONLY = (
    *("variant", "checkpoint", "encoder", "delay_ticks", "replan_ticks", "heun", "steps", "samples", "preset"),
    *("cases", "collect", "collect_seed", "source", "dagger"),
)
"""Options that mean nothing in someone else's environment."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which episodes are asked for.

    checkpoints: folders of policies; none: the one that ships
    episodes: of each task in each scene variant, from seed ``seed`` on
    """

    tasks: Sequence[str]
    scenes: Sequence[str]
    checkpoints: Sequence[Path]
    encoder: str
    settings: RolloutSettings
    episodes: int
    seed: int
    workers: int


@dataclass(frozen=True, slots=True)
class Banks:
    """What memories are made from: folders of cases and of fine-tuned policies, one for each checkpoint or none.

    source: who corrects failures as a bank is made or grows
    folder: of the run; memories that grow live in it
    """

    cases: Sequence[Path]
    dagger: Sequence[Path]
    source: str
    folder: Path


def evaluate(
    context: typer.Context,
    task: Annotated[
        list[str] | None, typer.Option(help=f"Task: {TASKS}; repeat, or list with commas; default: all")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help=f"{SCENE}; repeat, or list with commas; all: every one; default: plain")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task in each variant")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; tests begin at 100000")] = 100_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 2,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Policy folder; default: the one that ships; repeat to pool several")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder that the policy was trained with")] = "compact",
    delay_ticks: Annotated[int, typer.Option(min=0, max=15, help="Ticks from picture to chunk")] = 3,
    replan_ticks: Annotated[int, typer.Option(min=1, max=15, help="Ticks between pictures")] = 4,
    heun: Annotated[bool, typer.Option("--heun", help="Integrate with Heun's method instead of Euler's")] = False,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Integration steps of the flow")] = 6,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Chunks drawn at once")] = 4,
    output: Annotated[
        Path | None, typer.Option(help="JSON file for every episode; with --memory or --preset the run's folder")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Paired trials of what the memory does, e.g. off,on,blend,guide:50,shuffled+guide,retry; on: what the "
            "graph does (by_cause), or with a bank of --collect, which cannot be asked so, dispatch"
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Paired trials of a question: ablation, controls, online")] = None,
    cases: Annotated[
        list[Path] | None, typer.Option(help="Folder of a bank of cases; repeat, one for each --checkpoint")
    ] = None,
    collect: Annotated[int, typer.Option(min=0, help="First make the bank of so many episodes of each task")] = 0,
    collect_seed: Annotated[int, typer.Option(min=0, help="Seed of the bank's first episode")] = 70_000,
    source: Annotated[
        str,
        typer.Option(
            help="Who corrects failures as a bank is made or grows: expert, later_success, none; or, for memory "
            "consensus and by_cause, takeover and rehearsal, which practise a start that failed"
        ),
    ] = "expert",
    dagger: Annotated[
        list[Path] | None, typer.Option(help="Fine-tuned checkpoint of memory 'dagger'; one for each --checkpoint")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Also run starts that failed in the bank again, with so many noises each; default: as "
            "the preset says, else 0",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the trials in --output")] = False,
) -> None:
    """Run episodes in this machine's simulator without the graph, and print success with Wilson 95 % intervals.

    With --memory or --preset every variant of the memory meets the same starts with the same noise, and the run's
    folder gets trials.jsonl, summary.json, summary.md and report.html.

    A task with a slash is someone else's environment (metaworld/drawer-open-v3, gym/MountainCarContinuous-v0): see
    `external`, which has further options for it.

    [bold]Examples[/bold]

      flow_rag_vla evaluate --task push --episodes 50              the policy alone

      flow_rag_vla evaluate --task push --variant held_out_strip --collect 100 --cases runs/bank --memory off,on,retry

      flow_rag_vla evaluate --preset ablation --task push --cases runs/bank --output runs/ablation
    """
    from flow_rag_vla.evaluate.rollout import RolloutSettings
    from flow_rag_vla.evaluate.trials.plan import words
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.memory.store import StoreError
    from flow_rag_vla.policy.checkpoint import CheckpointError, load_checkpoint
    from flow_rag_vla.policy.encoders import EncoderError
    from flow_rag_vla.sim.scene import VARIANTS

    if any("/" in name for name in words(task)):
        # Someone else's environment: a small policy is trained for it first; `external` has the options of that.
        from flow_rag_vla.cli.external import MEMORY, external

        _check_external(context, next(name for name in words(task) if "/" in name))
        external(
            task=words(task),
            memory=memory or MEMORY,
            episodes=episodes,
            seed=seed,
            repeats=repeats or 0,
            workers=workers,
            output=output or EXTERNAL_FOLDER,
            resume=resume,
        )
        return
    console = Console()
    named = words(variant) or ["plain"]
    scenes = list(VARIANTS) if named == ["all"] else named
    unknown = [name for name in scenes if name not in VARIANTS]
    if unknown:
        console.print(f"[red]unknown variant {unknown[0]!r}; known: {', '.join(VARIANTS)}, all")
        raise typer.Exit(2)
    settings = RolloutSettings(delay_ticks, replan_ticks, "heun" if heun else "euler", steps, samples)
    try:
        tasks = [check_task(name) for name in words(task) or task_names()]
        alone = memory is None and preset is None and not collect
        if alone and checkpoint is not None and len(checkpoint) > 1:
            raise TrialError("several checkpoints are pooled in paired trials only; add --memory off, or give one")
        # Before any process is started: on a busy machine that takes longer than to say what is wrong.
        for one in checkpoint or ():
            load_checkpoint(one)
        asked = Asked(tasks, scenes, checkpoint or (), encoder, settings, episodes, seed, workers)
        if alone:
            if output is not None:
                _check_writable(output)
            _success_table(console, asked, output)
            return
        if resume and output is None:
            raise TrialError("--resume goes on with the trials of a folder: name it with --output")
        folder = output or TRIALS_FOLDER / time.strftime("%Y%m%d-%H%M%S")
        banks = Banks(cases or (), dagger or (), source, folder)
        if collect:
            _collect(console, _specs(asked, banks, collecting=True), collect, collect_seed)
        # After that: the benches are described with what their banks hold now.
        specs = _specs(asked, banks)
        if memory is not None or preset is not None:
            trials = PairedTrials(memory, preset, episodes, seed, repeats, workers, folder, resume)
            code = run_paired(console, specs, trials)
            if code:
                raise typer.Exit(code)
    except (UnknownTaskError, CheckpointError, EncoderError, TrialError, StoreError) as error:
        complain(console, error)
        raise typer.Exit(2) from error


def _check_external(context: typer.Context, task: str) -> None:
    """Refuse what would be left out without a word.

    Raises:
        typer.Exit: if an option was given that only the simulator has.
    """
    for name in SIMULATOR_ONLY:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            said = (
                f"--{name.replace('_', '-')} is for this machine's simulator; leave it out for {task}, which has the "
                "options of `flow_rag_vla external --help`"
            )
            if name == "preset":
                said += "; its controls: --memory retry,blend,shuffled+residual,dagger,residual:5,residual --repeats 1"
            complain(Console(), said)
            raise typer.Exit(2)


def _check_writable(output: Path) -> None:
    """Find out before the episodes, not after them.

    Raises:
        OSError: if no file can be made there.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(output)) from error


def _success_table(console: Console, asked: Asked, output: Path | None) -> None:
    """Success over tasks and scene variants, without a memory."""
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.evaluate.intervals import wilson
    from flow_rag_vla.evaluate.rollout import RolloutResult, rollout_jobs, run_jobs

    results: list[RolloutResult] = []
    jobs = rollout_jobs(
        asked.tasks,
        asked.scenes,
        asked.episodes,
        asked.seed,
        checkpoint=str(asked.checkpoints[0]) if asked.checkpoints else None,
        encoder=asked.encoder,
        settings=asked.settings,
    )
    with progress_display(console) as display:
        bar = StageBars(display).bar("Episodes")
        total = asked.episodes * len(asked.tasks) * len(asked.scenes)
        bar(0, total)
        for batch in run_jobs(jobs, asked.workers):
            results += batch
            done = sum(item.success for item in results)
            bar(len(results), total, f"{done}/{len(results)} succeeded")
    table = Table("task", "variant", "success [95 %]", "seconds", "starved ticks")
    for name in asked.tasks:
        for kind in asked.scenes:
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


def _specs(asked: Asked, banks: Banks, *, collecting: bool = False) -> list[SimulatedSpec]:
    """A bench for each checkpoint, task and scene; as a bank is collected there may be none yet.

    Raises:
        TrialError: if folders are missing, or not one for each checkpoint.
    """
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec

    policies: list[Path | None] = [*asked.checkpoints] or [None]
    for name, given in (("--cases", banks.cases), ("--dagger", banks.dagger)):
        if given and len(given) != len(policies):
            raise TrialError(f"{len(given)} {name} for {len(policies)} checkpoints; give one for each, in their order")
    if collecting and not banks.cases:
        raise TrialError("--collect needs a folder to put the bank into: --cases FOLDER")
    cases: list[Path | None] = [*banks.cases] or [None] * len(policies)
    tuned: list[Path | None] = [*banks.dagger] or [None] * len(policies)
    return [
        simulated_spec(
            task,
            scene,
            checkpoint=policy,
            encoder=asked.encoder,
            settings=asked.settings,
            cases=None if collecting else bank,
            dagger=fine_tuned,
            workspace=bank if collecting else banks.folder / "online",
            source=banks.source,
        )
        for policy, bank, fine_tuned in zip(policies, cases, tuned, strict=True)
        for task in asked.tasks
        for scene in asked.scenes
    ]


def _collect(console: Console, specs: Sequence[SimulatedSpec], episodes: int, seed: int) -> None:
    """A bank for each checkpoint, in the folder that its benches have as their workspace."""
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.evaluate.trials.collection import collect_bank

    with progress_display(console) as display:
        for folder in dict.fromkeys(spec.workspace for spec in specs):
            some = [spec for spec in specs if spec.workspace == folder]
            bar = StageBars(display).bar(f"Bank {Path(str(folder)).name}"[:28])
            failed = 0

            def note(done: int, total: int, result: TrialResult | None, bar: Any = bar) -> None:
                nonlocal failed
                failed += result is not None and not result.success
                bar(done, total, f"{failed} failed")

            collect_bank(str(folder), some, episodes, seed, progress=note)
