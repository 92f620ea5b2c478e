# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How long a node is away that died: started anew, and made of a spare process where it can be, by turns."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from flow_rag_vla.bringup.graph import Process, node_spec, sim_graph
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.robot_graph import ROBOT_NODES, robot_graph
from flow_rag_vla.bringup.spare import HEAVY, Spare, group_of
from flow_rag_vla.bringup.supervisor import ARGUMENTS, command_line
from flow_rag_vla.cli.domain import own_domain
from flow_rag_vla.core.adopted import Child
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.processes import interrupted

ROUNDS, QUICK_ROUNDS = 5, 1
EACH_ROUNDS = 2
"""Of the nodes that are started anew alone."""

EMPTY = "benchmark_timer"
"""A node that does nothing: what Python and rclpy take."""

TIMEOUT_S = 120.0
TARGET_S = 2.0

_LOADED = "configured in"
"""What a managed node says once it has loaded."""

_READY = "ready"
"""What every node says, if asked for all that it has to say, once it answers."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a node, until it had loaded or answered. Seconds; ``cpu`` of all its threads."""

    node: str
    spare: bool
    wall: float
    cpu: float


def bench_restart(console: Console, output: Path | None, *, quick: bool = False) -> None:
    """Measure, print a line a node, and write the starts to ``output`` if it is given."""
    own_domain()
    starts = []
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_restart_") as folder:
        for place in range(QUICK_ROUNDS if quick else ROUNDS):
            for node in HEAVY:
                for spare in (False, True):
                    starts.append(_start(node, spare, Path(folder) / f"{node}_{place}_{spare}.log"))
    for node in HEAVY:
        fresh, ready = ([one for one in starts if one.node == node and one.spare is spare] for spare in (False, True))
        (wall, cpu), (spare_wall, spare_cpu) = _medians(fresh), _medians(ready)
        console.print(
            f"{node}: loaded {spare_wall:.2f} s after the spare was asked (target {TARGET_S:g} s), {wall:.2f} s "
            f"after a start anew, ratio {spare_wall / wall:.2f}; processor time {spare_cpu:.2f} s and {cpu:.2f} s, "
            f"ratio {spare_cpu / cpu:.2f}"
        )
    starts += _bench_each(console, 1 if quick else EACH_ROUNDS)
    if output is not None:
        write_text(output, json.dumps([asdict(one) for one in starts], indent=2))


def _bench_each(console: Console, rounds: int) -> list[Start]:
    """Start every other node, by turns, until it answers; print a line a node, the empty one first."""
    starts: list[Start] = []
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_restart_") as folder:
        commands = _commands(Path(folder))
        for place in range(rounds):
            for node, command in commands.items():
                for spare in (False, True) if group_of(node) else (False,):
                    with console.status(f"{node}, {place + 1} of {rounds}"):
                        starts.append(_answer(node, command, Path(folder) / f"{node}_{place}_{spare}.log", spare))
    nothing = statistics.median(one.cpu for one in starts if one.node == EMPTY)
    for node in commands:
        anew, ready = ([one for one in starts if one.node == node and one.spare is spare] for spare in (False, True))
        wall, cpu = _medians(anew)
        told = (
            f"{node}: answers {wall:.2f} s after a start anew (target {TARGET_S:g} s, model load aside), processor "
            f"time {cpu:.2f} s, ratio to an empty node {cpu / nothing:.2f}"
        )
        if ready:
            spare_wall, spare_cpu = _medians(ready)
            told += f"; {spare_wall:.2f} s after the spare was asked, {spare_cpu:.2f} s, ratio {spare_wall / wall:.2f}"
        console.print(told, highlight=False)
    return starts


def _commands(folder: Path) -> dict[str, list[str]]:
    """The command of every other node that a graph starts, and of the empty one."""
    wanted = {"run_folder": str(folder), "llm": "true", "deliberation": "true", "labeling": "true", "dashboard": "true"}
    arm = {"run_folder": str(folder), "profile": "mock", "mock": "true"}
    processes = [*sim_graph(wanted, default_params_file())]
    processes += [one for one in robot_graph(arm, default_params_file()) if one.spec in ROBOT_NODES]
    # What is not of this run: a person's labels, a port that is taken, a server elsewhere.
    apart: dict[str, dict[str, object]] = {
        "labeling": {"registry": str(folder / "labels"), "trainings": str(folder / "trainings")},
        "dashboard": {"port": 0},
        "llm": {"provider": "rules"},
    }
    commands = {EMPTY: [sys.executable, "-m", f"flow_rag_vla.nodes.{EMPTY}", "--ros-args", *_telling(EMPTY)]}
    for process in processes:
        name = process.spec.name
        if name in HEAVY:
            continue
        known: Process = dataclasses.replace(process, overrides={**process.overrides, **apart.get(name, {})})
        commands[name] = [*command_line(known), *_telling(name)]
    return commands


def _telling(node: str) -> list[str]:
    return ["--log-level", f"{node}:=debug"]


def _answer(node: str, command: list[str], log: Path, spare: bool) -> Start:
    environment = dict(os.environ, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1")
    process, started = _begin(command, log, group_of(node) if spare else (), environment)
    try:
        _wait(lambda: f"[{node}]: {_READY}" in log.read_text(errors="replace"), f"{node} ({log.name})", process)
        return Start(node, spare, time.monotonic() - started, _cpu(process.pid))
    finally:
        interrupted(process)


def _start(node: str, spare: bool, log: Path) -> Start:
    command = [sys.executable, "-m", f"flow_rag_vla.nodes.{node_spec(node).name}"]
    environment = dict(os.environ, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1")
    process, started = _begin(command, log, HEAVY if spare else (), environment)
    try:
        _wait(lambda: _LOADED in log.read_text(errors="replace"), node)
        return Start(node, spare, time.monotonic() - started, _cpu(process.pid))
    finally:
        interrupted(process)


def _begin(command: list[str], log: Path, spare_for: Sequence[str], environment: dict[str, str]) -> tuple[Child, float]:
    """The process of a node, and when it was asked for.

    spare_for: the nodes of the spare that it comes of; empty: it is started anew.
    """
    log.touch()
    if spare_for:
        waiting = Spare(log.with_suffix(".spare"), spare_for)
        try:
            waiting.prepare(environment)
            _wait(lambda: waiting.ready, "the spare process")
            started = time.monotonic()
            node = waiting.become(command[ARGUMENTS - 1], command[ARGUMENTS:], log)
        finally:
            waiting.close()
        if node is None:
            raise RuntimeError(f"the spare process did not fork {log.stem}")
        return node, started
    started = time.monotonic()
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment
        ), started


def _medians(starts: Sequence[Start]) -> tuple[float, float]:
    """Of their wall and processor times."""
    return statistics.median(one.wall for one in starts), statistics.median(one.cpu for one in starts)


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _wait(condition: Callable[[], bool], what: str, process: Child | None = None) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what} ended with code {process.returncode} before it was there")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not there after {TIMEOUT_S:g} s")
        time.sleep(0.005)
