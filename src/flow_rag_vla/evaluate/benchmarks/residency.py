# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What leases, phases and the pipeline cost, each beside the same work done without them.

    python -m flow_rag_vla.evaluate.benchmarks.residency --leases 10000 --workers 32

Leases: workers take models by a skewed popularity; together these need three times the budget, so it is always full. A
load copies the model's bytes, one copy at a time, as over one bus. The baseline does the copies of each part of the run
again right after it, in their order, on one thread without manager or lock; the ratio is the median of the parts. On a
busy machine the processor's time tells more than the clock's. Phases: those of a deliberation in 8 GB, on a device that
counts bytes and raises when there are none left; the baseline keeps every model that it loaded. Pipeline: messages in
steps with a barrier after each, beside calling the same handlers one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import write_text
from flow_rag_vla.residency.errors import DeviceMemoryError
from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.messages import TaskMessage
from flow_rag_vla.residency.model import ModelSpec, Place
from flow_rag_vla.residency.pipeline import Pipeline
from flow_rag_vla.residency.simulated import SimulatedDevice, SimulatedLoader

MIN_RATIO = 0.8
"""Throughput of leases to that of the baseline."""
MIN_MESSAGES = 2000.0
"""Messages a second with barriers."""

MODELS = 24
PARTS = 5
LARGEST = 96_000_000
"""Bytes of the largest model: about those of the embedded text embedder; the smallest has a quarter."""
SEED = 0
GB = 1_000_000_000
PHASES = (("llm first", ("llm",)), ("analysis", ("analysis", "analyzers")), ("circuit", ("circuit",)),
          ("llm final", ("llm",)))  # fmt: skip
PHASE_BYTES = {"llm": 4 * GB, "analysis": 3 * GB, "analyzers": 1 * GB, "circuit": 1 * GB}
PHASE_BUDGET = 8 * GB
MODULES = 4
STEP = 100


