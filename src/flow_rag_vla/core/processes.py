"""How processes stand to others: children that end with their parent, workers that give way to the control loop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

LOWEST = 19
"""The niceness that takes only what is idle."""


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process ``number`` when its parent ends, also by SIGKILL. Linux only, else nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def give_way(niceness: int) -> None:
    """Leave the processor to others: add so much niceness to the calling thread and those that it starts from here on.

    At ``LOWEST`` it is also scheduled as idle where the system can (SCHED_IDLE on Linux). Niceness alone shares the
    processor by weight and still makes a waking loop wait for the end of a slice, some 3 ms; an idle thread is put
    aside at once, and runs only when nobody else wants to.
    """
    os.nice(niceness)
    if niceness >= LOWEST and hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
