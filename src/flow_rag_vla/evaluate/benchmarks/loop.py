# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The 40 Hz loop against an empty 40 Hz timer that runs beside it.

    python -m flow_rag_vla.evaluate.benchmarks.loop --seconds 60

Three processes: the controller, a feed that stands for robot and policy, and the empty timer. What the machine does to
both timers is the same, so the ratio is the loop's own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text

RATE_HZ = 40
MAX_ERROR_RATIO = 2.0
"""p99 tick error of the loop over that of the empty timer."""

MAX_CPU_MS = 1.0
"""Processor time that the loop may add to a tick."""

NORMAL = "normal"

_WARM_UP_S = 4.0
_DOMAINS = 60, 101
"""Higher ones use ports that Linux hands out to others."""


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """What one run measured. Times in milliseconds; CPU of a whole process per tick, all threads."""

    seconds: float
    loop: dict[str, Any]
    timer: dict[str, Any]
    loop_cpu_ms: float
    timer_cpu_ms: float
    skipped: int
    timer_skipped: int
    priority: str = NORMAL
    """Of both processes."""

    @property
    def error_ratio(self) -> float:
        """p99 tick error of the loop over that of the empty timer."""
        return float(self.loop["p99_ms"]) / max(float(self.timer["p99_ms"]), 1e-6)

    @property
    def added_cpu_ms(self) -> float:
        """Processor time per tick that the controller needs beyond the empty timer."""
        return self.loop_cpu_ms - self.timer_cpu_ms

    @property
    def reached(self) -> bool:
        """Whether every target is met. A tick that the empty timer would have skipped too is no fault of the loop."""
        skipped = self.skipped <= self.timer_skipped
        return self.error_ratio <= MAX_ERROR_RATIO and self.added_cpu_ms <= MAX_CPU_MS and skipped

    def table(self) -> str:
        """The figures for people."""
        loop, timer = self.loop, self.timer
        rows = [
            ("rate, Hz", f"{loop['rate_hz']:.3f}", f"{timer['rate_hz']:.3f}", ""),
            ("ticks skipped", str(self.skipped), str(self.timer_skipped), "target: no more than the timer"),
            ("tick error p50, ms", f"{loop['p50_ms']:.3f}", f"{timer['p50_ms']:.3f}", ""),
            (
                "tick error p99, ms",
                f"{loop['p99_ms']:.3f}",
                f"{timer['p99_ms']:.3f}",
                f"ratio {self.error_ratio:.2f}, target at most {MAX_ERROR_RATIO:g}",
            ),
            ("tick error max, ms", f"{loop['max_ms']:.3f}", f"{timer['max_ms']:.3f}", ""),
            (
                "process CPU a tick, ms",
                f"{self.loop_cpu_ms:.3f}",
                f"{self.timer_cpu_ms:.3f}",
                f"added {self.added_cpu_ms:.3f}, target at most {MAX_CPU_MS:g}",
            ),
            ("CPU of the tick's body, ms", f"{loop['cpu_mean_ms']:.3f}", "", f"max {loop['cpu_max_ms']:.3f}"),
        ]
        lines = [f"{'':28}{'loop':>10}{'empty timer':>13}   priority of both: {self.priority}"]
        lines += [f"{name:28}{one:>10}{other:>13}   {note}".rstrip() for name, one, other, note in rows]
        for stage, (p50, p99, maximum) in loop["stages"].items():
            lines.append(f"{stage + ', ms':28}p50 {p50:.2f}  p99 {p99:.2f}  max {maximum:.2f}")
        return "\n".join(lines)


def measure(seconds: float, niceness: int = 0, realtime: int = 0) -> LoopFigures:
    """Run the three processes for that long.

    niceness, realtime: given to the controller and to the empty timer alike, so that the ratio is the loop's own; the
        controller of a graph has a higher one than these

    Raises:
        RuntimeError: if one of them ends early or says nothing.
    """
    window = max(1, round(seconds * RATE_HZ))
    environment = dict(os.environ, ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    environment["ROS_DOMAIN_ID"] = str(_DOMAINS[0] + os.getpid() % (_DOMAINS[1] - _DOMAINS[0]))
    loop = _start(
        "controller",
        environment,
        statistics_window=float(max(seconds, 1.0)),
        niceness=niceness,
        realtime_priority=realtime,
        emergency_stop_file="off",
    )
    processes = [loop]
    try:
        feed = _start("benchmark_feed", environment, window=max(1, round(seconds)))
        processes.append(feed)
        time.sleep(_WARM_UP_S)
        timer = _start(
            "benchmark_timer", environment, window_ticks=window, niceness=niceness, realtime_priority=realtime
        )
        processes.append(timer)
        time.sleep(_WARM_UP_S / 2)
        before = _cpu_ns(loop.pid), _cpu_ns(timer.pid)
        started = time.monotonic()
        time.sleep(seconds)
        ticks = (time.monotonic() - started) * RATE_HZ
        after = _cpu_ns(loop.pid), _cpu_ns(timer.pid)
        figures, baseline = _finish(feed), _finish(timer)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(timeout=20.0)
    return LoopFigures(
        seconds,
        figures,
        baseline,
        (after[0] - before[0]) / ticks / 1e6,
        (after[1] - before[1]) / ticks / 1e6,
        int(figures["skipped"]),
        int(baseline["skipped"]),
        f"SCHED_FIFO {realtime}" if realtime else f"niceness {niceness}" if niceness else NORMAL,
    )


def _start(module: str, environment: dict[str, str], **parameters: float | str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"flow_rag_vla.nodes.{module}", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value!r}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20.0)
    lines = output.strip().splitlines()
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": "it printed nothing"}
    if "error" in result:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {result['error']}")
    return result


def _cpu_ns(pid: int) -> int:
    """Processor time of all threads of a process so far (first number of each thread's schedstat, nanoseconds)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 if a target is missed and ``--check`` is given."""
    parser = argparse.ArgumentParser(description="The 40 Hz loop beside an empty 40 Hz timer.")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurement (default 60)")
    parser.add_argument("--niceness", type=int, default=0, help="priority of both processes (default 0: normal)")
    parser.add_argument(
        "--realtime", type=int, default=0, help="SCHED_FIFO priority of both processes (default 0: none)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args(arguments)
    figures = measure(options.seconds, options.niceness, options.realtime)
    print(figures.table())
    if options.json is not None:
        record = {
            "loop": figures.loop,
            "timer": figures.timer,
            "priority": figures.priority,
            "error_ratio": figures.error_ratio,
            "loop_cpu_ms": figures.loop_cpu_ms,
            "timer_cpu_ms": figures.timer_cpu_ms,
        }
        write_text(options.json, json.dumps(record, indent=2))
    return 1 if options.check and not figures.reached else 0


if __name__ == "__main__":
    raise SystemExit(main())
