# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla chaos``: faults injected into the running graph, and an independent watch on every command."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flow_rag_vla.cli.domain import own_domain
from flow_rag_vla.cli.graph_run import new_run_folder
from flow_rag_vla.cli.known import FAULTS
from flow_rag_vla.cli.saying import complain
from flow_rag_vla.cli.signals import INTERRUPTED, interruptible, uninterrupted
from flow_rag_vla.core.files import write_text

if TYPE_CHECKING:
    from flow_rag_vla.cli.chaos_run import ChaosRun


def complete_kind(incomplete: str) -> list[str]:
    """Kinds of faults for the shell's completion."""
    from flow_rag_vla.evaluate.chaos.plan import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


WORLDS = ("arm", "sim")


def _also(names: list[str]) -> tuple[str, ...]:
    from flow_rag_vla.bringup.chaos_graph import ALSO

    for name in names:
        if name not in (*ALSO, "all"):
            raise typer.BadParameter(f"--with {name}: expected one of {', '.join(ALSO)}, or all")
    # Without a language model every deliberation would be held.
    wanted = set(ALSO) if "all" in names else {*names, *(["llm"] if "deliberation" in names else [])}
    return tuple(name for name in ALSO if name in wanted)


def chaos(
    rounds: int = typer.Option(100, "--rounds", "-n", min=1, help="Faults to inject, one after the other."),
    seed: int = typer.Option(0, min=0, help="Draws the faults; the same seed draws the same ones."),
    minutes: float = typer.Option(0.0, min=0.0, help="Stop after so many minutes, whatever --rounds says; 0: never."),
    only: list[str] = typer.Option(
        [], "--only", help=f"Only this kind of fault: {FAULTS}; repeat it.", autocompletion=complete_kind
    ),
    world: str = typer.Option(
        "arm", help="arm: the mock arm; sim: PyBullet, where the simulator itself is killed and paused."
    ),
    also: list[str] = typer.Option(
        [], "--with", help="Start this node too: llm, deliberation, labeling, dashboard, or all; repeat it."
    ),
    runs: Path = typer.Option(Path("runs"), help="Folder in which the run's own folder is made."),
    json_copy: Path | None = typer.Option(None, "--json", help="Also write the figures to this file."),
) -> None:
    """Inject faults into the whole graph, and check every command that it sends meanwhile.

    Nodes are killed, stopped and restarted; messages delayed, lost, doubled and swapped; the disk is full, the database
    damaged, the clock set, the processors busy, the emergency stop pressed. A process of its own compares every command
    with every limit. Exit code 1 if anything was violated.

    [bold]Examples[/bold]

      flow_rag_vla chaos -n 200 --minutes 10         about ten minutes

      flow_rag_vla chaos -n 1000                     the long run, about half an hour

      flow_rag_vla chaos -n 30 --only kill           every node killed, how long each takes to come back

      flow_rag_vla chaos -n 30 --seed 7              again, with other faults

      flow_rag_vla chaos -n 40 --world sim --with all   in simulation, with every node that a graph can have
    """
    from flow_rag_vla.evaluate.chaos.plan import KINDS

    for kind in only:
        if kind not in KINDS:
            raise typer.BadParameter(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
    if world not in WORLDS:
        raise typer.BadParameter(f"--world {world!r}: expected one of {', '.join(WORLDS)}")
    nodes = _also(also)
    own_domain()
    from flow_rag_vla.cli.chaos_rig import ChaosError
    from flow_rag_vla.cli.chaos_run import ChaosRun
    from flow_rag_vla.evaluate.chaos.report import page, summary

    console = Console(soft_wrap=True)
    folder = new_run_folder(runs)
    console.print(f"run [bold]{folder}[/bold]")
    started = datetime.now().astimezone()
    content, code = None, 0
    try:
        with console.status("starting the graph"):
            run = ChaosRun(folder, seed, simulated=world == "sim", also=nodes)
            with interruptible():
                run.__enter__()
        try:
            console.print(f"graph up: first command after {run.rig.first_command_s:.1f} s")
            try:
                with interruptible():
                    _inject(console, run, seed, rounds, tuple(only), minutes)
            except KeyboardInterrupt:
                console.print("stopping; the report covers the rounds so far")
                code = INTERRUPTED
            except ChaosError as error:
                complain(console, f"the graph ended: {error}")
                run.rounds[-1].problems.append(("graph ended", str(error)))
            content = run.finish()
        finally:
            with uninterrupted():
                run.__exit__(None, None, None)
    except KeyboardInterrupt:
        console.print("stopped before the first fault")
        raise typer.Exit(INTERRUPTED) from None
    except ChaosError as error:
        complain(console, error)
        raise typer.Exit(1) from None
    content["about"] = {
        "command": " ".join(["flow_rag_vla", *sys.argv[1:]]),
        "seed": seed,
        "started": started.isoformat(timespec="seconds"),
        "minutes": (datetime.now().astimezone() - started).total_seconds() / 60.0,
    }
    text = json.dumps(content, indent=1)
    write_text(folder / "chaos.json", text)
    write_text(folder / "chaos.html", page(content))
    if json_copy is not None:
        write_text(json_copy, text)
    for line in summary(content):
        console.print(line, highlight=False)
    for item in content["violations"][:20]:
        said = f"round {item['round']}: {item['kind']}: {item['text']}"
        complain(console, said)
        code = 1
    console.print(f"report: {folder / 'chaos.html'}", highlight=False)
    raise typer.Exit(code)


def _inject(console: Console, run: ChaosRun, seed: int, rounds: int, only: tuple[str, ...], minutes: float) -> None:
    limit = time.monotonic() + 60.0 * minutes if minutes else float("inf")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=rounds)
        for fault in run.rig.plan(seed, rounds, only):
            if time.monotonic() > limit:
                return
            progress.update(bar, description=fault.text)
            done = run.inject(fault)
            progress.advance(bar)
            for _, text in done.problems:
                said = f"round {done.number}, {fault.text}: {text}"
                complain(console, said)
