# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reads beside a chaos run what the kernel counts: evidence of what the machine did to the loop."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flow_rag_vla.bringup.parameters.controller import LOOP_PRIORITY
from flow_rag_vla.evaluate.chaos.standstill import Heartbeats, Processors, standstill
from flow_rag_vla.evaluate.chaos.stretch import Stretch
from flow_rag_vla.evaluate.chaos.verdict import ProcessorWaits
from flow_rag_vla.nodes.clock_guard import GUARD_NAME

LOOP = "controller"
_PERIOD_S = 0.01
_LOOK_EVERY = 10
"""Readings from one look for processes that are new to the next."""

_NS_PER_COUNT = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class MachineReader:
    """A thread as urgent as the loop; use as a context manager.

    Args:
        names: of the processes that are watched.
        pid_of: a process' number by its name, None while it is down.
    """

    def __init__(self, names: Sequence[str], pid_of: Callable[[str], int | None]) -> None:
        self._names, self._pid_of = names, pid_of
        self.waits = ProcessorWaits()
        self._beats = Heartbeats()
        self._processors: Processors | None = None
        self._files: dict[str, tuple[int, int, int]] = {}
        """By name: the process, the thread that beats, and the open file of its count."""

        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine reader", daemon=True)

    def __enter__(self) -> MachineReader:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        for name in list(self._files):
            self._forget(name)

    def still(self, stretch: Stretch) -> list[Stretch]:
        """The parts of a stretch in which the whole machine stood still."""
        return standstill(self._beats, self._processors, stretch) if self._processors is not None else []

    def stolen_ns(self, stretch: Stretch) -> int:
        """How long the host had taken the loop's processor in a stretch."""
        if self._processors is None:
            return 0
        return self._processors.stolen_ns(self.waits.processor(stretch), stretch)

    def _run(self) -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(LOOP_PRIORITY + 1))
        except (OSError, AttributeError):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        number = 0
        while not self._closing.wait(_PERIOD_S):
            if number % _LOOK_EVERY == 0:
                self._look()
            self._read(every=number % 2 == 0)
            number += 1

    def _read(self, *, every: bool) -> None:
        counts = {}
        for name, (_, thread, file) in list(self._files.items()):
            try:
                counts[name] = thread, int(os.pread(file, 128, 0).split()[2])
            except (OSError, IndexError):
                # It ended, or the kernel keeps no such count.
                self._forget(name)
        self._beats.add(time.monotonic_ns(), counts)
        self._read_loop()
        # All interrupts are added up for this file: the dearest of them.
        if every:
            self._read_processors()

    def _read_loop(self) -> None:
        pid = self._files[LOOP][0] if LOOP in self._files else self._pid_of(LOOP)
        # No such file: it ended, or the kernel keeps no such count.
        with contextlib.suppress(OSError, IndexError, ValueError):
            waited = int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1])
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            self.waits.add(time.monotonic_ns(), pid or 0, waited, int(fields[36]), fields[0])

    def _read_processors(self) -> None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            text = Path("/proc/stat").read_text(encoding="ascii")
            now = time.monotonic_ns()
            rows = [line.split() for line in text.splitlines() if line.startswith("cpu") and line[3] != " "]
            counts = [[int(value) for value in row[1:]] for row in rows]
            if self._processors is None:
                self._processors = Processors(len(counts))
            # user, nice, system, irq and softirq; what was stolen comes behind them.
            busy = sum(row[0] + row[1] + row[2] + row[5] + row[6] for row in counts)
            self._processors.add(now, _NS_PER_COUNT * busy, [_NS_PER_COUNT * row[7] for row in counts])

    def _look(self) -> None:
        for name in self._names:
            pid = self._pid_of(name)
            known = self._files.get(name)
            if known is not None and known[0] == pid:
                continue
            self._forget(name)
            thread = _beating(pid) if pid is not None else None
            if pid is not None and thread is not None:
                with contextlib.suppress(OSError):
                    file = os.open(f"/proc/{pid}/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
                    self._files[name] = pid, thread, file

    def _forget(self, name: str) -> None:
        known = self._files.pop(name, None)
        if known is not None:
            os.close(known[2])


def _beating(pid: int) -> int | None:
    """The thread of a node that wakes whatever the node does, once it was started."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if (task / "comm").read_text(encoding="utf-8", errors="replace").strip() == GUARD_NAME:
                    return int(task.name)
    return None
