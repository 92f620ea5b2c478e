# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Finds processes whose middleware has locked itself out, so that they are ended and started anew.

Fast DDS may wait for its own timer thread while it holds the lock which that thread wants: when a writer elsewhere goes
away just as this process announces itself, or looks whether another is still there
(https://github.com/eProsima/Fast-DDS/issues/6502, open in version 3.2). From then on nothing is received, and after
some 20 s every other process has forgotten the node. Its own timers go on, so that it looks alive, and nothing inside
can undo it.

A process looks after itself, and whoever supervises it does so too: where the interpreter's lock is held meanwhile, as
when the thread that waits is about to destroy a subscription, nothing in Python can look any more.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flow_rag_vla.core.processes import name_thread

LOCKED_OUT = 70
"""Exit code of a process that ended itself (EX_SOFTWARE of sysexits.h)."""

EVENT_THREAD = "dds.ev."
"""How the names of Fast DDS' timer threads begin. One wakes several times a second, to announce its process."""

LOOK_EVERY_S = 1.0
LOOKS = 5
"""In a row that find the thread waiting for the same lock. Looks and no clock: a process that was stopped for a while
has made none, and one that is stopped waits for none. Nobody holds such a lock for longer than some milliseconds."""

OUTSIDE_LOOKS = 8
"""The same for the supervisor: more, so that a process that can ends itself and says why."""

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
"""Number of the system call in which a thread waits."""
_FOR_A_MUTEX = 0x80
"""Its operation then: FUTEX_WAIT | FUTEX_PRIVATE_FLAG, without a time limit. Conditions wait with another one."""


class LockWatch:
    """Looks again and again whether a process' timer threads wait for the same lock as at the look before.

    Linux tells that of this process, of its children, and of others to whoever may trace them.

    Args:
        process: its id, or ``self``.
        looks: in a row that must find the same.
    """

    def __init__(self, process: int | str = "self", looks: int = LOOKS) -> None:
        self._tasks, self._looks = Path(f"/proc/{process}/task"), looks
        self._threads: list[Path] = []
        self._before: dict[Path, str] = {}
        self._found: dict[Path, int] = {}

    @property
    def possible(self) -> bool:
        """Whether anything can be seen on this system."""
        return _FUTEX >= 0 and self._tasks.is_dir()

    def locked_out(self) -> bool:
        """Look once; whether this was the last look that was needed to be sure."""
        # One that is gone has no file any more.
        self._threads = [one for one in self._threads if (one / "comm").exists()] or self._event_threads()
        for thread in self._threads:
            now = _waits_for_mutex(thread)
            self._found[thread] = self._found.get(thread, 0) + 1 if now and now == self._before.get(thread) else 0
            self._before[thread] = now
        return any(self._found.get(thread, 0) >= self._looks for thread in self._threads)

    def _event_threads(self) -> list[Path]:
        found = []
        try:
            for thread in self._tasks.iterdir():
                if (thread / "comm").read_text().startswith(EVENT_THREAD):
                    found.append(thread)
        except OSError:
            # It ended meanwhile, or a thread of it did: the next look finds the rest.
            return []
        return found


class OutsideWatch:
    """The same for the processes that this one supervises, each at most once in ``look_every_s``."""

    def __init__(self, look_every_s: float = LOOK_EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._look_every_s, self._clock = look_every_s, clock
        self._watches: dict[str, tuple[int, LockWatch]] = {}
        self._due: dict[str, float] = {}

    def locked_out(self, name: str, pid: int) -> bool:
        """Look, if it is time to; whether the process has locked itself out and is to be killed.

        Args:
            name: of what runs; after a new start it is another process.
            pid: of it now.
        """
        now = self._clock()
        if now < self._due.get(name, now):
            return False
        self._due[name] = now + self._look_every_s
        known, watch = self._watches.get(name, (-1, None))
        if watch is None or known != pid:
            watch = LockWatch(pid, OUTSIDE_LOOKS)
            self._watches[name] = pid, watch
        return watch.possible and watch.locked_out()


def watch_middleware(
    program: str, look_every_s: float = LOOK_EVERY_S, end: Callable[[int], object] = os._exit
) -> threading.Thread | None:
    """Watch this process from a thread of its own until it ends, also while it shuts down; None if nothing can be seen.

    Args:
        program: named in what is said on standard error.
        look_every_s: five looks that find the same end the process.
        end: how.
    """
    watch = LockWatch()
    if not watch.possible:
        return None
    thread = threading.Thread(target=_watch, args=(watch, program, look_every_s, end), name="middleware", daemon=True)
    thread.start()
    return thread


def _watch(watch: LockWatch, program: str, look_every_s: float, end: Callable[[int], object]) -> None:
    name_thread("middleware")
    # Not a wait with a timeout: where the system clock is set back, that lasts longer.
    while not watch.locked_out():
        time.sleep(look_every_s)
    sys.stderr.write(
        f"{program}: the middleware has locked itself out: its timer thread has waited for a lock for "
        f"{LOOKS * look_every_s:g} s, and nothing is received any more; ending, to be started again\n"
    )
    sys.stderr.flush()
    end(LOCKED_OUT)


def _waits_for_mutex(thread: Path) -> str:
    """Which lock it waits for, and how often it had waited before; empty if for none, or if nobody may know."""
    try:
        call = (thread / "syscall").read_text().split()
        status = (thread / "status").read_text()
    except OSError:
        return ""
    # Of a thread that runs there is one word.
    if len(call) < 5 or int(call[0]) != _FUTEX or int(call[2], 16) != _FOR_A_MUTEX or int(call[4], 16) != 0:
        return ""
    lines = status.splitlines()
    if any(line.startswith("State:\tT") or line.startswith("State:\tt") for line in lines):
        return ""
    switches = next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
    return f"{call[1]} {switches}"
