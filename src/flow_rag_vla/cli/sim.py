# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla sim``: the whole graph in simulation, episodes, and a report of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flow_rag_vla.cli.graph_options import (
    ALSO,
    CORRECTOR,
    LIVE,
    LIVE_PORT,
    PARAMS_FILE,
    POLICY_PRESET,
    POLICY_PROFILE,
    POLICY_SERVER,
    also_started,
)
from flow_rag_vla.cli.graph_run import GraphEnded, GraphRun, graph_run, new_run_folder
from flow_rag_vla.cli.known import SCENE, SEVERITIES, TASKS
from flow_rag_vla.cli.saying import warn
from flow_rag_vla.cli.signals import INTERRUPTED
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import GOALS, UnknownTaskError, check_task, task_names

if TYPE_CHECKING:
    from flow_rag_vla.bringup.graph import Process
    from flow_rag_vla.nodes.operator import GraphView, Operator, TaskResult

WAITING_S = 0.2
"""How often the processes are looked after while others start the episodes."""


def complete_task(incomplete: str) -> list[str]:
    """Task names for the shell's completion."""
    return [name for name in (*task_names(), "all") if name.startswith(incomplete)]


def complete_variant(incomplete: str) -> list[str]:
    """Scene variants for the shell's completion."""
    from flow_rag_vla.sim.scene import VARIANTS

    return [name for name in VARIANTS if name.startswith(incomplete)]


def check_variant(variant: str) -> None:
    """Refuse a scene variant that is not declared, before anything is started.

    Raises:
        typer.BadParameter: naming the known ones.
    """
    from flow_rag_vla.sim.scene import VARIANTS

    if variant not in VARIANTS:
        raise typer.BadParameter(f"--variant {variant!r} is not known; known: {', '.join(VARIANTS)}")


