# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Ends a process whose middleware has locked itself out, so that whoever supervises it starts it anew.

Fast DDS may wait for its own timer thread while it holds the lock which that thread wants: when a writer elsewhere goes
away just as this process announces itself (https://github.com/eProsima/Fast-DDS/issues/6502, open in version 3.2). From
then on nothing is received, and after some 20 s every other process has forgotten the node. Its own timers go on, so
that it looks alive, and nothing inside can undo it.
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
"""Exit code of a process that was ended (EX_SOFTWARE of sysexits.h)."""

EVENT_THREAD = "dds.ev."
"""How the names of Fast DDS' timer threads begin. One wakes several times a second, to announce its process."""

_LOOK_EVERY_S = 1.0
_LOOKS = 5
"""In a row that find the thread waiting for the same lock. Looks and no clock: a process that was stopped for a while
has made none. Nobody holds such a lock for longer than some milliseconds."""

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
"""Number of the system call in which a thread waits."""
_FOR_A_MUTEX = 0x80
"""Its operation then: FUTEX_WAIT | FUTEX_PRIVATE_FLAG, without a time limit. Conditions wait with another one."""


def watch_middleware(
    program: str, look_every_s: float = _LOOK_EVERY_S, end: Callable[[int], object] = os._exit
) -> threading.Thread | None:
    """Watch from a thread of its own until the process ends, also while it shuts down; None where nothing can be seen.

    Args:
        program: named in what is said on standard error.
        look_every_s: five looks that find the same end the process.
        end: how.
    """
    if _FUTEX < 0 or not Path("/proc/self/task").is_dir():
        return None
    thread = threading.Thread(target=_watch, args=(program, look_every_s, end), name="middleware", daemon=True)
    thread.start()
    return thread


def _watch(program: str, look_every_s: float, end: Callable[[int], object]) -> None:
    name_thread("middleware")
    threads: list[Path] = []
    before: dict[Path, str] = {}
    looks: dict[Path, int] = {}
    # Not a wait with a timeout: where the system clock is set back, that lasts longer.
    while True:
        time.sleep(look_every_s)
        # One that is gone has no file any more.
        threads = [one for one in threads if (one / "comm").exists()] or _event_threads()
        for thread in threads:
            now = _waits_for_mutex(thread)
            looks[thread] = looks.get(thread, 0) + 1 if now and now == before.get(thread) else 0
            before[thread] = now
            if looks[thread] >= _LOOKS:
                sys.stderr.write(
                    f"{program}: the middleware has locked itself out: its timer thread has waited for a lock for "
                    f"{_LOOKS * look_every_s:g} s, and nothing is received any more; ending, to be started again\n"
                )
                sys.stderr.flush()
                end(LOCKED_OUT)
                return


def _event_threads() -> list[Path]:
    found = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            if (thread / "comm").read_text().startswith(EVENT_THREAD):
                found.append(thread)
        except OSError:
            continue
    return found


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
    switches = next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return f"{call[1]} {switches}"
