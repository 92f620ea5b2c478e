"""How long a heavy node is away: started anew, and made of the spare process, by turns."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from flow_rag_vla.bringup.graph import node_spec
from flow_rag_vla.bringup.spare import HEAVY, Spare
from flow_rag_vla.cli.chaos import own_domain
from flow_rag_vla.core.files import write_text

ROUNDS, QUICK_ROUNDS = 5, 1
TIMEOUT_S = 120.0
TARGET_S = 2.0

_LOADED = "configured in"
"""What a managed node says once it has loaded."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a node, until it had loaded. Seconds; ``cpu`` of all its threads."""

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
        walls = statistics.median(one.wall for one in fresh), statistics.median(one.wall for one in ready)
        cpus = statistics.median(one.cpu for one in fresh), statistics.median(one.cpu for one in ready)
        console.print(
            f"{node}: loaded {walls[1]:.2f} s after the spare was asked (target {TARGET_S:g} s), {walls[0]:.2f} s "
            f"after a start anew, ratio {walls[1] / walls[0]:.2f}; processor time {cpus[1]:.2f} s and {cpus[0]:.2f} s, "
            f"ratio {cpus[1] / cpus[0]:.2f}"
        )
    if output is not None:
        write_text(output, json.dumps([asdict(one) for one in starts], indent=2))


def _start(node: str, spare: bool, log: Path) -> Start:
    module = f"flow_rag_vla.nodes.{node_spec(node).name}"
    environment = dict(os.environ, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1")
    waiting = Spare(log.with_suffix(".spare"))
    log.touch()
    if spare:
        waiting.prepare(environment)
        _wait(lambda: waiting.ready, "the spare process")
    before = _cpu(waiting.pid) if waiting.pid is not None else 0.0
    started = time.monotonic()
    process = waiting.become(module, [], log) if spare else None
    if process is None:
        with log.open("ab") as stream:
            process = subprocess.Popen([sys.executable, "-m", module], stdout=stream, stderr=stream, env=environment)
    try:
        _wait(lambda: _LOADED in log.read_text(errors="replace"), node)
        return Start(node, spare, time.monotonic() - started, _cpu(process.pid) - before)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not there after {TIMEOUT_S:g} s")
        time.sleep(0.005)