def sim(
    task: list[str] = typer.Option(
        ["pick_and_place"],
        "--task",
        "-t",
        help=f"Task to do: {TASKS}; repeat it, or say 'all'.",
        autocompletion=complete_task,
    ),
    instruction: str = typer.Option("", "--instruction", "-i", help="The goal in words, instead of --task."),
    variant: str = typer.Option("plain", help=f"{SCENE}.", autocompletion=complete_variant),
    episodes: int = typer.Option(6, "--episodes", "-n", min=1, help="Episodes to do, tasks in turn."),
    duration: float = typer.Option(0.0, min=0.0, help="Start episodes for so many seconds, instead of --episodes."),
    seed: int = typer.Option(100_000, min=0, help="Seed of the first episode; the next ones count up."),
    gui: bool = typer.Option(False, "--gui", help="Open PyBullet's window (needs a screen)."),
    corrector: str = CORRECTOR,
    memory: str = typer.Option(
        "", help="Failure memory to use and extend, a database or its folder; empty: a new one."
    ),
    encoder: str = typer.Option("compact", help="Vision backbone: compact, dinov2, mobilenet, a folder or a hub id."),
    checkpoint: str = typer.Option("", help="Folder of the policy checkpoint; empty: the one that ships."),
    policy_server: str = POLICY_SERVER,
    policy_preset: str = POLICY_PRESET,
    policy_profile: str = POLICY_PROFILE,
    also: list[str] = ALSO,
    params_file: str = PARAMS_FILE,
    namespace: str = typer.Option("", help="Namespace of the graph; two can run side by side."),
    log_level: str = typer.Option("info", help=f"Severity from which nodes log: {SEVERITIES}."),
    runs: Path = typer.Option(Path("runs"), help="Folder in which the run's own folder is made."),
    record: bool = typer.Option(True, help="Write an MCAP bag of all topics."),
    report: bool = typer.Option(True, help="Make the report page and the animated picture at the end."),
    live: bool = LIVE,
    live_port: int = LIVE_PORT,
    wait: bool = typer.Option(False, "--wait", help="Start no episodes: leave that to the live page or others."),
) -> None:
    """Run the whole graph in PyBullet: each node its own process, episodes one after the other.

    [bold]Examples[/bold]

      flow_rag_vla sim                                   six pick-and-place episodes

      flow_rag_vla sim -t all -n 20                      every task in turn

      flow_rag_vla sim -i "stack the red cube on the blue box"

      flow_rag_vla sim --variant friction --memory lab.db   a hard variant, with a memory that lasts

      flow_rag_vla sim --policy-server ws://10.0.0.5:8000 --policy-preset my.yaml   a policy on another machine

      flow_rag_vla sim --live --wait                     the graph and its live page; tasks are given there

      flow_rag_vla sim --live --wait --with deliberation   the same; words are read by llm, plans checked first
    """
    # Lines are left to the terminal to wrap: in a log file a line is a line.
    console = Console(soft_wrap=True)
    try:
        started_too = also_started(also)
        tasks = _tasks(task, instruction, "llm" in started_too)
    except UnknownTaskError as error:
        raise typer.BadParameter(str(error)) from None
    check_variant(variant)
    from flow_rag_vla.bringup.graph import GraphError, memory_database, sim_graph
    from flow_rag_vla.bringup.resources import default_params_file

    arguments = {
        "namespace": namespace,
        "params_file": params_file,
        "log_level": log_level,
        "gui": "true" if gui else "false",
        "encoder": encoder,
        "checkpoint": checkpoint,
        "corrector": corrector,
        "memory": memory,
        "policy_server": policy_server,
        "policy_preset": policy_preset,
        "policy_profile": policy_profile,
        "record": "true" if record else "false",
        "dashboard": "true" if live else "false",
        **started_too,
    }
    try:
        # First without the folder: a wrong argument leaves none behind.
        sim_graph(arguments, default_params_file())
        folder = new_run_folder(runs)
        processes = sim_graph(arguments | {"run_folder": str(folder)}, default_params_file())
    except GraphError as error:
        raise typer.BadParameter(str(error)) from None
    if live:
        from flow_rag_vla.cli.live import with_page

        processes = with_page(console, processes, folder, live_port)
    plan = Plan(tasks, instruction, variant, episodes, duration, seed, wait)
    write_text(
        folder / "run.json",
        json.dumps(
            {
                "command": ["flow_rag_vla", *sys.argv[1:]],
                "started": datetime.now().astimezone().isoformat(timespec="seconds"),
                "tasks": [name for name in tasks if name],
                "variant": variant,
                "episodes": episodes,
                "duration": duration,
                "seed": seed,
                "corrector": corrector,
                "params_file": processes[0].params_file,
                "parameters": {process.spec.name: process.overrides for process in processes},
            },
            indent=2,
        ),
    )
    if memory and record:
        _keep_memory(console, memory_database(memory), folder)
    code = _run(console, folder, processes, plan, namespace)
    if report and not _report(console, folder):
        code = code or INTERRUPTED
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    tasks: tuple[str, ...]
    instruction: str
    variant: str
    episodes: int
    duration_s: float
    seed: int
    waits: bool = False
    """Whether others start the episodes."""

    def goes_on(self, done: int, elapsed_s: float) -> bool:
        """Whether another episode is to be started."""
        return elapsed_s < self.duration_s if self.duration_s else done < self.episodes

    def number(self, count: int) -> str:
        """An episode's number, out of how many if that is known."""
        return str(count) if self.duration_s else f"{count}/{self.episodes}"


@dataclass
class Progress:
    """What was done so far, and what the live line shows of it."""

    plan: Plan
    done: int = 0
    succeeded: int = 0
    failures: int = 0
    results: list[TaskResult] = field(default_factory=list)

    def line(self, view: GraphView) -> Text:
        """The live line."""
        rate = f"{view.rate_hz:5.2f} Hz" if view.rate_hz else "   -   "
        success = f"{self.succeeded}/{self.done}" if self.done else "-"
        parts = [
            ("episode ", "dim"), (self.plan.number(self.done + 1), "bold"),
            ("  task ", "dim"), (view.task or "-", "cyan"),
            ("  phase ", "dim"), (f"{view.phase:<9}", "cyan"), (f"{view.elapsed:5.1f} s", ""),
            ("  loop ", "dim"), (rate, "green" if abs(view.rate_hz - 40.0) < 0.5 else "yellow"),
            ("  late ", "dim"), (str(view.late_ticks), "green" if view.late_ticks == 0 else "yellow"),
            ("  failures ", "dim"), (str(view.failures), "red" if view.failures else "green"),
            ("  memory ", "dim"), (str(view.memory_cases), "magenta"),
            ("  success ", "dim"), (success, "bold green" if self.done and self.succeeded == self.done else "bold"),
        ]  # fmt: skip
        return Text.assemble(*parts)


def _keep_memory(console: Console, memory: str, folder: Path) -> None:
    """Keep what the memory knew at the start: `flow_rag_vla replay --memory on` begins from there."""
    from flow_rag_vla.evaluate.decisions.variants import keep_snapshot
    from flow_rag_vla.memory.store import StoreError

    try:
        keep_snapshot(memory, folder)
    except StoreError as error:
        warn(console, f"the memory before this run is not kept: {error}")


