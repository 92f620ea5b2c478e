# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Starts the processes of a graph, keeps them up, and ends them all cleanly.

This is what ``flow_rag_vla sim`` uses where launch is not installed; it does what ``launch/sim.launch.py`` asks
launch to do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flow_rag_vla.bringup.graph import Process
from flow_rag_vla.bringup.security.policy import enclave_arguments
from flow_rag_vla.bringup.spare import GROUPS, Spare
from flow_rag_vla.core.adopted import Child
from flow_rag_vla.core.middleware_watch import OutsideWatch
from flow_rag_vla.core.processes import SUPERVISOR_VARIABLE

RESPAWN_DELAY_S = 1.0
"""For a node that dies at once, again and again: long enough not to burn a core on it."""

PATIENCE_S = 15.0
"""How long a node may take to end before it is asked more firmly. On a machine that is busy with other things one alone
takes some seconds, and the nodes of a graph end all at once."""

FIRST_DELAY_S = 0.05
"""For a node that had lived long, or died early for the first time: nothing is gained by waiting."""

GIVE_UP_AFTER = 5
"""Starts in a row that lasted under ``SHORT_LIFE_S``; then the node is left down and said to be down."""

SHORT_LIFE_S = 5.0

SPARE_AFTER_S = 20.0
"""From the start of the graph, which is up by then, to that of the spare: what it loads disturbs no start."""

SPARE_AGAIN_S = 2.0
"""From the moment at which a node came of a spare, or was started because none was ready, to the look for spares."""

CONFIGURATION_ERROR = 2
"""Exit code of a node whose parameters or files are wrong: starting it again would not help."""

ARGUMENTS = 3
"""Where a node's own arguments begin in its command: after the interpreter, -m and the module."""


def command_line(process: Process) -> list[str]:
    """The command that starts a node with its parameters."""
    command = [sys.executable, "-m", process.module, "--ros-args", "--log-level", process.log_level]
    command += ["--params-file", process.params_file, "-r", f"__node:={process.spec.name}"]
    if process.namespace:
        command += ["-r", f"__ns:=/{process.namespace.strip('/')}"]
    for inside, outside in process.remaps:
        command += ["-r", f"{inside}:={outside}"]
    for name, value in process.overrides.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    return command + enclave_arguments(os.environ, process.spec.name, process.namespace)


@dataclass
class _Child:
    process: Process
    log: Path
    popen: Child | None = None
    started: float = 0.0
    short_lives: int = 0
    restarts: int = 0
    down: str = ""
    due: float | None = field(default=None)


