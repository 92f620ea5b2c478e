# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph as ``flow_rag_vla bench replay`` runs it: a run that is recorded, and its pictures shown to live nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flow_rag_vla.bringup.graph import EVERY_NODE, MEMORY_DATABASE, Process, sim_graph
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.supervisor import Supervisor, last_line
from flow_rag_vla.core.processes import interrupted
from flow_rag_vla.evaluate.decisions.reading import bag_of

DECIDING = ("camera_encoder", "flow_policy", "failure_memory", "failure_detector", "controller")
PICTURE_SIZE = 224
SETTLE_S = 4.0
"""For a recorder to find its topics, which takes two processes up to three seconds."""

TIMEOUT_S = 120.0
_UP = "graph up after"
_CONFIGURED = "configured in"


class BenchReplayError(RuntimeError):
    """A part of the graph did not do what is to be measured; the text says which, and its last words."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run of the rendering graph.

    folder: its run folder; started_ns: when its console command was started, system clock
    cores: processor time of each node while episodes ran, in cores
    """

    folder: Path
    started_ns: int
    cores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Shown:
    """Pictures that were shown to the nodes that decide.

    printed: the samples, as :class:`~flow_rag_vla.nodes.benchmark_pictures.BenchmarkPictures` prints them, of pictures
        of the two stretches: not of the seconds between, in which the recorder's process starts
    own, without, beside: processor time in cores: of the recorder, and of the nodes without and beside one
    """

    printed: Mapping[str, Any]
    own: float
    without: float
    beside: float


def record(runs: Path, seconds: float) -> Recorded:
    """Run episodes for so many seconds, as a person would.

    Raises:
        BenchReplayError: if the graph does not come up, or ends badly.
    """
    command = [sys.executable, "-m", "flow_rag_vla.cli.main", "sim", "--no-report", "--runs", str(runs)]
    command += ["--duration", str(seconds)]
    runs.mkdir(parents=True)
    said = runs.parent / "sim.txt"
    started_ns = time.time_ns()
    with said.open("wb") as stream:
        graph = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment(),
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(said, _UP, "the graph", graph)
        nodes = _nodes(graph.pid)
        cores = _cores(nodes, seconds)
        code = graph.wait(TIMEOUT_S)
    finally:
        interrupted(graph)
    if code != 0:
        raise BenchReplayError(f"the graph ended with code {code}: {last_line(said)}")
    return Recorded(next(iter(runs.iterdir())), started_ns, cores)


def _nodes(pid: int) -> dict[str, int]:
    """The node processes that a process started, by name."""
    known = {spec.name for spec in EVERY_NODE}
    found = {}
    for child in psutil.Process(pid).children(recursive=True):
        module = next((part for part in child.cmdline() if part.startswith("flow_rag_vla.nodes.")), "")
        if module.rpartition(".")[2] in known:
            found[module.rpartition(".")[2]] = child.pid
    return found


def shown(folder: Path, source: Path, triggered: bool, seconds: float) -> Shown:
    """Show the pictures of a run for a stretch without and a stretch with a recorder.

    triggered: shortly after a command each, else at moments that the loop knows nothing of

    Raises:
        BenchReplayError: if a node does not come up, or ends.
    """
    arguments = {"run_folder": str(folder), "memory": str(folder / MEMORY_DATABASE)}
    processes = {process.spec.name: process for process in sim_graph(arguments, default_params_file())}
    logs, said = folder / "log", folder / "pictures.txt"
    # Never polled: nothing is to be started again, nor a spare beside what is measured.
    deciding = Supervisor([processes[name] for name in DECIDING], logs)
    feed = None
    try:
        deciding.start()
        for name in DECIDING[:-1]:
            _wait_for(logs / f"{name}.log", _CONFIGURED, name)
        feed = _feed(said, source, triggered)
        _wait_for(said, '"following"', "what shows the pictures", feed)
        pids = {name: _alive(deciding, name, logs) for name in DECIDING}
        stretches = [time.time_ns()]
        without = _cores(pids, seconds)
        stretches.append(time.time_ns())
        with _recording(processes["recorder"], logs) as recorder:
            stretches.append(time.time_ns())
            beside = _cores({**pids, "recorder": recorder}, seconds)
            stretches.append(time.time_ns())
    finally:
        if feed is not None:
            interrupted(feed)
        deciding.stop()
    own = beside.pop("recorder")
    printed = json.loads(said.read_text(errors="replace").strip().splitlines()[-1])
    return Shown(inside(printed, stretches), own, sum(without.values()), sum(beside.values()))


def inside(printed: Mapping[str, Any], stretches: Sequence[int]) -> dict[str, Any]:
    """What was printed, of pictures of some stretches of time only.

    Args:
        printed: the samples and their stamps.
        stretches: begin, end, begin, end and so on, in nanoseconds of the stamps' clock.
    """

    def counts(stamp_ns: int) -> bool:
        return bool(bisect(stretches, stamp_ns) % 2)

    stamps = printed["stamps"]
    found: dict[str, Any] = {
        name: [value for value, stamp_ns in zip(printed[name], values, strict=True) if counts(stamp_ns)]
        for name, values in stamps.items()
        if name != "lost"
    }
    return {**found, "lost": sum(map(counts, stamps["lost"]))}


def _feed(said: Path, source: Path, triggered: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flow_rag_vla.nodes.benchmark_pictures", "--ros-args"]
    command += ["-p", f"bag:={json.dumps(str(bag_of(source)))}", "-p", f"size:={PICTURE_SIZE}"]
    command += ["-p", f"triggered:={json.dumps(triggered)}"]
    with said.open("wb") as stream:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment(),
            start_new_session=True,
        )  # fmt: skip


@contextmanager
def _recording(process: Process, logs: Path) -> Iterator[int]:
    """A recorder beside the graph, once it has found its topics; its process id."""
    recorder = Supervisor([process], logs)
    try:
        recorder.start()
        _wait_for(logs / "recorder.log", "recording into", "the recorder")
        time.sleep(SETTLE_S)
        yield _alive(recorder, "recorder", logs)
    finally:
        recorder.stop()


def _alive(supervisor: Supervisor, name: str, logs: Path) -> int:
    pid = supervisor.pid(name)
    if pid is None:
        raise BenchReplayError(f"{name} ended: {last_line(logs / f'{name}.log')}")
    return pid


def _cores(pids: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Wait, and what each process took meanwhile, in cores."""
    before = {name: _cpu(pid) for name, pid in pids.items()}
    started = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - started
    return {name: (_cpu(pid) - before[name]) / took for name, pid in pids.items()}


def _cpu(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess as error:
        raise BenchReplayError(f"a node ended while it was measured: {error}") from None
    return float(times.user + times.system)


def environment() -> dict[str, str]:
    """Of the processes: this one's, with one thread a numerical library, as the graph's own supervisor has it."""
    return dict(os.environ, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1")


def _wait_for(log: Path, words: str, what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not log.exists() or words not in log.read_text(errors="replace"):
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise BenchReplayError(f"{what} did not come up: {last_line(log)}")
        time.sleep(0.02)
