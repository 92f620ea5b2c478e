# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A higher priority for what is waited for: the loop, and what decides for it. Where the system permits it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from pathlib import Path

SPINNING_S = 0.5
"""A thread that runs so long without ever waiting is no loop of 25 ms any more: it gets the normal priority."""

ENDED_S = 5.0
"""One that is stuck inside a library, where nothing can lower it, is ended by the kernel after so long."""


class RaisedPriority:
    """Raises the thread that makes it, and the middleware's beside it, to what a 40 Hz loop needs.

    The thread itself gets SCHED_FIFO at ``realtime``: it runs as soon as it is ready, whoever else computes. The other
    threads of the process get one step less: what is published waits for locks that they hold, and a thread of normal
    priority that holds one could be kept from a processor by any program. Niceness is set as well: it is what is left
    where SCHED_FIFO is not permitted, and after it was taken back. 0 leaves either alone.

    Neither goes over to processes that are started from here (SCHED_RESET_ON_FORK), so it is not inherited by threads
    either: call ``renew`` now and then. A thread that computes for ``SPINNING_S`` without waiting once takes the
    priority from all of them (RLIMIT_RTTIME): nothing that hangs may keep a processor from everybody else.

    Being refused is no error: the loop then runs at normal priority. Make it in the main thread.

    Args:
        niceness: of every thread, -20 to 19.
        realtime: SCHED_FIFO priority of the calling thread, 1 to 99.
        spinning_s: as ``SPINNING_S``.
        workers: whether the process' other threads are raised too, or the middleware's alone: those that write or
            learn in the background are better left as they are.
    """

    def __init__(self, niceness: int, realtime: int, spinning_s: float = SPINNING_S, *, workers: bool = True) -> None:
        self._niceness, self._realtime, self._workers = niceness, realtime, workers
        self._own = threading.get_native_id()
        self._known: set[int] = set()
        self._spinning_s = spinning_s
        self._spun = self._told = False
        outcome = []
        if realtime:
            refused = self._schedule(self._own, realtime)
            if refused:
                self._realtime = 0
                outcome.append(f"SCHED_FIFO {realtime} not permitted (allow it with CAP_SYS_NICE or `ulimit -r`)")
            else:
                self._limit()
                outcome.append(f"SCHED_FIFO {realtime}")
        if niceness:
            try:
                os.setpriority(os.PRIO_PROCESS, self._own, niceness)
                outcome.append(f"niceness {niceness}")
            except PermissionError:
                self._niceness = 0
                outcome.append(f"niceness {niceness} not permitted (allow it with CAP_SYS_NICE or `ulimit -e`)")
        self.outcome = ", ".join(outcome) or "normal priority"
        """One line about what came of it."""
        self._known.add(self._own)
        self.renew()

    def renew(self) -> str:
        """Raise threads that were started since; a sentence if the priority was taken back meanwhile, else empty."""
        if self._spun:
            told, self._told = self._told, True
            return "" if told else f"computed for {self._spinning_s:g} s without waiting: normal priority from here on"
        if self._niceness or self._realtime:
            for thread in _threads() - self._known:
                self._known.add(thread)
                if not self._workers and not _of_middleware(thread):
                    continue
                if self._niceness:
                    # It may end at this moment.
                    with contextlib.suppress(ProcessLookupError):
                        os.setpriority(os.PRIO_PROCESS, thread, self._niceness)
                if self._realtime:
                    self._schedule(thread, max(self._realtime - 1, 1))
        return ""

    def give_back(self) -> None:
        """Have every thread of this process scheduled normally again; niceness stays."""
        self._realtime = 0
        for thread in _threads():
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))

    def _schedule(self, thread: int, realtime: int) -> bool:
        """Whether it was refused."""
        if not hasattr(os, "SCHED_RESET_ON_FORK"):
            return True
        try:
            os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(realtime))
        except ProcessLookupError:
            return False
        except OSError:
            # Where control groups share out real-time, one without a share is refused in its own way.
            return True
        return False

    def _limit(self) -> None:
        if sys.platform != "linux":
            return
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        ended = round(1e6 * ENDED_S)
        ended = ended if hard == resource.RLIM_INFINITY else min(hard, ended)
        signal.signal(signal.SIGXCPU, self._on_spinning)
        resource.setrlimit(resource.RLIMIT_RTTIME, (min(round(1e6 * self._spinning_s), ended), ended))

    def _on_spinning(self, _signal: int, _frame: object) -> None:
        # Nothing is logged here: whoever was interrupted may hold the log's lock.
        self._spun = True
        self.give_back()


def _threads() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        # Elsewhere than on Linux niceness is of the whole process.
        return set()


def _of_middleware(thread: int) -> bool:
    """Whether the middleware started it: Fast DDS names its threads."""
    try:
        return Path(f"/proc/self/task/{thread}/comm").read_text(encoding="utf-8").startswith("dds.")
    except OSError:
        return False
