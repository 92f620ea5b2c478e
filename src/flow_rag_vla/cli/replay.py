# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla replay``: a bag into the live graph, or its decisions made again and compared."""

from __future__ import annotations

import os
import select
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.graph_options import CORRECTOR, LIVE, LIVE_PORT, PARAMS_FILE, POLICY_PRESET, POLICY_PROFILE
from flow_rag_vla.cli.live import with_page
from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import INTERRUPTED, interruptible, uninterrupted

if TYPE_CHECKING:
    from flow_rag_vla.bringup.graph import Process
    from flow_rag_vla.nodes.player_control import PlayerControl

KEYS = "space: pause or go on   s: one step   + -: faster, slower   q: end"


def replay(
    bag: Path = typer.Argument(..., help="Bag folder, run folder, .mcap or .db3 file."),
    memory: str = typer.Option(
        "",
        "--memory",
        "-m",
        help="Make the decisions again without ROS, with each of these memories, and compare: off, on, recorded, "
        "empty, or the path of a database; separated by commas.",
    ),
    graph: bool = typer.Option(False, "--graph", help="Start the whole graph around the bag, not the player alone."),
    remake: str = typer.Option("", help="With --graph: what is made anew; empty: everything, see docs/replay.md."),
    mute: list[str] = typer.Option([], "--mute", help="Topic or group that is not played; may be repeated."),
    topic: list[str] = typer.Option([], "--topic", help="Play only this topic; may be repeated."),
    remap: list[str] = typer.Option([], "--remap", help="old:=new; may be repeated."),
    rate: float = typer.Option(1.0, min=0.01, max=100.0, help="Speed of the bag's time."),
    start: float = typer.Option(0.0, min=0.0, help="Where to begin, seconds from the first message."),
    duration: float = typer.Option(0.0, min=0.0, help="How much to play, seconds; 0: to the end."),
    loop: bool = typer.Option(False, "--loop", help="Begin again at the end."),
    paused: bool = typer.Option(False, "--paused", help="Begin paused."),
    database: str = typer.Option("", help="With --graph: failure memory to use and extend; empty: a new one."),
    corrector: str = CORRECTOR,
    checkpoint: str = typer.Option("", help="Policy checkpoint; empty: the one that the bag names, or that ships."),
    seed: int = typer.Option(-1, help="With --memory: base of the noise seeds; -1: the noise that was recorded."),
    namespace: str = typer.Option("", help="Namespace of the graph."),
    policy_server: str = typer.Option(
        "", help="With --graph: policy server of openpi's protocol in the flow policy's place, as ws://host:8000."
    ),
    policy_preset: str = POLICY_PRESET,
    policy_profile: str = POLICY_PROFILE,
    params_file: str = PARAMS_FILE,
    runs: Path = typer.Option(Path("runs"), help="With --graph: folder in which the run's own folder is made."),
    record: bool = typer.Option(True, help="With --graph: write an MCAP bag of the replay."),
    live: bool = LIVE,
    live_port: int = LIVE_PORT,
    html: Path | None = typer.Option(None, "--html", help="With --memory: write the comparison as a page."),
    output: Path | None = typer.Option(None, "--json", help="With --memory: write the comparison as JSON."),
) -> None:
    """Play a bag into the live graph, or make its decisions again.

    [bold]Examples[/bold]

      flow_rag_vla replay runs/DAY/bag                        its topics and its clock, into whatever listens

      flow_rag_vla replay runs/DAY/bag --mute command         commands are left to the controller that runs

      flow_rag_vla replay --graph runs/DAY --rate 2           player, encoder, policy, memory, detector, controller

      flow_rag_vla replay --graph runs/DAY --live             the same, with the live page

      flow_rag_vla replay --memory off,on runs/DAY --html d.html   two variants, tick by tick

      flow_rag_vla replay --memory recorded runs/DAY          one variant against what was decided live
    """
    console = Console(soft_wrap=True, highlight=False)
    if memory:
        from flow_rag_vla.cli.replay_decisions import replay_decisions

        replay_decisions(
            console, bag, memory, checkpoint=checkpoint, seed=seed, namespace=namespace, html=html, output=output
        )
        return
    arguments = {
        "bag": str(bag),
        "rate": str(rate),
        "start": str(start),
        "duration": str(duration),
        "loop": "true" if loop else "false",
        "paused": "true" if paused else "false",
        "topics": ",".join(topic),
        "mute": ",".join(mute),
        "remap": ",".join(remap),
        "namespace": namespace,
        "params_file": params_file,
        "checkpoint": checkpoint,
        "corrector": corrector,
        "memory": database,
        "policy_server": policy_server,
        "policy_preset": policy_preset,
        "policy_profile": policy_profile,
        "record": "true" if record else "false",
        "dashboard": "true" if live else "false",
    }
    if not graph:
        arguments |= {"remake": "none"}
    elif remake:
        arguments |= {"remake": remake}
    raise typer.Exit(_play(console, arguments, runs if graph else None, rate, live_port))


