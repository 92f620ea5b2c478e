# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a recorded run: how fast it is decided again, what recording cost, how soon a picture moves the arm.

``flow_rag_vla bench replay`` measures them; here is what they mean and what they are held to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.evaluate.report.digest import MODES, Digest

MIN_SPEED = 4.0
"""Of a replay in steps with all decisions made again, in times of real time."""

MAX_RECORDER_SHARE = 0.05
"""Of one core."""

MAX_PICTURE_TO_COMMAND_MS = 25.0
MAX_FIRST_COMMAND_S = 10.0

_FOLLOW = MODES.index("follow")


@dataclass(frozen=True, slots=True)
class Speed:
    """One recording decided again, in steps. Seconds.

    read_s: reading the bag alone; decide_s: corrections, chunks and commands; encode_s: its pictures embedded as well
    repeated: two passes gave the same bytes; agreed: share of the commands that are, byte for byte, what was sent live
    """

    recorded_s: float
    read_s: float
    decide_s: float
    encode_s: float
    commands: int
    chunks: int
    pictures: int
    repeated: bool
    agreed: float

    @property
    def times(self) -> float:
        """Times of real time, the reading included."""
        return self.recorded_s / max(self.read_s + self.decide_s, 1e-9)

    @property
    def times_with_pictures(self) -> float:
        """The same with each picture embedded again."""
        return self.recorded_s / max(self.read_s + self.decide_s + self.encode_s, 1e-9)

    @property
    def ratio_to_reading(self) -> float:
        """How many times as long it takes as reading the bag alone."""
        return (self.read_s + self.decide_s) / max(self.read_s, 1e-9)


@dataclass(frozen=True, slots=True)
class RecorderCost:
    """Processor time in cores (1 is one core busy all the time).

    recorder, graph: of the recorder and of all other nodes, in the rendering graph; own: of the recorder beside the
    nodes that decide; without, beside: of these, in stretches without and with a recorder
    """

    recorder: float
    graph: float
    own: float
    without: float
    beside: float

    @property
    def of_graph(self) -> float:
        """The recorder's share of what the rendering graph takes without it."""
        return self.recorder / max(self.graph, 1e-9)

    @property
    def added_to_others(self) -> float:
        """What another reader costs those who publish, cores."""
        return self.beside - self.without


@dataclass(frozen=True, slots=True)
class Latency:
    """From the stamp of a picture on; milliseconds, each a sample a picture.

    to_chunk: (N,) until the chunk that was made of it has come; to_command: (N,) until the first command that follows
    that chunk has; to_tick: (N,) until the first command of all, which is what a policy would reach that takes no time
    lost: pictures that no command followed
    """

    name: str
    to_chunk: NDArray[np.float64]
    to_command: NDArray[np.float64]
    to_tick: NDArray[np.float64]
    lost: int

    @property
    def ratio(self) -> float:
        """p99 of the way to the command over that of a policy that takes no time."""
        return _percentile(self.to_command, 99) / max(_percentile(self.to_tick, 99), 1e-9)


@dataclass(frozen=True, slots=True)
class Launch:
    """Seconds from the start of the console command.

    first: to the loop's first command; followed: to the first that followed a chunk; imports: what a bare process takes
    to load torch and rclpy and to make a node, in the same run
    """

    first: float
    followed: float
    imports: float


