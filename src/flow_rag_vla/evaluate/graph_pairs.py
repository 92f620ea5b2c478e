# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the memory changes in the running graph: episodes from the same starts with and without it, paired.

The graph runs in real time beside whatever else the machine does, so a start is the same but no two runs of it are:
pictures arrive some milliseconds earlier or later. Beside the result stands therefore how late the loop was, and in how
many chunks the memory's answer came too late to be used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.core.files import write_text
from flow_rag_vla.evaluate.intervals import Pairs, mcnemar_p, paired_difference, wilson

OFF, ON = "off", "on"
EPISODES, SUMMARY, TABLE = "episodes.jsonl", "summary.json", "summary.md"


@dataclass(frozen=True, slots=True)
class GraphEpisode:
    """One episode in the graph. memory: OFF or ON; duration in seconds.

    failures: events that the detector reported
    chunks: made in it, by the mode in which the memory shaped them; ``timeout``: its answer came too late
    waits: how long each chunk waited for the answer, milliseconds; for one too late, how long it was waited for
    late_ticks: of the 40 Hz loop; load: processes that wanted a core, averaged over the minute before its end
    """

    seed: int
    memory: str
    success: bool
    duration: float
    reason: str = ""
    failures: int = 0
    chunks: dict[str, int] = field(default_factory=dict)
    waits: tuple[float, ...] = ()
    late_ticks: int = 0
    load: float = math.nan


def order(number: int) -> tuple[str, str]:
    """Which goes first at the n-th start: they take turns, so that a machine that grows busy hurts both alike."""
    return (OFF, ON) if number % 2 == 0 else (ON, OFF)


def paired(episodes: Iterable[GraphEpisode]) -> list[tuple[GraphEpisode, GraphEpisode]]:
    """(off, on) of each start that has both, in the order of seeds."""
    found: dict[int, dict[str, GraphEpisode]] = {}
    for item in episodes:
        found.setdefault(item.seed, {})[item.memory] = item
    return [(both[OFF], both[ON]) for _, both in sorted(found.items()) if len(both) == 2]


def summary(episodes: Sequence[GraphEpisode]) -> dict[str, Any]:
    """Everything that the table is made of. Rates with their 95 % intervals, 0..1."""
    pairs = paired(episodes)
    counts = Pairs.of((off.success, on.success) for off, on in pairs)
    difference = paired_difference(counts)
    sides = {}
    for place, name in enumerate((OFF, ON)):
        mine = [pair[place] for pair in pairs]
        rate = wilson(sum(item.success for item in mine), len(mine))
        chunks = {
            mode: sum(item.chunks.get(mode, 0) for item in mine) for mode in sorted({m for i in mine for m in i.chunks})
        }
        sides[name] = {
            "success": {"successes": rate.successes, "trials": rate.trials, "low": rate.low, "high": rate.high},
            "text": str(rate),
            "seconds": _mean(item.duration for item in mine),
            "failures": _mean(item.failures for item in mine),
            "late_ticks": sum(item.late_ticks for item in mine),
            "ticks": round(sum(item.duration for item in mine) * 40),
            "load": _mean(item.load for item in mine),
            "chunks": chunks,
            "wait_ms": _waits([wait for item in mine for wait in item.waits]),
        }
    return {
        "starts": len(pairs),
        "lift": asdict(difference),
        "lift_text": str(difference),
        "p": mcnemar_p(counts),
        "fixed": counts.fixed,
        "broken": counts.broken,
        "sides": sides,
    }


def table(found: dict[str, Any]) -> str:
    """The summary as Markdown."""
    lines = [
        "| memory | success | seconds | failure events | chunks shaped | waited p50, p90, p99 | too late | late ticks "
        "| load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, side in found["sides"].items():
        chunks = side["chunks"]
        total = max(sum(chunks.values()), 1)
        shaped = total - chunks.get("none", 0) - chunks.get("timeout", 0) if chunks else 0
        lines.append(
            f"| {name} | {side['text']} | {side['seconds']:.1f} | {side['failures']:.1f} | "
            f"{100 * shaped / total:.0f} % | {', '.join(f'{wait:.1f}' for wait in side['wait_ms'].values())} ms | "
            f"{100 * chunks.get('timeout', 0) / total:.0f} % | "
            f"{side['late_ticks']} of {side['ticks']} | {side['load']:.1f} |"
        )
    lines.append("")
    lines.append(
        f"{found['starts']} starts, each with and without, in turns: lift {found['lift_text']} points, exact McNemar "
        f"p = {found['p']:.2g}, {found['fixed']} fixed, {found['broken']} broken."
    )
    return "\n".join(lines) + "\n"


def write(folder: Path, about: dict[str, Any], episodes: Sequence[GraphEpisode]) -> dict[str, Any]:
    """Write episodes, summary and table into a folder; give the summary."""
    found = {**about, **summary(episodes)}
    lines = (json.dumps(asdict(item), separators=(",", ":")) + "\n" for item in episodes)
    write_text(folder / EPISODES, "".join(lines))
    write_text(folder / SUMMARY, json.dumps(found, indent=2) + "\n")
    write_text(folder / TABLE, f"# The memory in the running graph\n\n`{about.get('command', '')}`\n\n{table(found)}")
    return found


def _waits(values: Sequence[float]) -> dict[str, float]:
    """Percentiles of milliseconds; zeros of none."""
    found = np.percentile(values, [50, 90, 99]) if values else np.zeros(3)
    return dict(zip(("p50", "p90", "p99"), found.tolist(), strict=True))


def _mean(values: Iterable[float]) -> float:
    some = list(values)
    return sum(some) / len(some) if some else 0.0