@dataclass(frozen=True, slots=True)
class LeaseFigures:
    """Bytes; seconds of both ways by part; ``round_trip_us``: an uncontended lease of a loaded model.

    ``cpu_ratio``: processor time of the baseline to that of the leases, all threads together.
    """

    leases: int
    workers: int
    budget: int
    peak: int
    loads: int
    evictions: int
    failed: int
    managed_s: tuple[float, ...]
    baseline_s: tuple[float, ...]
    cpu_ratio: float
    round_trip_us: float

    @property
    def ratios(self) -> list[float]:
        """Throughput to that of the baseline, by part, in order of size."""
        return sorted(bare / managed for bare, managed in zip(self.baseline_s, self.managed_s, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the parts."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        """Whether every lease was given, within the budget, and quickly enough."""
        return self.failed == 0 and self.peak <= self.budget and self.ratio >= MIN_RATIO


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """Bytes; ``baseline`` is what the way without phases said when it ended."""

    rounds: int
    budget: int
    peak: int
    loads: int
    returns: int
    baseline: str

    @property
    def reached(self) -> bool:
        """Whether the device was never asked for more than it has."""
        return self.peak <= self.budget


@dataclass(frozen=True, slots=True)
class PipelineFigures:
    """Messages a second: medians of the runs of both ways."""

    messages: int
    barriers: int
    piped_per_s: float
    baseline_per_s: float

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.piped_per_s >= MIN_MESSAGES


class _Bus:
    """Copies bytes, one model at a time, and writes down which."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._source: NDArray[np.uint8] = np.ones(LARGEST, dtype=np.uint8)
        self._target: NDArray[np.uint8] = np.zeros(LARGEST, dtype=np.uint8)
        self._lock = threading.Lock()

    def copy(self, size: int) -> None:
        np.copyto(self._target[:size], self._source[:size])

    def copy_in_turn(self, size: int) -> None:
        with self._lock:
            self.sizes.append(size)
            self.copy(size)


def measure_leases(leases: int, workers: int) -> LeaseFigures:
    """Run ``leases`` leases by ``workers`` threads, then the same copies without them."""
    rng = np.random.default_rng(SEED)
    sizes = {f"m{number}": int(size) for number, size in enumerate(rng.integers(LARGEST // 4, LARGEST, MODELS))}
    budget = sum(sizes.values()) // 3
    device, bus = SimulatedDevice(Place.GPU, budget), _Bus()
    manager = ResidencyManager([device])
    for name, size in sizes.items():
        loader = SimulatedLoader({Place.GPU: device}, size, work=bus.copy_in_turn)
        manager.register(ModelSpec(name, loader, {Place.GPU: size}))
    popularity = 1.0 / np.arange(1, MODELS + 1)
    names = list(sizes)
    asked = rng.choice(MODELS, size=leases, p=popularity / popularity.sum())
    failed: list[BaseException] = []

    def work(choices: Sequence[int]) -> None:
        try:
            for choice in choices:
                with manager.lease(names[choice]):
                    pass
        except Exception as error:
            failed.append(error)

    bus.copy(LARGEST)  # the first touch of memory is slower
    managed_s, baseline_s = [], []
    busy = {"managed": 0.0, "bare": 0.0}
    for part in np.array_split(asked, PARTS):
        threads = [threading.Thread(target=work, args=(part[number::workers],)) for number in range(workers)]
        before, started, cpu = len(bus.sizes), time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manager.settle()
        managed_s.append(time.perf_counter() - started)
        busy["managed"] += time.process_time() - cpu
        started, cpu = time.perf_counter(), time.process_time()
        for size in bus.sizes[before:]:
            bus.copy(size)
        baseline_s.append(time.perf_counter() - started)
        busy["bare"] += time.process_time() - cpu
    counts = manager.snapshot().counts
    round_trip_us = _round_trip_us(manager, names[0])
    manager.close()
    return LeaseFigures(
        leases, workers, budget, device.peak, counts["loads"], counts["evictions"], len(failed), tuple(managed_s),
        tuple(baseline_s), busy["bare"] / busy["managed"], round_trip_us,
    )  # fmt: skip


def _round_trip_us(manager: ResidencyManager, name: str, turns: int = 2000) -> float:
    manager.prefetch(name)
    started = time.perf_counter()
    for _ in range(turns):
        manager.lease(name).release()
    return (time.perf_counter() - started) / turns * 1e6


def measure_phases(rounds: int) -> PhaseFigures:
    """Run the phases of a deliberation ``rounds`` times in :data:`PHASE_BUDGET`."""
    gpu, host = SimulatedDevice(Place.GPU, PHASE_BUDGET), SimulatedDevice(Place.HOST, 2 * PHASE_BUDGET)
    devices = {Place.GPU: gpu, Place.HOST: host}
    manager = ResidencyManager([gpu, host])
    loaders = {name: SimulatedLoader(devices, size) for name, size in PHASE_BYTES.items()}
    for name, size in PHASE_BYTES.items():
        manager.register(ModelSpec(name, loaders[name], {Place.GPU: size, Place.HOST: size}))
    for _ in range(rounds):
        for phase, models in PHASES:
            with manager.phase(phase, *models):
                pass
    snapshot = manager.snapshot()
    loads = sum(loader.loads for loader in loaders.values())
    manager.close()
    returns = snapshot.counts["loads"] - loads
    return PhaseFigures(rounds, PHASE_BUDGET, gpu.peak, loads, returns, _without_phases())


def _without_phases() -> str:
    device = SimulatedDevice(Place.GPU, PHASE_BUDGET)
    kept: set[str] = set()
    for phase, models in PHASES:
        for name in set(models) - kept:
            try:
                device.take(PHASE_BYTES[name])
            except DeviceMemoryError as error:
                return f"phase {phase!r}: {error}"
            kept.add(name)
    return "ran through"


async def _handler(task: TaskMessage) -> Mapping[str, Any]:
    return {"sum": sum(task.data["values"])}


def _messages(count: int) -> list[TaskMessage]:
    values = list(range(20))
    return [
        TaskMessage(f"h{number % MODULES}", "sum", {"values": values}, number % 3, f"s{number // STEP}")
        for number in range(count)
    ]


async def _piped(messages: Sequence[TaskMessage]) -> None:
    pipeline = Pipeline(capacity=2 * STEP)
    for number in range(MODULES):
        pipeline.register(f"h{number}", _handler, places=4)
    for start in range(0, len(messages), STEP):
        for message in messages[start : start + STEP]:
            pipeline.submit(message)
        report = await pipeline.wait_step(messages[start].step, 60.0)
        assert report.ok, report
    pipeline.close()


async def _called(messages: Sequence[TaskMessage]) -> None:
    for message in messages:
        await _handler(message)


def measure_pipeline(count: int, runs: int = 5) -> PipelineFigures:
    """Send ``count`` messages through the pipeline and by plain calls, in turn, ``runs`` times each."""
    rates: dict[str, list[float]] = {"piped": [], "called": []}
    for _ in range(runs):
        for name, way in (("piped", _piped), ("called", _called)):
            messages = _messages(count)
            started = time.perf_counter()
            asyncio.run(way(messages))
            rates[name].append(count / (time.perf_counter() - started))
    return PipelineFigures(
        count, -(-count // STEP), statistics.median(rates["piped"]), statistics.median(rates["called"])
    )


def table(leases: LeaseFigures, phases: PhaseFigures, pipeline: PipelineFigures) -> str:
    """The figures for people."""
    mega, giga = 1e6, 1e9
    return "\n".join(
        [
            f"leases: {leases.leases} by {leases.workers} workers, {leases.failed} failed, {leases.loads} loads, "
            f"{leases.evictions} evictions",
            f"  memory, MB              {leases.peak / mega:10.1f} at most of {leases.budget / mega:.1f}",
            f"  with the manager, 1/s   {leases.leases / sum(leases.managed_s):10.0f}   ratio {leases.ratio:.2f} "
            f"({leases.ratios[0]:.2f} to {leases.ratios[-1]:.2f}), target at least {MIN_RATIO:g}",
            f"  the same loads bare     {leases.leases / sum(leases.baseline_s):10.0f}",
            f"  by processor time                   ratio {leases.cpu_ratio:.2f}",
            f"  lease of a loaded model {leases.round_trip_us:10.1f} us",
            f"phases: {phases.rounds} deliberations, {phases.loads} loads from disk, {phases.returns} from host memory",
            f"  memory, GB              {phases.peak / giga:10.1f} at most of {phases.budget / giga:.1f}",
            f"  without phases          {phases.baseline}",
            f"pipeline: {pipeline.messages} messages, {pipeline.barriers} barriers",
            f"  through it, 1/s         {pipeline.piped_per_s:10.0f}   target at least {MIN_MESSAGES:g}",
            f"  plain calls, 1/s        {pipeline.baseline_per_s:10.0f}   "
            f"ratio {pipeline.piped_per_s / pipeline.baseline_per_s:.3f}, "
            f"{(1 / pipeline.piped_per_s - 1 / pipeline.baseline_per_s) * 1e6:.0f} us a message",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 if every target is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leases", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    leases = measure_leases(options.leases, options.workers)
    phases = measure_phases(options.rounds)
    pipeline = measure_pipeline(options.messages)
    print(table(leases, phases, pipeline))
    if options.json is not None:
        figures = {"leases": asdict(leases), "phases": asdict(phases), "pipeline": asdict(pipeline)}
        write_text(options.json, json.dumps(figures, indent=2) + "\n")
    return 0 if leases.reached and phases.reached and pipeline.reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
