# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla pairs``: the running graph with and without its memory on the same starts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flow_rag_vla.cli.known import SCENE, TASKS
from flow_rag_vla.core.goal import UnknownTaskError, check_task

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.graph_pairs import GraphEpisode
    from flow_rag_vla.nodes.memory_switch import MemorySwitch
    from flow_rag_vla.nodes.operator import Operator

CORRECTOR = {"off": "off", "on": "consensus"}


def pairs(
    memory: Annotated[Path, typer.Option(help="Failure memory to try: a database or its folder. A copy is used.")],
    task: Annotated[str, typer.Option("--task", "-t", help=f"Task to do: {TASKS}.")] = "open_drawer",
    variant: Annotated[str, typer.Option(help=f"{SCENE}.")] = "object_size",
    checkpoint: Annotated[str, typer.Option(help="Folder of the policy checkpoint; empty: the one that ships.")] = "",
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1, help="Starts; each is run twice.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first start; the next ones count up.")] = 60_000,
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.1, help="Seconds that a chunk waits for the memory; left out: as configured."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder in which the run's own folder is made.")] = Path("runs"),
    namespace: Annotated[str, typer.Option(help="Namespace of the graph; two can run side by side.")] = "",
    results: Annotated[Path | None, typer.Option(help="Folder that gets a copy of episodes and tables.")] = None,
) -> None:
    """Run each start with the memory off and on through the whole graph, and compare.

    The memory answers and does not learn meanwhile. Off and on take turns at going first. An episode takes its real
    time, so twenty starts take 5 to 15 minutes. Ctrl-C ends early and keeps the pairs that are whole.

    [bold]Examples[/bold]

      flow_rag_vla pairs --memory runs/bank --checkpoint runs/policy

      flow_rag_vla pairs --memory lab.db --task push --variant friction -n 40 --seed 70000
    """
    console = Console(soft_wrap=True)
    from flow_rag_vla.bringup.graph import GraphError, memory_database, sim_graph
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.cli.graph_run import graph_run, new_run_folder
    from flow_rag_vla.cli.sim import check_variant
    from flow_rag_vla.evaluate.decisions.memory import copy_database
    from flow_rag_vla.evaluate.graph_pairs import EPISODES, SUMMARY, TABLE, table, write
    from flow_rag_vla.memory.store import StoreError
    from flow_rag_vla.nodes.memory_switch import MemorySwitch
    from flow_rag_vla.nodes.operator import Operator

    try:
        task = check_task(task)
    except UnknownTaskError as error:
        raise typer.BadParameter(str(error)) from None
    check_variant(variant)
    source = Path(memory_database(str(memory))).expanduser()
    if not source.is_file():
        raise typer.BadParameter(f"there is no failure memory at {source}; make one: flow_rag_vla practice --help")
    folder = new_run_folder(runs)
    try:
        copy_database(source, folder / source.name)
        processes = sim_graph(
            {
                "namespace": namespace,
                "checkpoint": checkpoint,
                "memory": str(folder / source.name),
                "run_folder": str(folder),
                "record": "false",
                "log_level": "warn",
            },
            default_params_file(),
        )
    except (GraphError, StoreError) as error:
        raise typer.BadParameter(str(error)) from None
    about: dict[str, Any] = {
        "command": " ".join(["flow_rag_vla", *sys.argv[1:]]),
        "task": task,
        "variant": variant,
        "first_seed": seed,
        "cores": os.cpu_count(),
    }
    console.print(f"run [bold]{folder}[/bold]")
    done: list[GraphEpisode] = []
    with graph_run(console, processes, folder / "log") as graph:
        graph.start()
        with Operator(namespace) as operator, MemorySwitch(namespace) as switch:
            with console.status(f"starting {len(processes)} nodes"):
                graph.wait_until_up(operator)
            if budget is not None:
                switch.allow(budget, graph.check)
            _run(console, operator, switch, graph.check, done, (task, variant, seed, episodes))
    if done:
        console.print(table(write(folder, about, done)), highlight=False)
        if results is not None:
            results.mkdir(parents=True, exist_ok=True)
            for name in (EPISODES, SUMMARY, TABLE):
                shutil.copyfile(folder / name, results / name)
    raise typer.Exit(graph.code)


def _run(
    console: Console,
    operator: Operator,
    switch: MemorySwitch,
    check: Callable[[], None],
    done: list[GraphEpisode],
    plan: tuple[str, str, int, int],
) -> None:
    from flow_rag_vla.cli.graph_run import GraphEnded
    from flow_rag_vla.evaluate.graph_pairs import GraphEpisode, order
    from flow_rag_vla_interfaces.action import ExecuteTask

    task, variant, seed, episodes = plan

    for number in range(episodes):
        for memory in order(number):
            switch.set(CORRECTOR[memory], learn=False, check=check)
            switch.chunks()
            late = operator.view.late_ticks
            goal = ExecuteTask.Goal(task=task, variant=variant, seed=seed + number)
            result = operator.execute(goal, check)
            if result.outcome not in ("success", "failure"):
                raise GraphEnded(f"episode {result.episode_id} was {result.outcome}: {result.reason}")
            done.append(
                GraphEpisode(
                    seed + number,
                    memory,
                    result.success,
                    result.duration,
                    result.reason,
                    result.failures,
                    *switch.chunks(),
                    max(operator.view.late_ticks - late, 0),
                    os.getloadavg()[0],
                )
            )
            mark = "[green]✓[/green]" if result.success else "[red]✗[/red]"
            console.print(
                f"{mark} start {number + 1}/{episodes}  seed {goal.seed}  memory {memory:<3}  {result.duration:.1f} s  "
                f"{result.failures} failures  {result.corrections} chunks shaped by memory"
            )
