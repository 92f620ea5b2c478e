"""``flow_rag_vla evaluate``: closed-loop episodes of a checkpoint, with intervals; paired trials of the memory."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from flow_rag_vla.cli.saying import complain
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import UnknownTaskError, check_task, task_names

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.rollout import RolloutSettings
    from flow_rag_vla.evaluate.trials.analysis import Summary
    from flow_rag_vla.evaluate.trials.protocol import TrialResult
    from flow_rag_vla.evaluate.trials.runner import Broken
    from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec

TRIALS_FOLDER = Path("runs/trials")
BROKEN_SHOWN = 5
"""Trials that broke which are named; a wrong folder breaks all of them alike."""
EXTERNAL_FOLDER = Path("runs/external_trials")


def evaluate(
    task: Annotated[list[str] | None, typer.Option(help="Task; repeat, or list with commas; default: all")] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Scene variant; repeat, or list with commas; all: every one")
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
        typer.Option(help="Paired trials of what the memory does, e.g. off,on,blend,guide:50,shuffled+guide,retry"),
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
            help="Who corrects failures as a bank is made or grows: expert, later_success, none; or, with memory "
            "consensus, takeover and rehearsal, which practise a start that failed"
        ),
    ] = "expert",
    dagger: Annotated[
        list[Path] | None, typer.Option(help="Fine-tuned checkpoint of memory 'dagger'; one for each --checkpoint")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=0, help="Also run starts that failed in the bank again, with so many noises each")
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
    asked = words(variant) or ["plain"]
    scenes = list(VARIANTS) if asked == ["all"] else asked
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
        if alone:
            _success_table(
                console, tasks, scenes, episodes, seed, workers, checkpoint[0] if checkpoint else None, encoder,
                settings, output,
            )  # fmt: skip
            return
        if resume and output is None:
            raise TrialError("--resume goes on with the trials of a folder: name it with --output")
        folder = output or TRIALS_FOLDER / time.strftime("%Y%m%d-%H%M%S")
        specs = _specs(tasks, scenes, checkpoint, encoder, settings, cases, dagger, folder, source, collect)
        if collect:
            _collect(console, specs, collect, collect_seed)
            # Again: the benches are described with what their banks hold now.
            specs = _specs(tasks, scenes, checkpoint, encoder, settings, cases, dagger, folder, source, 0)
        if memory is not None or preset is not None:
            _paired(console, specs, memory, preset, episodes, seed, repeats, workers, folder, resume)
    except (UnknownTaskError, CheckpointError, EncoderError, TrialError, StoreError) as error:
        complain(console, error)
        raise typer.Exit(2) from error


def _success_table(
    console: Console,
    tasks: Sequence[str],
    scenes: Sequence[str],
    episodes: int,
    seed: int,
    workers: int,
    checkpoint: Path | None,
    encoder: str,
    settings: RolloutSettings,
    output: Path | None,
) -> None:
    """Success over tasks and scene variants, without a memory."""
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.evaluate.intervals import wilson
    from flow_rag_vla.evaluate.rollout import RolloutResult, rollout_jobs, run_jobs

    results: list[RolloutResult] = []
    jobs = rollout_jobs(
        tasks,
        scenes,
        episodes,
        seed,
        checkpoint=None if checkpoint is None else str(checkpoint),
        encoder=encoder,
        settings=settings,
    )
    with progress_display(console) as display:
        bar = StageBars(display).bar("Episodes")
        total = episodes * len(tasks) * len(scenes)
        bar(0, total)
        for batch in run_jobs(jobs, workers):
            results += batch
            done = sum(item.success for item in results)
            bar(len(results), total, f"{done}/{len(results)} succeeded")
    table = Table("task", "variant", "success [95 %]", "seconds", "starved ticks")
    for name in tasks:
        for kind in scenes:
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


def _specs(
    tasks: Sequence[str],
    scenes: Sequence[str],
    checkpoints: Sequence[Path] | None,
    encoder: str,
    settings: RolloutSettings,
    cases: Sequence[Path] | None,
    dagger: Sequence[Path] | None,
    folder: Path,
    source: str,
    collect: int,
) -> list[SimulatedSpec]:
    """A bench for each checkpoint, task and scene."""
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec

    policies: list[Path | None] = [*checkpoints] if checkpoints else [None]
    for name, given in (("--cases", cases), ("--dagger", dagger)):
        if given and len(given) != len(policies):
            raise TrialError(f"{len(given)} {name} for {len(policies)} checkpoints; give one for each, in their order")
    if collect and not cases:
        raise TrialError("--collect needs a folder to put the bank into: --cases FOLDER")
    # As a bank is collected there may be none yet.
    banks: list[Path | None] = [*cases] if cases and not collect else [None] * len(policies)
    tuned: list[Path | None] = [*dagger] if dagger else [None] * len(policies)
    return [
        simulated_spec(
            task,
            scene,
            checkpoint=policy,
            encoder=encoder,
            settings=settings,
            cases=bank,
            dagger=other,
            workspace=(cases[place] if cases else folder) if collect else folder / "online",
            source=source,
        )
        for place, (policy, bank, other) in enumerate(zip(policies, banks, tuned, strict=True))
        for task in tasks
        for scene in scenes
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


def _paired(
    console: Console,
    specs: Sequence[SimulatedSpec],
    memory: str | None,
    preset: str | None,
    episodes: int,
    seed: int,
    repeats: int | None,
    workers: int,
    folder: Path,
    resume: bool,
) -> None:
    """Paired trials into a folder, with the table of what they show."""
    from flow_rag_vla import __version__
    from flow_rag_vla.evaluate.trials.plan import make_plan
    from flow_rag_vla.evaluate.trials.plan import preset as find_preset
    from flow_rag_vla.evaluate.trials.session import REPORT, TABLES, run_plan
    from flow_rag_vla.evaluate.trials.variants import DEFAULT_METHOD, parse_all

    about: dict[str, Any] = {
        "command": " ".join(["flow_rag_vla", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "version": __version__,
        "episodes": episodes,
        "first_seed": seed,
    }
    if preset is None:
        variants, again, online = parse_all(memory or ""), repeats or 0, False
    else:
        found = find_preset(
            preset,
            memory or DEFAULT_METHOD,
            dagger=any(spec.dagger for spec in specs),
            bank_episodes=min(spec.bank_episodes for spec in specs),
        )
        variants, online = found.variants, found.online
        again = found.repeats if repeats is None else repeats
        about |= {"preset": f"{found.name}: {found.description}", "labels": dict(found.labels)}
        if online:
            about["corrections"] = ", ".join(dict.fromkeys(spec.source for spec in specs))
    plan = make_plan(specs, variants, episodes=episodes, first_seed=seed, repeats=again, online=online)
    try:
        with _trials_display(console) as display:
            summary = run_plan(plan, folder, workers=workers, resume=resume, about=about, progress=_Tally(display).note)
    except KeyboardInterrupt:
        console.print(f"stopped; what was done is in {folder}: go on with --resume", highlight=False)
        raise typer.Exit(130) from None
    _print_summary(console, summary)
    for line in summary.broken[:BROKEN_SHOWN]:
        console.print(f"[red]broken: {line}")
    if len(summary.broken) > BROKEN_SHOWN:
        console.print(f"[red]and {len(summary.broken) - BROKEN_SHOWN} more; all are in {folder / TABLES}")
    console.print(f"report: {folder / REPORT}", highlight=False)
    if summary.broken:
        raise typer.Exit(1)


def _trials_display(console: Console) -> Progress:
    from flow_rag_vla.cli.progress import progress_display

    return progress_display(console)


class _Tally:
    """The progress bar of paired trials: success so far of each variant."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._task = display.add_task("Trials", total=None, note="")
        self._done: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def note(self, done: int, total: int, outcome: TrialResult | Broken | None) -> None:
        """Report progress."""
        success = getattr(outcome, "success", None)
        if outcome is not None and success is not None:
            self._done[outcome.trial.variant] += success
            self._all[outcome.trial.variant] += 1
        shares = (f"{name} {self._done[name]}/{count}" for name, count in self._all.items())
        self._display.update(self._task, completed=done, total=total, note="  ".join(shares))


def _print_summary(console: Console, summary: Summary) -> None:
    from flow_rag_vla.evaluate.trials.analysis import plain
    from flow_rag_vla.evaluate.trials.tables import against, group_title, label, p_value, points, share

    content = plain(summary)
    for group in content["groups"]:
        table = Table("memory", "success [95 %]", "lift, points [95 %]", "p", "fixed / broken", "events an episode")
        for item in group["variants"]:
            found = against(item, "off")
            cells = ["", "", ""]
            if found is not None:
                pairs = found["pairs"]
                cells = [points(found["difference"]), p_value(found["p"]), f"{pairs['fixed']} / {pairs['broken']}"]
            name = label(item["variant"], content["about"])
            table.add_row(name, share(item["success"]), *cells, f"{item['events_per_episode']:.2f}")
        console.print(f"{group_title(group)} ({group['starts']} starts)", highlight=False)
        console.print(table)