def _play(console: Console, arguments: dict[str, str], runs: Path | None, rate: float, live_port: int) -> int:
    from flow_rag_vla.bringup.graph import GraphError
    from flow_rag_vla.bringup.replay_graph import replay_graph
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.cli.graph_run import new_run_folder

    folder = None
    if runs is not None:
        found = runs.exists()
        folder = new_run_folder(runs)
        arguments = {**arguments, "run_folder": str(folder)}
    try:
        processes = replay_graph(arguments, default_params_file())
    except GraphError as error:
        if runs is not None and folder is not None:
            # What makes no sense leaves nothing behind.
            folder.rmdir()
            if not found:
                runs.rmdir()
        raise typer.BadParameter(str(error)) from None
    if folder is not None:
        console.print(f"run [bold]{folder}[/bold]")
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_replay_") as temporary:
        if arguments["dashboard"] == "true":
            processes = with_page(console, processes, folder or Path(temporary), live_port)
        logs = folder / "log" if folder is not None else Path(temporary)
        code = _supervise(console, processes, logs, arguments["namespace"], rate, arguments["paused"] == "true")
    # A bag that is played again and again ends when a person ends it.
    return 0 if code == INTERRUPTED and arguments["loop"] == "true" else code


def _supervise(
    console: Console, processes: tuple[Process, ...], logs: Path, namespace: str, rate: float, paused: bool
) -> int:
    from flow_rag_vla.bringup.supervisor import Supervisor, last_line
    from flow_rag_vla.nodes.player_control import PlayerControl

    supervisor = Supervisor(processes, logs, lambda sentence: warn(console, sentence))
    log, told, code = logs / "bag_player.log", set[str](), 0
    try:
        supervisor.start()
        with interruptible(), PlayerControl(namespace, rate) as control, _keys() as keyboard:
            control.paused = paused
            if keyboard:
                console.print(KEYS)
            while True:
                # Asked before the look at all of them, which then says how it ended.
                ended = supervisor.pid("bag_player") is None
                reason = supervisor.poll()
                if reason is not None and not reason.startswith("bag_player ended with code 0"):
                    complain(console, reason.replace("bag_player: ", "", 1))
                    code = 1
                    break
                if ended or (keyboard and not _handle_key(console, control)):
                    break
                _tell(console, log, told)
                time.sleep(0.05)
        _tell(console, log, told)
        if code == 0:
            console.print(last_line(log).split(": ", 1)[-1], markup=False)
    except KeyboardInterrupt:
        console.print("stopping")
        code = INTERRUPTED
    finally:
        with uninterrupted():
            killed = supervisor.stop()
    if killed:
        console.print(f"[red]had to be killed: {', '.join(killed)}[/red]")
        code = 1
    return code


def _tell(console: Console, log: Path, told: set[str]) -> None:
    """Print what the player warned of, each line once, and none before it is whole."""
    for line in log.read_text(errors="replace").split("\n")[:-1] if log.exists() else ():
        if line not in told and ("[WARN]" in line or "[ERROR]" in line):
            told.add(line)
            warn(console, line.split(": ", 1)[-1])


@contextmanager
def _keys() -> Iterator[bool]:
    """Single keys without Enter, if a person sits at a terminal."""
    if not sys.stdin.isatty() or os.name != "posix":
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin.fileno())
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _handle_key(console: Console, control: PlayerControl) -> bool:
    """Do what a key asks for; False to end."""
    while select.select([sys.stdin], [], [], 0.0)[0]:
        key = os.read(sys.stdin.fileno(), 1).decode(errors="ignore")
        if key in ("q", ""):
            return False
        if key == " ":
            console.print(control.toggle())
        elif key == "s":
            console.print(control.step())
        elif key in "+-":
            console.print(control.change_rate(1.25 if key == "+" else 0.8))
    return True