def _tasks(tasks: Sequence[str], instruction: str, language_model: bool) -> tuple[str, ...]:
    """Tasks to do in turn; an empty one where what the instruction means is for the graph's language model to say.

    Raises:
        UnknownTaskError: for an unknown task, or words in which the graph's grammar finds no single task.
    """
    if instruction:
        known = {goal.instruction: goal.task for goal in GOALS}
        if language_model or instruction in known:
            return (known.get(instruction, ""),)
        from flow_rag_vla.llm.task_language.reader import read_command

        plan = read_command(instruction)
        if not plan.accepted:
            raise UnknownTaskError(
                f"instruction {instruction!r:.200} is refused ({plan.refusal}): {plan.reason}; known: "
                f"{'; '.join(known)}; --with llm has a language model read it"
            )
        if len(plan.steps) > 1:
            raise UnknownTaskError(
                f"instruction {instruction!r:.200} is {len(plan.steps)} tasks; flow_rag_vla ask --run does them in turn"
            )
        return (plan.steps[0].task,)
    if "all" in tasks:
        return task_names()
    return tuple(check_task(name) for name in tasks)


def _run(console: Console, folder: Path, processes: Sequence[Process], plan: Plan, namespace: str) -> int:
    from flow_rag_vla.nodes.operator import Operator

    progress = Progress(plan)
    console.print(f"run [bold]{folder}[/bold]")
    started = time.monotonic()
    with graph_run(console, processes, folder / "log", until_interrupted=plan.waits) as graph:
        graph.start()
        with Operator(namespace) as operator:
            with console.status(f"starting {len(processes)} nodes"):
                graph.wait_until_up(operator)
            console.print(f"graph up after {time.monotonic() - started:.1f} s")
            if plan.waits:
                console.print("waiting for tasks; Ctrl-C ends the graph")
            while plan.waits:
                graph.check()
                time.sleep(WAITING_S)
            _episodes(console, operator, graph, plan, progress)
    _summary(console, progress)
    return graph.code


def _episodes(console: Console, operator: Operator, graph: GraphRun, plan: Plan, progress: Progress) -> None:
    from flow_rag_vla_interfaces.action import ExecuteTask

    with Live(
        console=console, refresh_per_second=8, transient=True, get_renderable=lambda: progress.line(operator.view)
    ):
        started = time.monotonic()
        while plan.goes_on(progress.done, time.monotonic() - started):
            task = plan.tasks[progress.done % len(plan.tasks)]
            goal = ExecuteTask.Goal(
                task=task, instruction=plan.instruction, variant=plan.variant, seed=plan.seed + progress.done
            )
            result = operator.execute(goal, graph.check)
            progress.results.append(result)
            progress.done += 1
            progress.succeeded += result.success
            mark = "[green]✓[/green]" if result.success else "[red]✗[/red]"
            memory = f", {_counted(result.corrections, 'chunk')} shaped by memory" if result.corrections else ""
            failures = f", {_counted(result.failures, 'failure')}" if result.failures else ""
            console.print(
                f"{mark} episode {plan.number(progress.done)}  {task or escape(plan.instruction)}  seed {goal.seed}"
                f"  {result.outcome}  {result.duration:.1f} s{failures}{memory}"
                + ("" if result.success else f"  [dim]{escape(result.reason)}[/dim]")
            )
            if result.outcome == "aborted":
                # An emergency stop, or a graph that cannot do what is asked: the next episode would end the same way.
                raise GraphEnded(f"episode {result.episode_id} was aborted: {result.reason}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _summary(console: Console, progress: Progress) -> None:
    if not progress.done:
        return
    table = Table("episodes", "succeeded", "mean duration", "failures", "chunks shaped by memory")
    table.add_row(
        str(progress.done),
        str(progress.succeeded),
        f"{sum(result.duration for result in progress.results) / progress.done:.1f} s",
        str(sum(result.failures for result in progress.results)),
        str(sum(result.corrections for result in progress.results)),
    )
    console.print(table)


def _report(console: Console, folder: Path) -> bool:
    """Make the report page and the animated picture; False if Ctrl-C ended that."""
    from flow_rag_vla.evaluate.report import make_report

    try:
        with console.status("making the report"):
            made = make_report(folder)
    except KeyboardInterrupt:
        console.print(f"report left out; make it with: flow_rag_vla report {folder}")
        return False
    for path in made:
        console.print(f"[bold]{path}[/bold]")
    return True
