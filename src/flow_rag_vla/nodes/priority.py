"""A higher priority for a loop, where the system permits it."""

from __future__ import annotations

import contextlib
import os


def raise_priority(niceness: int, realtime_priority: int) -> str:
    """Set the niceness of this process' threads and the calling one's SCHED_FIFO priority; 0 leaves either alone.

    The middleware's threads as well: what the loop publishes waits for locks that they hold, and one that is not given
    a processor meanwhile would hold up the loop. Threads that are started later inherit it.

    Returns one line about what came of it. Being refused is no error: the loop then runs at normal priority.
    """
    outcome = []
    if niceness:
        try:
            for thread in _threads():
                # It may end at this moment.
                with contextlib.suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, thread, niceness)
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


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        # Elsewhere than on Linux niceness is of the whole process.
        return [0]
