# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How processes stand to others: children that end with their parent, workers that give way to the control loop."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from flow_rag_vla.core.adopted import Child

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

SUPERVISOR_VARIABLE = "FLOW_RAG_VLA_SUPERVISED"
"""Tells a node the id of the process that started it: the node ends when that one does, however it ends."""

LOWEST = 19
"""The niceness that takes only what is idle."""


def end_with_parent(number: int = signal.SIGTERM, parent: int | None = None) -> bool:
    """Have the kernel send this process ``number`` when its parent ends, also by SIGKILL. Linux only, else nothing.

    Args:
        number: the signal.
        parent: process id of the parent, if it is known. Imports take seconds, and a parent that ended meanwhile sends
            no signal any more.

    Returns:
        Whether that parent still runs; true where nobody can tell.
    """
    if sys.platform != "linux":
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    # Under a debugger it is the parent's parent.
    return parent is None or os.getppid() == parent or _runs(parent)


def _runs(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return False
    # The program's name stands in brackets and may hold anything; the state comes after it.
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def name_thread(name: str) -> None:
    """Name the calling thread for the system's tools, up to 15 letters; in the main thread, the process. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that work for this one and end with it.

    When the block ends early, by Ctrl-C or because nobody wants the rest, what was not begun is dropped. Ctrl-C in a
    terminal reaches the workers too and ends them at once: a worker that took it as an error would begin the next job.
    """
    # Spawned, not forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def give_way(niceness: int) -> None:
    """Leave the processor to others: add so much niceness to the calling thread and those that it starts from here on.

    At ``LOWEST`` it is also scheduled as idle where the system can (SCHED_IDLE on Linux). Niceness alone shares the
    processor by weight and still makes a waking loop wait for the end of a slice, some 3 ms; an idle thread is put
    aside at once, and runs only when nobody else wants to. Where the kernel groups sessions for scheduling (autogroup)
    both act among the processes of one session: those of one graph, not of two terminals.
    """
    os.nice(niceness)
    if niceness >= LOWEST and hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextlib.contextmanager
def own_scheduling() -> Iterator[None]:
    """Undo what a library in the block does to the scheduling of this process' threads. Linux only, else nothing.

    Some libraries raise themselves where they may: SVT-AV1, run by root, makes the thread that opens an encoder and all
    of the encoder's own SCHED_FIFO, before any control loop. When the block ends the calling thread is scheduled as
    before, and so are the threads that were started meanwhile.
    """
    if sys.platform != "linux":
        yield
        return
    before, policy, parameter = _threads(), os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in {threading.get_native_id()} | _threads() - before:
            # It may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, parameter)


def _threads() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}


def interrupted(process: Child, patience_s: float = 20.0) -> None:
    """End a child as Ctrl-C would, and wait for it; one that is still there after ``patience_s`` seconds is killed."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
