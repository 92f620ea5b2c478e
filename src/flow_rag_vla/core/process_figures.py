# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What this process costs, read from the kernel: for a node's report about itself."""

from __future__ import annotations

import os
import threading
import time

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessFigures:
    """Memory, processor share and threads of this process. One thread asks; the share is that since it last asked."""

    def __init__(self) -> None:
        self._wall_ns = time.monotonic_ns()
        self._cpu_ns = time.process_time_ns()
        self._counted: int | None = None

    def read(self, counted: int | None = None) -> dict[str, float]:
        """Figures by name: memory_mb (resident, where /proc tells), cpu_percent of one core, threads, rate_hz.

        counted: what a node has done since it started; ``rate_hz`` is how much of it a second since the last reading.
            A count that fell began anew, and gives no rate.
        """
        wall_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        seconds = max(wall_ns - self._wall_ns, 1) * 1e-9
        figures: dict[str, float] = {
            "cpu_percent": round((cpu_ns - self._cpu_ns) * 1e-7 / seconds, 1),
            "threads": threading.active_count(),
        }
        resident = _resident_bytes()
        if resident is not None:
            figures["memory_mb"] = round(resident / 1e6, 1)
        if counted is not None and self._counted is not None and counted >= self._counted:
            figures["rate_hz"] = round((counted - self._counted) / seconds, 2)
        self._wall_ns, self._cpu_ns, self._counted = wall_ns, cpu_ns, counted
        return figures


def _resident_bytes() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None