@dataclass(frozen=True, slots=True)
class ReplayFigures:
    """All of it."""

    speed: Speed
    recorder: RecorderCost
    latencies: tuple[Latency, ...]
    rendering: tuple[float, float]
    """From capture to command in the rendering graph: p50 and p99, milliseconds."""
    launch: Launch

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that were not reached."""
        judged = self.latencies[0]
        reached = {
            "replay": self.speed.times >= MIN_SPEED,
            "recorder": self.recorder.recorder < MAX_RECORDER_SHARE,
            "picture to command": _percentile(judged.to_command, 99) < MAX_PICTURE_TO_COMMAND_MS and not judged.lost,
            "first command": self.launch.followed < MAX_FIRST_COMMAND_S,
        }
        return tuple(name for name, is_reached in reached.items() if not is_reached)

    def table(self) -> str:
        """The figures for people."""
        speed, cost, launch = self.speed, self.recorder, self.launch
        lines = [
            f"replay in steps, {speed.recorded_s:.1f} s, {speed.commands} commands, {speed.chunks} chunks: "
            f"{speed.times:.1f} times real time (1), target at least {MIN_SPEED:g}",
            f"  reading the bag alone {speed.read_s:.2f} s, deciding {speed.decide_s:.2f} s more, ratio "
            f"{speed.ratio_to_reading:.1f}; with {speed.pictures} pairs of pictures embedded again "
            f"{speed.times_with_pictures:.1f} times real time",
            f"  twice the same bytes: {'yes' if speed.repeated else 'NO'}; commands as they were sent live: "
            f"{speed.agreed:.1%}",
            f"recorder, in the rendering graph: {cost.recorder:.1%} of a core, target under "
            f"{MAX_RECORDER_SHARE:.0%}; all other nodes {cost.graph:.1%}, ratio {cost.of_graph:.3f}",
            f"  beside the nodes that decide: itself {cost.own:.1%} of a core; they take {cost.beside:.1%} with it and "
            f"{cost.without:.1%} without, which is {cost.added_to_others:+.1%}",
        ]
        for latency in self.latencies:
            judged = latency is self.latencies[0]
            target = f", target p99 under {MAX_PICTURE_TO_COMMAND_MS:g}" if judged else ""
            lines += [
                f"picture to command, {latency.name}, ms: {_told(latency.to_command)}{target}",
                f"  a policy that takes no time {_told(latency.to_tick)}, p99 ratio {latency.ratio:.2f}; picture to "
                f"chunk {_told(latency.to_chunk)}; {latency.to_command.size} pictures, {latency.lost} not followed",
            ]
        p50, p99 = self.rendering
        lines += [
            f"  with rendering, in the recorded run: p50 {p50:.1f} p99 {p99:.1f}",
            f"first command that follows a chunk: {launch.followed:.1f} s after the start, target under "
            f"{MAX_FIRST_COMMAND_S:g}; the loop's first {launch.first:.1f} s",
            f"  a bare process with torch, rclpy and a node {launch.imports:.1f} s, ratio "
            f"{launch.followed / max(launch.imports, 1e-9):.1f}",
        ]
        if self.missed:
            lines.append(f"missed: {', '.join(self.missed)}")
        return "\n".join(lines)

    def as_json(self) -> str:
        """The figures for programs."""
        return json.dumps(
            {
                "speed": _fields(self.speed) | {"times": self.speed.times},
                "recorder": _fields(self.recorder) | {"of_graph": self.recorder.of_graph},
                "latencies": [_summary(item) for item in self.latencies],
                "rendering": {"p50_ms": self.rendering[0], "p99_ms": self.rendering[1]},
                "launch": _fields(self.launch),
                "missed": list(self.missed),
            },
            indent=2,
        )


def launch_of(digest: Digest, started_ns: int, imports_s: float) -> Launch:
    """How long a run took to its first commands.

    Args:
        digest: of the run's bag, recorded in real time.
        started_ns: when its console command was started, system clock.
        imports_s: the baseline.

    Raises:
        ValueError: if the bag holds no command that follows a chunk.
    """
    followed = next((item for item in digest.commands if item.mode == _FOLLOW), None)
    if followed is None:
        raise ValueError("no command of the recorded run follows a chunk; look at its log")
    # The recorder comes later than the loop, whose ticks are counted from 1.
    first = digest.commands[0]
    first_ns = first.stamp_ns - (first.tick - 1) * TICK_NS
    return Launch((first_ns - started_ns) * 1e-9, (followed.stamp_ns - started_ns) * 1e-9, imports_s)


def latency_of(name: str, printed: Mapping[str, Any]) -> Latency:
    """What the node that shows the pictures printed (lists of milliseconds).

    Raises:
        ValueError: if no command followed any of them.
    """
    values = {key: np.array(printed[key], dtype=np.float64) for key in ("to_chunk", "to_command", "to_tick")}
    empty = [key for key, found in values.items() if not found.size]
    if empty:
        raise ValueError(f"pictures, {name}: nothing was measured of {', '.join(empty)}")
    return Latency(name, values["to_chunk"], values["to_command"], values["to_tick"], int(printed["lost"]))


def _summary(latency: Latency) -> dict[str, Any]:
    samples = {"to_chunk": latency.to_chunk, "to_command": latency.to_command, "to_tick": latency.to_tick}
    ranks = {f"{name}_p{rank}_ms": _percentile(values, rank) for name, values in samples.items() for rank in (50, 99)}
    pictures = int(latency.to_command.size)
    return {"name": latency.name, "pictures": pictures, "lost": latency.lost, **ranks, "p99_ratio": latency.ratio}


def _told(values: NDArray[np.float64]) -> str:
    return f"p50 {_percentile(values, 50):.1f} p99 {_percentile(values, 99):.1f}"


def _percentile(values: NDArray[np.float64] | Sequence[float], rank: float) -> float:
    return float(np.percentile(values, rank))


def _fields(value: Speed | RecorderCost | Launch) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
