# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loop under the whole graph, beside an empty 40 Hz timer, and the latency of each stage.

    python -m flow_rag_vla.evaluate.benchmarks.graph --seconds 300

It runs what a user runs (``flow_rag_vla sim``), with the empty timer as one more process on the same machine, and reads
the figures from the run's own bag.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.core.files import write_text
from flow_rag_vla.evaluate.report.run import open_run
from flow_rag_vla.evaluate.report.timing import Stage, loop_timing, stages

MAX_ERROR_RATIO = 2.0
MAX_CAPTURE_TO_COMMAND_MS = 100.0
START_ALLOWANCE_S = 120.0


@dataclass(frozen=True, slots=True)
class StageFigures:
    """Latency of one stage in milliseconds."""

    name: str
    count: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class GraphFigures:
    """What one run measured. Errors are |interval - 25 ms| between commands, in milliseconds.

    skipped: ticks from the start of the first episode on; starting: those before, while the other nodes started
    """

    commands: int
    rate_hz: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    late: int
    skipped: int
    starting: int
    cpu_mean_ms: float
    episodes: int
    succeeded: int
    timer_rate_hz: float
    timer_p50_ms: float
    timer_p99_ms: float
    timer_max_ms: float
    timer_late: int
    timer_skipped: int
    stages: tuple[StageFigures, ...]

    @property
    def error_ratio(self) -> float:
        """p99 tick error of the loop over that of the empty timer in the same minutes."""
        return self.p99_ms / max(self.timer_p99_ms, 1e-6)

    def table(self) -> str:
        """The figures for people."""
        rows = [
            ("rate, Hz", f"{self.rate_hz:.3f}", f"{self.timer_rate_hz:.3f}", ""),
            ("ticks skipped", str(self.skipped), str(self.timer_skipped),
             f"target 0; {self.starting} more of the loop's while the graph started"),
            ("ticks over half a period late", str(self.late), str(self.timer_late), ""),
            ("tick error p50, ms", f"{self.p50_ms:.3f}", f"{self.timer_p50_ms:.3f}", ""),
            ("tick error p99, ms", f"{self.p99_ms:.3f}", f"{self.timer_p99_ms:.3f}",
             f"ratio {self.error_ratio:.2f}, target at most {MAX_ERROR_RATIO:g}"),
            ("tick error max, ms", f"{self.max_ms:.3f}", f"{self.timer_max_ms:.3f}", ""),
            ("CPU of the tick's body, ms", f"{self.cpu_mean_ms:.3f}", "", ""),
        ]  # fmt: skip
        lines = [
            f"{self.commands} commands, {self.succeeded} of {self.episodes} episodes succeeded",
            f"{'':32}{'loop':>10}{'empty timer':>13}   the loop at its own priority, the timer at the normal one",
        ]
        lines += [f"{name:32}{one:>10}{other:>13}   {note}".rstrip() for name, one, other, note in rows]
        for stage in self.stages:
            target = f"   target at most {MAX_CAPTURE_TO_COMMAND_MS:g}" if stage.name == "capture to command" else ""
            lines.append(f"{stage.name + ', ms':32}p50 {stage.p50_ms:7.2f}  p99 {stage.p99_ms:7.2f}{target}")
        return "\n".join(lines)


def measure(seconds: float, runs: Path, tasks: Sequence[str] = ("pick_and_place",)) -> GraphFigures:
    """Run the graph for that long and read its bag.

    Args:
        seconds: length of the measurement.
        runs: folder in which the run's folder is made.
        tasks: what the robot does meanwhile, in turn.

    Raises:
        RuntimeError: if the graph or the timer fails, with its last words.
    """
    command = [sys.executable, "-m", "flow_rag_vla.cli.main", "sim", "--no-report", "--runs", str(runs)]
    command += ["--duration", str(seconds)]
    for task in tasks:
        command += ["--task", task]
    window = round((seconds + START_ALLOWANCE_S) * 40)
    timer = subprocess.Popen(
        [sys.executable, "-m", "flow_rag_vla.nodes.benchmark_timer", "--ros-args", "-p", f"window_ticks:={window}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        graph = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=seconds + START_ALLOWANCE_S + 120.0,
        )  # fmt: skip
    finally:
        timer.send_signal(signal.SIGINT)
        printed, _ = timer.communicate(timeout=20.0)
    if graph.returncode != 0:
        raise RuntimeError(f"the graph ended with code {graph.returncode}:\n{graph.stdout[-2000:]}")
    baseline = json.loads(printed.strip().splitlines()[-1])
    folder = max(runs.iterdir(), key=lambda path: path.stat().st_mtime)
    run = open_run(folder)
    timing = loop_timing(run.digest) if run.digest is not None else None
    if run.digest is None or timing is None:
        raise RuntimeError(f"the bag in {folder} holds no commands: {'; '.join(run.problems)}")
    loops = run.digest.loops
    began = min((window.start_ns for window in run.digest.windows.values()), default=0)
    starting = max((loop.skipped_ticks for loop in loops if loop.log_ns <= began), default=0)
    return GraphFigures(
        commands=len(run.digest.commands),
        rate_hz=timing.rate_hz,
        p50_ms=timing.p50_ms,
        p99_ms=timing.p99_ms,
        max_ms=timing.max_ms,
        late=timing.late,
        skipped=max((loop.skipped_ticks for loop in loops), default=0) - starting,
        starting=starting,
        cpu_mean_ms=float(np.mean([loop.cpu_mean_ms for loop in loops])) if loops else float("nan"),
        episodes=len(run.scored),
        succeeded=sum(record.outcome == "success" for record in run.scored),
        timer_rate_hz=baseline["rate_hz"],
        timer_p50_ms=baseline["p50_ms"],
        timer_p99_ms=baseline["p99_ms"],
        timer_max_ms=baseline["max_ms"],
        timer_late=baseline["late"],
        timer_skipped=baseline["skipped"],
        stages=tuple(_figures(stage) for stage in stages(run.digest)),
    )


def _figures(stage: Stage) -> StageFigures:
    return StageFigures(stage.name, int(stage.values_ms.size), stage.p50_ms, stage.p99_ms)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The loop under the whole graph beside an empty 40 Hz timer.")
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the measurement (default 300)")
    parser.add_argument("--task", action="append", help="task to do meanwhile (default pick_and_place); repeat it")
    parser.add_argument("--runs", type=Path, help="keep the run in this folder (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(options.seconds, options.runs or Path(temporary), options.task or ("pick_and_place",))
    print(figures.table())
    if options.json is not None:
        write_text(options.json, json.dumps(asdict(figures) | {"error_ratio": figures.error_ratio}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
