# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla soak``: the whole graph for hours, and what each process holds meanwhile."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flow_rag_vla.cli.domain import own_domain
from flow_rag_vla.cli.graph_run import GraphRun, graph_run, new_run_folder
from flow_rag_vla.core.files import write_text

if TYPE_CHECKING:
    from flow_rag_vla.nodes.chaos_client import ChaosClient

_SAMPLES = 2000
"""At most so many of each process, however long the run is."""


def soak(
    hours: float = typer.Option(0.0, "--hours", min=0.0, help="How long, in hours; adds up with --minutes."),
    minutes: float = typer.Option(
        0.0, "--minutes", "-m", min=0.0, help="How long, in minutes; 10 if neither is given."
    ),
    period: float = typer.Option(1.0, min=0.2, help="Seconds between two samples; more if there would be too many."),
    words: bool = typer.Option(
        False, "--words", help="Also start the nodes llm and deliberation, and ask them a command every 2 seconds."
    ),
    runs: Path = typer.Option(Path("runs"), help="Folder in which the run's own folder is made."),
    json_copy: Path | None = typer.Option(None, "--json", help="Also write the figures to this file."),
) -> None:
    """Run the whole graph on the mock arm, an episode all the while, and see whether anything grows.

    Memory, threads, open descriptors and processor time of every node, and the loop's latency, go into a page with
    their growth once the graph is warm: behind the first quarter, at least 90 seconds. What is shorter than 3 minutes
    tells no growth. The failure memory grows by what it learns.

    [bold]Examples[/bold]

      flow_rag_vla soak                     ten minutes

      flow_rag_vla soak --hours 8           over night

      flow_rag_vla soak -m 10 --words       with commands in words all the while
    """
    own_domain()
    from flow_rag_vla.bringup.graph import Process, node_spec
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.bringup.robot_graph import robot_graph
    from flow_rag_vla.evaluate.soak import page, summary
    from flow_rag_vla.nodes.chaos_client import ChaosClient
    from flow_rag_vla.nodes.operator import Operator
    from flow_rag_vla.nodes.words_client import WordsClient

    console = Console(soft_wrap=True)
    seconds = 60.0 * ((60.0 * hours + minutes) or 10.0)
    folder = new_run_folder(runs)
    processes = robot_graph({"profile": "mock", "mock": "true", "run_folder": str(folder)}, default_params_file())
    if words:
        params_file = str(default_params_file())
        added = {"llm": {"provider": "rules"}, "deliberation": {"log": str(folder / "deliberation.jsonl")}}
        processes += tuple(Process(node_spec(name), "", params_file, own, "info") for name, own in added.items())
    started = datetime.now().astimezone()
    console.print(f"run [bold]{folder}[/bold]")
    content: dict[str, Any] = {"seconds": 0.0, "nodes": {}, "latency_ms": [], "cases": []}
    with (
        graph_run(console, processes, folder / "log", stopping="stopping; the report covers the time so far") as graph,
        ExitStack() as clients,
    ):
        client = clients.enter_context(ChaosClient())
        asking = clients.enter_context(WordsClient()) if words else None
        graph.start()
        with Operator() as operator, console.status(f"starting {len(graph.names)} nodes"):
            graph.wait_until_up(operator)
        _sample(console, content, seconds, period, lambda: _alive(graph), client)
        if asking is not None:
            content["words"] = dict(asking.outcomes)
    if not content["nodes"]:
        raise typer.Exit(graph.code or 1)
    content["restarts"] = graph.supervisor.restarts
    content["about"] = {
        "command": " ".join(["flow_rag_vla", *sys.argv[1:]]),
        "started": started.isoformat(timespec="seconds"),
    }
    text = json.dumps(content)
    write_text(folder / "soak.json", text)
    write_text(folder / "soak.html", page(content))
    if json_copy is not None:
        write_text(json_copy, text)
    if content.get("words"):
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(content["words"].items()))
        console.print(f"commands in words: {told}", highlight=False)
    for line in summary(content):
        console.print(line, highlight=False)
    console.print(f"report: {folder / 'soak.html'}", highlight=False)
    raise typer.Exit(graph.code)


def _alive(graph: GraphRun) -> dict[str, int]:
    """Process ids of the nodes that run."""
    graph.check()
    return {name: pid for name in graph.names if (pid := graph.supervisor.pid(name)) is not None}


def _sample(
    console: Console,
    content: dict[str, Any],
    seconds: float,
    period: float,
    pids: Callable[[], dict[str, int]],
    client: ChaosClient,
) -> None:
    """Sample until the time is over, into ``content``, which is whole after each turn."""
    period = max(period, seconds / _SAMPLES)
    known: dict[int, psutil.Process] = {}
    began = time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("soaking", total=seconds)
        turn = 0
        while (elapsed := time.monotonic() - began) < seconds:
            for name, pid in pids().items():
                try:
                    process = known.setdefault(pid, psutil.Process(pid))
                    with process.oneshot():
                        values = {
                            "at_s": elapsed,
                            "rss_mb": process.memory_info().rss / 1e6,
                            "threads": process.num_threads(),
                            "descriptors": process.num_fds(),
                            "cpu": process.cpu_percent(),
                        }
                except psutil.NoSuchProcess:
                    continue
                series = content["nodes"].setdefault(name, {key: [] for key in values})
                for key, value in values.items():
                    series[key].append(value)
            content["cases"].append(client.cases)
            measured = client.latency()
            if measured is not None:
                content["latency_ms"].append({"at_s": elapsed, "p50": measured[0], "p99": measured[1]})
            content["seconds"] = elapsed
            progress.update(bar, completed=elapsed, description=f"soaking, {len(content['nodes'])} processes")
            turn += 1
            time.sleep(max(0.0, began + turn * period - time.monotonic()))
        content["seconds"] = time.monotonic() - began