class Supervisor:
    """Owns the node processes. ``events`` hears one sentence for each thing that happens to them.

    ``environment`` is given to each of them beside this process' own.

    All methods belong to one thread, except that ``poll`` may be called from another as long as only one calls it.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        log_folder: Path,
        events: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._children = [_Child(process, log_folder / f"{process.spec.name}.log") for process in processes]
        self._log_folder = log_folder
        self._events = events or (lambda _sentence: None)
        self._environment = dict(environment or {})
        self._middleware = OutsideWatch()
        self._lock = threading.Lock()
        self._stopping = False
        again = {process.spec.name for process in processes if process.spec.respawn}
        self._spares = [Spare(log_folder / "standby.log", nodes) for nodes in GROUPS if again & set(nodes)]
        self._spare_due = time.monotonic() + SPARE_AFTER_S

    def start(self) -> None:
        """Start every process."""
        self._log_folder.mkdir(parents=True, exist_ok=True)
        for child in self._children:
            self._spawn(child)

    @property
    def restarts(self) -> int:
        """Times a node was started again."""
        return sum(child.restarts for child in self._children)

    def pid(self, name: str) -> int | None:
        """Process id of a running node, or None."""
        child = next(child for child in self._children if child.process.spec.name == name)
        return child.popen.pid if child.popen is not None and child.popen.poll() is None else None

    def poll(self) -> str | None:
        """Look after the processes once; a reason to end the whole graph, or None."""
        with self._lock:
            if self._stopping:
                return None
            now = time.monotonic()
            for child in self._children:
                reason = self._look_after(child, now)
                if reason is not None:
                    return reason
            if now > self._spare_due:
                self._prepare()
        return None

    def stop(self, patience_s: float = PATIENCE_S) -> list[str]:
        """End every process: SIGINT, then SIGTERM, then SIGKILL. Names of those that had to be killed."""
        with self._lock:
            self._stopping = True
            for spare in self._spares:
                spare.close()
            running = [child for child in self._children if child.popen is not None and child.popen.poll() is None]
            # The recorder last: it should still write what the others say while they end.
            order = sorted(running, key=lambda child: child.process.spec.name == "recorder")
            others = [child for child in order if child.process.spec.name != "recorder"]
            recorder = [child for child in order if child.process.spec.name == "recorder"]
            return self._end(others, patience_s) + self._end(recorder, patience_s)

    def _look_after(self, child: _Child, now: float) -> str | None:
        name = child.process.spec.name
        if child.due is not None:
            if now >= child.due:
                child.due = None
                child.restarts += 1
                self._spawn(child)
            return None
        if child.popen is None or child.down:
            return None
        code = child.popen.poll()
        if code is None:
            if self._middleware.locked_out(name, child.popen.pid):
                self._events(f"{name} has locked itself out of its middleware and is killed")
                child.popen.kill()
            return None
        last = last_line(child.log)
        if code == CONFIGURATION_ERROR:
            return f"{name} cannot start: {last}"
        if not child.process.spec.respawn:
            return f"{name} ended with code {code}: {last} (log: {child.log})"
        short = now - child.started < SHORT_LIFE_S
        child.short_lives = child.short_lives + 1 if short else 0
        if child.short_lives >= GIVE_UP_AFTER:
            return (
                f"{name} died {GIVE_UP_AFTER} times within {SHORT_LIFE_S:g} s of its start: {last} (log: {child.log})"
            )
        self._events(f"{name} ended with code {code}; starting it again")
        child.due = now + (RESPAWN_DELAY_S if child.short_lives > 1 else FIRST_DELAY_S)
        return None

    def _spawn(self, child: _Child) -> None:
        command = command_line(child.process)
        child.popen = None
        spare = next((spare for spare in self._spares if child.process.spec.name in spare.nodes), None)
        if spare is not None:
            child.popen = spare.become(child.process.module, command[ARGUMENTS:], child.log)
            self._spare_due = max(self._spare_due, time.monotonic() + SPARE_AGAIN_S)
        if child.popen is None:
            with child.log.open("ab") as log:
                child.popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(self._environment),
                    # A Ctrl-C in the terminal reaches this process alone, which then ends the others in order.
                    start_new_session=True,
                )
        child.started = time.monotonic()

    def _prepare(self) -> None:
        """See to it that spares are there; one loads at a time."""
        for spare in self._spares:
            spare.prepare(_environment(self._environment))
            if not spare.ready:
                return

    def _end(self, children: list[_Child], patience_s: float) -> list[str]:
        stubborn = children
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for child in stubborn:
                if child.popen is not None and child.popen.poll() is None:
                    if number == signal.SIGKILL:
                        self._events(f"{child.process.spec.name} does not end; it said last: {last_line(child.log)}")
                    child.popen.send_signal(number)
            deadline = time.monotonic() + (patience_s if number == signal.SIGINT else 2.0)
            for child in stubborn:
                if child.popen is not None:
                    try:
                        child.popen.wait(max(deadline - time.monotonic(), 0.01))
                    except subprocess.TimeoutExpired:
                        continue
            left = [child for child in stubborn if child.popen is not None and child.popen.poll() is None]
            if not left:
                return [] if number != signal.SIGKILL else [child.process.spec.name for child in stubborn]
            stubborn = left
        return [child.process.spec.name for child in stubborn]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", SUPERVISOR_VARIABLE: str(os.getpid()), **more}
    # Threads of numerical libraries would spin beside the loop; a node that wants more says so in its parameters.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(variable, "1")
    return environment


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4096))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _yaml(value: object) -> str:
    # JSON is YAML for every parameter type there is, with strings quoted so that "true" stays a string.
    return json.dumps(value)
