"""A higher priority for the calling thread, where the system permits it."""

from __future__ import annotations

import os


def raise_priority(niceness: int, realtime_priority: int) -> str:
    """Set niceness and SCHED_FIFO priority of the calling thread; 0 leaves either alone.

    Returns one line about what came of it. Being refused is no error: the loop then runs at normal priority.
    """
    outcome = []
    if niceness:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
            outcome.append(f"niceness {niceness}")
        except PermissionError:
            outcome.append(f"niceness {niceness} not permitted (allow it with CAP_SYS_NICE or `ulimit -e`)")
    if realtime_priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(realtime_priority))
            outcome.append(f"SCHED_FIFO {realtime_priority}")
        except PermissionError:
            outcome.append(f"SCHED_FIFO {realtime_priority} not permitted (allow it with CAP_SYS_NICE or `ulimit -r`)")
    return ", ".join(outcome) or "normal priority"
