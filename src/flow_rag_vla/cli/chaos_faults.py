# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Carries out faults on the running graph, one a round."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from flow_rag_vla.bringup.chaos_graph import SIMULATOR
from flow_rag_vla.bringup.graph import MEMORY_DATABASE
from flow_rag_vla.cli.chaos_cases import AcknowledgedCases
from flow_rag_vla.cli.chaos_recovery import Recovery
from flow_rag_vla.cli.chaos_rig import RECOVERY_TIMEOUT_S, ChaosRig
from flow_rag_vla.evaluate.chaos import plan
from flow_rag_vla.evaluate.chaos.rounds import Round
from flow_rag_vla.evaluate.chaos.stretch import Stretch

_BEFORE_KILL = 3
"""Cases that are stored right before the memory is killed."""

_CORRUPTED_PLACES = 3

_SLACK_NS = 100_000_000
"""A controller that comes back needs a few ticks until its stream is even."""


class Faults:
    """Strikes the graph of a rig.

    down: when the controller was killed, paused or starting
    """

    def __init__(
        self, rig: ChaosRig, cases: AcknowledgedCases, recovery: Recovery, random: np.random.Generator
    ) -> None:
        self._rig, self._cases, self._recovery, self._random = rig, cases, recovery, random
        self.down: list[Stretch] = []
        self._ways: dict[str, Callable[[Round], None]] = {
            plan.KILL: self._kill,
            plan.RESTART: self._kill,
            plan.PAUSE: self._pause,
            plan.DELAY: self._disturb,
            plan.DROP: self._disturb,
            plan.DUPLICATE: self._disturb,
            plan.REORDER: self._disturb,
            plan.DISK_FULL: self._fill_disk,
            plan.CORRUPT: self._corrupt,
            plan.CLOCK: self._set_clock,
            plan.HOGS: self._hog,
            plan.STOP: self._stop,
        }

    def strike(self, done: Round) -> None:
        """The round's fault, from its beginning to its end.

        Raises:
            ChaosError: if the graph ended.
        """
        self._ways[done.fault.kind](done)

    # Nodes.

    def _kill(self, done: Round) -> None:
        name = done.fault.target
        if name == "failure_memory":
            self._store(done, _BEFORE_KILL)
        if name in ("episode_manager", SIMULATOR):
            self._recovery.await_episode(done)
        done.start_ns = time.monotonic_ns()
        self._end(done, signal.SIGKILL if done.fault.kind == plan.KILL else signal.SIGINT)

    def _end(self, done: Round, number: int) -> None:
        """End the node with a signal, and look what becomes of it and of what hangs on it."""
        name, recovery = done.fault.target, self._recovery
        watchdog, episode = recovery.watchdog_stops(), self._rig.client.running
        moved = recovery.arm_is_moved()
        old = self._rig.signal(name, number)
        with self._controller_down(name):
            recovery.await_node(done, name, old)
        if episode and name == "episode_manager" and number == signal.SIGKILL:
            recovery.look_for_episode(done, episode)
        elif episode and name in ("episode_manager", SIMULATOR):
            # A manager that is told to end ends its episode.
            recovery.look_for_reason(done, episode)
        if name == "dashboard":
            recovery.look_at_page(done)
        # A bridge that had only just come back may not have told the arm anything yet.
        if name == "robot" and moved and recovery.watchdog_stops() <= watchdog:
            done.problems.append(("watchdog", "the arm's own watchdog did not stop it when its bridge was gone"))
        if name == "failure_memory" and done.fault.kind == plan.CORRUPT:
            recovery.count_destroyed(done)
        elif name == "failure_memory":
            recovery.look_for_cases(done, done.number)

    def _pause(self, done: Round) -> None:
        name = done.fault.target
        with self._controller_down(name):
            self._rig.signal(name, signal.SIGSTOP)
            time.sleep(done.fault.seconds)
            self._rig.signal(name, signal.SIGCONT)

    @contextlib.contextmanager
    def _controller_down(self, name: str) -> Iterator[None]:
        start = time.monotonic_ns()
        yield
        if name == "controller":
            self.down.append(Stretch(start, time.monotonic_ns() + _SLACK_NS))

    # Links, disk, database, clock, processors, the emergency stop.

    def _disturb(self, done: Round) -> None:
        fault, client = done.fault, self._rig.client
        name = {plan.DELAY: "delay", plan.DROP: "drop", plan.DUPLICATE: "duplicate", plan.REORDER: "reorder"}[
            fault.kind
        ]
        done.start_ns = time.monotonic_ns()
        if not client.disturb(topic=fault.target, **{name: fault.amount}):
            done.problems.append(("relay", "it did not take the fault; the round says nothing"))
        time.sleep(fault.seconds)
        client.disturb()

    def _fill_disk(self, done: Round) -> None:
        name = done.fault.target
        pid = self._rig.pid(name)
        if pid is None:
            return
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, unlimited))
        try:
            if name == "failure_memory":
                case = self._cases.add(done.number, 2.0)
                done.notes.append("a case was refused" if case is None else f"case {case} was acknowledged")
            time.sleep(done.fault.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        if name == "failure_memory":
            self._store(done, 1)

    def _corrupt(self, done: Round) -> None:
        self._store(done, _BEFORE_KILL)
        # What is gone already is not of this fault's doing, which would hide it.
        self._recovery.look_for_cases(done)
        self._rig.signal(done.fault.target, signal.SIGSTOP)
        # What was written last is still in the log beside the database.
        files = [self._rig.folder / f"{MEMORY_DATABASE}{suffix}" for suffix in ("", "-wal")]
        sizes = {file: file.stat().st_size for file in files if file.exists()}
        large = [file for file, size in sizes.items() if size > 8192]
        if large:
            path = large[int(self._random.integers(len(large)))]
            size = sizes[path]
            with path.open("r+b") as stream:
                for place in self._random.integers(4096, size - 512, _CORRUPTED_PLACES):
                    stream.seek(int(place))
                    stream.write(self._random.bytes(512))
            done.notes.append(f"{_CORRUPTED_PLACES} places of {path.name} ({size} bytes) overwritten")
        done.start_ns = time.monotonic_ns()
        self._end(done, signal.SIGKILL)

    def _set_clock(self, done: Round) -> None:
        clock = self._rig.clock
        if clock is None:
            return
        done.start_ns = time.monotonic_ns()
        try:
            clock.set(int(done.fault.amount * 1e9))
            time.sleep(done.fault.seconds)
        finally:
            clock.set(0)

    def _hog(self, done: Round) -> None:
        code = "from flow_rag_vla.core.processes import end_with_parent\nend_with_parent(9)\nwhile True: pass"
        hogs = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
        try:
            time.sleep(done.fault.seconds)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()

    def _stop(self, done: Round) -> None:
        done.start_ns = time.monotonic_ns()
        self._rig.client.emergency_stop()
        time.sleep(done.fault.seconds)
        if not self._rig.client.release(RECOVERY_TIMEOUT_S):
            done.problems.append(("release", "the emergency stop was not released"))

    def _store(self, done: Round, count: int) -> None:
        if self._cases.store(done.number, count) == count:
            return
        if self._cases.none_to_copy:
            done.notes.append("the memory has no case yet to make others like")
        else:
            done.problems.append(("memory", f"no case was taken within {RECOVERY_TIMEOUT_S:g} s"))
