# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph that faults are injected into, and what stands beside it: watchers, clients, the clock of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flow_rag_vla.bringup.chaos_graph import ARM, MONITOR_FILE, PULSE_FILE, chaos_graph, victims
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.supervisor import Supervisor
from flow_rag_vla.cli.chaos_machine import MachineReader
from flow_rag_vla.evaluate.chaos import plan
from flow_rag_vla.evaluate.chaos.clock import SettableClock
from flow_rag_vla.evaluate.chaos.journal import Tail
from flow_rag_vla.evaluate.chaos.plan import Fault, draw_plan
from flow_rag_vla.evaluate.chaos.watch import FOLLOW
from flow_rag_vla.nodes.chaos_client import ChaosClient
from flow_rag_vla.nodes.words_client import WordsClient

START_TIMEOUT_S = 90.0
RECOVERY_TIMEOUT_S = 60.0
POLL_S = 0.02


class ChaosError(RuntimeError):
    """The graph did not come up, or cannot go on."""


class ChaosRig:
    """One graph, brought up once. Use as a context manager.

    client: asks for episodes, presses the emergency stop, stores cases, sets the relay
    words: asks the deliberation all the while, so that it and the language model die in the middle of something; None
        where neither runs
    monitor, pulse: what the watch on the commands and the empty timer wrote
    machine: reads what the kernel counts
    clock: of the graph's processes; None where it cannot be set
    notes: what a reader of the report must know; page: the port of the live page, 0 without one
    first_command_s, first_follow_s: seconds from the launch to the first command, and to the first that followed
    """

    def __init__(self, folder: Path, seed: int, *, simulated: bool = False, also: Sequence[str] = ()) -> None:
        """The graph on the mock arm, or in simulation; also: nodes of ``chaos_graph.ALSO``."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.events: list[str] = []
        self.notes: list[str] = []
        try:
            self.clock: SettableClock | None = SettableClock(folder / "clock")
        except RuntimeError as error:
            self.clock = None
            self.notes.append(f"the clock was not made to jump: {error}")
        self._processes = chaos_graph(folder, default_params_file(), seed, simulated=simulated, also=also)
        self.names = tuple(process.spec.name for process in self._processes)
        environment = self.clock.environment if self.clock else None
        self._supervisor = Supervisor(self._processes, folder / "log", self.events.append, environment)
        self.client = ChaosClient()
        self.words = WordsClient() if "deliberation" in also else None
        self.page = int(next((one.overrides["port"] for one in self._processes if one.spec.name == "dashboard"), 0))
        self.monitor, self.pulse = Tail(folder / MONITOR_FILE), Tail(folder / PULSE_FILE)
        self.machine = MachineReader(self.names, self.pid)
        self._ended = ""
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._look_after, name="supervisor", daemon=True)
        self._started_ns = time.monotonic_ns()
        self.first_command_s = self.first_follow_s = 0.0

    def __enter__(self) -> ChaosRig:
        try:
            self.client.__enter__()
            if self.words is not None:
                self.words.__enter__()
            self._started_ns = time.monotonic_ns()
            self._supervisor.start()
            self._watcher.start()
            self.machine.__enter__()
            self._come_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        self.machine.__exit__(None, None, None)
        if self._watcher.is_alive():
            self._watcher.join()
        for name in self.names:
            # A process that is still stopped would not hear that it is to end.
            self.signal(name, signal.SIGCONT)
        killed = self._supervisor.stop()
        if killed:
            self.notes.append(f"had to be killed at the end: {', '.join(killed)}")
        if self.words is not None:
            self.words.__exit__(None, None, None)
        self.client.__exit__(None, None, None)
        if self.clock is not None:
            self.clock.close()

    def plan(self, seed: int, rounds: int, only: tuple[str, ...] = ()) -> tuple[Fault, ...]:
        """The faults for this graph; ``only``: kinds to draw from, all if empty."""
        without = [kind for kind in plan.KINDS if only and kind not in only]
        if self.clock is None:
            without.append(plan.CLOCK)
        paused = (ARM,) if ARM in self.names else ()
        return draw_plan(seed, rounds, victims(self._processes), paused, without)

    @property
    def ended(self) -> str:
        """Why the graph ended by itself; empty while it runs."""
        return self._ended

    def check(self) -> None:
        """Raise a ``ChaosError`` once the graph has ended."""
        if self._ended:
            raise ChaosError(self._ended)

    def until(self, found: Callable[[], bool]) -> bool:
        """Wait for something as long as for any recovery; whether it came.

        Raises:
            ChaosError: if the graph ended.
        """
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while not found():
            if time.monotonic() > deadline:
                return False
            self.check()
            time.sleep(POLL_S)
        return True

    def pid(self, name: str) -> int | None:
        """The process of a node; None while it is down."""
        return self._supervisor.pid(name)

    def signal(self, name: str, number: int) -> int:
        """Send a signal to a node; the process that got it, 0 if the node is down."""
        pid = self.pid(name)
        if pid is not None:
            # It may end at the same moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid or 0

    def _come_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        waiting = set(self.names)
        while time.monotonic() < deadline:
            self.check()
            for line in self.monitor.read():
                seconds = (line["ns"] - self._started_ns) / 1e9
                if line["what"] == "mode":
                    self.first_command_s = self.first_command_s or seconds
                    if line["mode"] == FOLLOW:
                        self.first_follow_s = self.first_follow_s or seconds
                elif line["what"] == "alive":
                    waiting.discard(line["node"])
            if not waiting and self.first_follow_s and not self.client.disturb():
                raise ChaosError("the relay does not take its settings; see its log")
            if not waiting and self.first_follow_s:
                return
            time.sleep(POLL_S)
        what = ", ".join(sorted(waiting)) or "a command that follows a chunk"
        raise ChaosError(f"not there after {START_TIMEOUT_S:g} s: {what}; see the logs in {self.folder / 'log'}")

    def _look_after(self) -> None:
        while not self._closing.wait(POLL_S):
            reason = self._supervisor.poll()
            if reason is not None:
                self._ended = reason
                return
