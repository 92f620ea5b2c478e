# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla record``: any running graph into a bag."""

from __future__ import annotations

import signal
import tempfile
import time
from datetime import datetime
from pathlib import Path

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import INTERRUPTED


def record(
    bag: Path = typer.Argument(None, help="Folder of the bag; empty: bags/<date and time>."),
    profile: str = typer.Option("graph", help="graph, control, perception or everything."),
    topic: list[str] = typer.Option([], "--topic", help="A further topic; may be repeated."),
    exclude: list[str] = typer.Option([], "--exclude", help="A topic that is left out; may be repeated."),
    split_size: float = typer.Option(0.0, min=0.0, help="MB from which on another file is begun; 0: one file."),
    split_time: float = typer.Option(0.0, min=0.0, help="Seconds after which another file is begun; 0: one file."),
    compress: bool = typer.Option(True, help="Compress with zstd."),
    duration: float = typer.Option(0.0, min=0.0, help="Seconds to record; 0: until Ctrl-C."),
    namespace: str = typer.Option("", help="Namespace of the graph."),
    params_file: str = typer.Option("", help="YAML file of parameters; empty: config/flow_rag_vla.yaml."),
) -> None:
    """Record a running graph with its parameters. Ctrl-C closes the bag; a kill loses at most the last second.

    [bold]Examples[/bold]

      flow_rag_vla record                                      every topic of the graph

      flow_rag_vla record lab --profile control --split-size 500

      flow_rag_vla record --profile perception --duration 60
    """
    console = Console(soft_wrap=True, highlight=False)
    from flow_rag_vla.bringup.graph import Parameters, Process, node_spec
    from flow_rag_vla.bringup.profiles import PROFILES
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.bringup.supervisor import Supervisor

    if profile not in PROFILES:
        raise typer.BadParameter(f"profile {profile!r} is not one of {', '.join(PROFILES)}")
    if params_file and not Path(params_file).is_file():
        raise typer.BadParameter(f"params_file {params_file!r} does not exist")
    folder = bag if bag is not None else Path("bags") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    overrides: Parameters = {
        "bag": str(folder.expanduser().absolute()),
        "profile": profile,
        "split_size": split_size,
        "split_duration": split_time,
        "compress": compress,
    }
    # An empty list has no type in YAML.
    overrides |= {name: list(found) for name, found in (("topics", topic), ("exclude", exclude)) if found}
    parameters = params_file or str(default_params_file())
    process = Process(node_spec("recorder"), namespace, parameters, overrides, "info")
    code = 0
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_record_") as logs:
        supervisor = Supervisor([process], Path(logs), lambda sentence: warn(console, sentence))
        log, said = Path(logs) / "recorder.log", set[str]()

        def interrupt(_number: int, _frame: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            supervisor.start()
            console.print(f"recording {profile} into [bold]{folder}[/bold]; Ctrl-C ends")
            started = time.monotonic()
            while not duration or time.monotonic() - started < duration:
                _tell(console, log, said)
                reason = supervisor.poll()
                if reason is not None:
                    complain(console, reason)
                    code = 1
                    break
                time.sleep(0.1)
        except KeyboardInterrupt:
            # Without --duration that is how a recording ends.
            code = INTERRUPTED if duration else 0
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            killed = supervisor.stop()
            signal.signal(signal.SIGTERM, before)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _tell(console, log, said, "dropped")
    if killed:
        console.print("[red]the recorder had to be killed; the bag is read by scanning[/red]")
        code = 1
    raise typer.Exit(code)


def _tell(console: Console, log: Path, said: set[str], *words: str) -> None:
    """Print the recorder's warnings, and lines with one of these words, each once."""
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        if line not in said and any(word in line for word in ("[WARN]", "[ERROR]", *words)):
            said.add(line)
            console.print(line.split("]: ", 1)[-1], markup=False)
