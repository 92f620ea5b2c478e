# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded run: how fast it is decided again, what recording costs, how soon a picture becomes a command."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import typer
from rich.console import Console

from flow_rag_vla.bringup.replay_settings import replay_settings
from flow_rag_vla.cli.bench_replay_graph import BenchReplayError, environment, record, shown
from flow_rag_vla.cli.domain import own_domain
from flow_rag_vla.cli.signals import interruptible
from flow_rag_vla.core.files import write_text
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.evaluate.benchmarks.replay import RecorderCost, ReplayFigures, Speed, latency_of, launch_of
from flow_rag_vla.evaluate.decisions.reading import bag_of, read_recording
from flow_rag_vla.evaluate.report.digest import Digest
from flow_rag_vla.evaluate.report.run import open_run
from flow_rag_vla.evaluate.report.timing import stages

RECORDED_S, QUICK_RECORDED_S = 25.0, 10.0
STRETCH_S, QUICK_STRETCH_S = 12.0, 5.0
CAMERAS = {"triggered": "camera triggered by the loop", "free": "camera with a clock of its own"}
_BARE = "import rclpy, torch; rclpy.init(); rclpy.create_node('bare'); rclpy.shutdown()"


def bench_replay(console: Console, output: Path | None, run: Path | None, *, quick: bool = False) -> None:
    """Measure and print.

    Args:
        console: where the figures go.
        output: JSON file; None: none.
        run: run folder or bag to decide again and to take pictures from, instead of the run that is made here; what the
            recorder costs and the launch are measured on that one in any case.
        quick: shorter stretches.
    """
    try:
        if run is not None:
            # Before the minute that the rest takes.
            read_recording(run)
        own_domain()
        with interruptible():
            figures = _measure(console, run, quick)
    except (BenchReplayError, BagError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(figures.table(), markup=False, highlight=False, soft_wrap=True)
    if output is not None:
        write_text(output, figures.as_json() + "\n")


def _measure(console: Console, run: Path | None, quick: bool) -> ReplayFigures:
    stretch = QUICK_STRETCH_S if quick else STRETCH_S
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_replay_bench_") as temporary:
        folder = Path(temporary)
        with console.status("recording a run of the rendering graph"):
            made = record(folder / "runs", QUICK_RECORDED_S if quick else RECORDED_S)
        digest = open_run(made.folder).digest
        if digest is None:
            raise BenchReplayError(f"the bag of {made.folder} is not readable")
        source = run or made.folder
        seen = []
        for name, text in CAMERAS.items():
            with console.status(f"showing its pictures, {text}"):
                seen.append(shown(folder / name, source, name == "triggered", stretch))
        with console.status("loading what a node with a network loads"):
            started = time.monotonic()
            subprocess.run([sys.executable, "-c", _BARE], check=True, env=environment())
            imports_s = time.monotonic() - started
        with console.status("deciding the run again"):
            speed = _speed(source)
        recorder = made.cores["recorder"]
        cost = RecorderCost(
            recorder,
            sum(made.cores.values()) - recorder,
            fmean(item.own for item in seen),
            fmean(item.without for item in seen),
            fmean(item.beside for item in seen),
        )
        latencies = tuple(latency_of(text, item.printed) for text, item in zip(CAMERAS.values(), seen, strict=True))
        return ReplayFigures(speed, cost, latencies, _rendering(digest), launch_of(digest, made.started_ns, imports_s))


def _rendering(digest: Digest) -> tuple[float, float]:
    whole = next((stage for stage in stages(digest) if stage.name == "capture to command"), None)
    return (float("nan"), float("nan")) if whole is None else (whole.p50_ms, whole.p99_ms)


def _speed(source: Path) -> Speed:
    """Decide a run again, twice, with the memory living through it as it did."""
    from flow_rag_vla.evaluate.decisions.fingerprint import command_bytes
    from flow_rag_vla.evaluate.decisions.replay import Decisions, Replay, recorded_decisions
    from flow_rag_vla.evaluate.decisions.variants import open_variant
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.policy import FlowPolicy

    started = time.perf_counter()
    recording = read_recording(source)
    read_s = time.perf_counter() - started
    settings = replay_settings(recording)
    try:
        policy = FlowPolicy.load(settings.checkpoint or None)
    except CheckpointError as error:
        raise BenchReplayError(f"the policy of {source} cannot be loaded: {error}") from None
    made: list[Decisions] = []
    took = []
    for _ in range(2):
        with open_variant("on", recording, settings.memory, settings.database) as (memory, _meaning):
            replay = Replay(
                recording, memory, policy, name="on", policy_settings=settings.policy, loop_settings=settings.loop,
                changes=settings.loop_changes,
            )  # fmt: skip
            started = time.perf_counter()
            made.append(replay.run())
            took.append(time.perf_counter() - started)
    sent = {tick.command.tick: command_bytes(tick.command) for tick in recorded_decisions(recording).ticks}
    same = [sent.get(tick.command.tick) == command_bytes(tick.command) for tick in made[0].ticks]
    pictures, encode_s = _encoded(source)
    return Speed(
        recording.duration_s,
        read_s,
        sum(took) / len(took),
        encode_s,
        len(made[0].ticks),
        len(made[0].chunks),
        pictures,
        made[0].digest() == made[1].digest(),
        sum(same) / max(len(same), 1),
    )


def _encoded(source: Path) -> tuple[int, float]:
    """Embed every pair of pictures of the bag with the default encoder: how many, and the seconds that it took."""
    import torch

    from flow_rag_vla.bringup import topics
    from flow_rag_vla.data.message_values import image_pixels, stamp_ns
    from flow_rag_vla.policy.encoders import make_encoder

    encoder = make_encoder("compact", "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cameras = {"front": topics.FRONT_IMAGE, "wrist": topics.WRIST_IMAGE}
    newest: dict[str, tuple[int, Any]] = {}
    count = 0
    started = time.perf_counter()
    try:
        names = {topic: camera for camera, topic in cameras.items()}
        for entry in Bag(bag_of(source)).messages(list(names)):
            camera = next(camera for topic, camera in names.items() if entry.topic.endswith(topic))
            # torch wants to be able to write into what it is given; a bag's bytes cannot be.
            newest[camera] = stamp_ns(entry.message.header), image_pixels(entry.message).copy()
            if len(newest) == len(cameras) and len({stamp for stamp, _ in newest.values()}) == 1:
                encoder.encode({name: pixels for name, (_, pixels) in newest.items()})
                count += 1
    finally:
        torch.set_num_threads(threads)
    return count, time.perf_counter() - started
