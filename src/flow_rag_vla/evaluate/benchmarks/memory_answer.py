# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the memory says about a situation, with a bank of the size that practice makes, beside a plain scan.

    python -m flow_rag_vla.evaluate.benchmarks.memory_answer

5,000 cases with a correction and 4,096 successes of one task, spread over four phases. Measured, in processor time of
the thread that answers, which other programs do not lengthen:

- an answer by consensus: search, whole cases, regression
- the baseline: one product of the query with every stored vector of its phase and a sort, which is the least that
  anything that looks at all of them can do
- an answer while another thread renews what answers are made from, as the node's does after each change
- a renewal itself
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.files import write_text
from flow_rag_vla.evaluate.benchmarks.latency import Latency
from flow_rag_vla.memory.case import SITUATION, EncoderStamp, FailureCase
from flow_rag_vla.memory.consensus import ConsensusMemory
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import FailureStore
from flow_rag_vla.policy.situation import DIMENSION, orthogonal_frequencies

CASES, SUCCESSES = 5_000, 4_096
PHASES = ("reach", "grasp", "transport", "release")
TASK = "open_drawer"
STAMP = EncoderStamp(SITUATION, "benchmark", DIMENSION)
HORIZON = 16

FEATURES, SPREAD = 6, 0.4
"""Numbers that decide a situation, and how far they are spread in widths of the kernel: 7 to 126
others of a phase are near (a cosine above 0.8)."""

WARM_UP = 20


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """What one run measured. Milliseconds of processor time; renewal also of wall time."""

    answer: Latency
    scan: Latency
    beside: Latency
    renewal_ms: float
    renewal_wall_ms: float
    answered: float

    def table(self) -> str:
        """The figures for people."""
        lines = [f"{CASES} cases, {SUCCESSES} successes{'':13}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}   processor time"]
        for name, value in (
            ("answer by consensus", self.answer),
            ("answer while gates are renewed", self.beside),
            ("scan of the phase (baseline)", self.scan),
        ):
            ratio = "" if value is self.scan else f"p50 ratio {value.p50 / self.scan.p50:.1f}"
            lines.append(f"{name:38}{value.p50:9.3f}{value.p99:9.3f}{value.maximum:9.3f}   {ratio}".rstrip())
        lines.append(
            f"renewal: {self.renewal_ms:.0f} ms of processor time, {self.renewal_wall_ms:.0f} ms passed "
            f"(ratio to an answer {self.renewal_ms / self.answer.p50:.0f}); answered: {100 * self.answered:.0f} %"
        )
        return "\n".join(lines)


def situations(count: int, generator: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keys (count, DIMENSION) and chunks (count, HORIZON, 7) float32 that change smoothly with them."""
    features = generator.normal(scale=SPREAD, size=(count, FEATURES)).astype(np.float32)
    frequencies = orthogonal_frequencies(FEATURES, DIMENSION // 2, np.random.default_rng(1))
    angles = features @ frequencies.T
    keys = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * np.float32((DIMENSION // 2) ** -0.5)
    chunks = np.zeros((count, HORIZON, ACTION_DIM), dtype=np.float32)
    chunks[:, :, :3] = 0.004 * np.tanh(features[:, None, :3])
    return keys.astype(np.float32), chunks


def fill(path: Path) -> FailureMemory:
    """A memory of the benchmark's size in a new file."""
    generator = np.random.default_rng(0)
    memory = FailureMemory(FailureStore(path), MemorySettings(capacity=1_000_000, successes_kept=SUCCESSES))
    keys, chunks = situations(CASES, generator)
    memory.apply(
        [
            FailureCase(
                FailureType.GRASP_FAILURE, TASK, PHASES[row % len(PHASES)], STAMP.encoder, STAMP.revision, keys[row],
                -chunks[row], chunks[row], "expert",
            )
            for row in range(CASES)
        ],
        {},
    )  # fmt: skip
    keys, chunks = situations(SUCCESSES, generator)
    memory.observe_done(
        [
            SuccessSituation(TASK, PHASES[row % len(PHASES)], STAMP, keys[row], chunks[row], row // 20)
            for row in range(SUCCESSES)
        ]
    )
    return memory


def measure(count: int = 400) -> AnswerFigures:
    """Fill a memory and ask it ``count`` times."""
    with tempfile.TemporaryDirectory() as folder:
        memory = fill(Path(folder) / "memory.db")
        try:
            return _measured(memory, count)
        finally:
            memory.close()


def _measured(memory: FailureMemory, count: int) -> AnswerFigures:
    consensus = ConsensusMemory(memory, deferred=True)
    busy, wall = time.thread_time(), time.perf_counter()
    consensus.renew(STAMP)
    renewal, passed = (time.thread_time() - busy) * 1e3, (time.perf_counter() - wall) * 1e3
    queries, _ = situations(count + WARM_UP, np.random.default_rng(7))
    every = np.concatenate(
        [situations(CASES, np.random.default_rng(0))[0], situations(SUCCESSES, np.random.default_rng(1))[0]]
    )
    phase = np.ascontiguousarray(every[:: len(PHASES)])
    answered = 0

    def answer(row: int) -> None:
        nonlocal answered
        place = PHASES[row % len(PHASES)]
        found = consensus.answer(queries[row], stamp=STAMP, task=TASK, phase=place, stamp_ns=row)
        answered += found.correction.actions is not None

    def scan(row: int) -> None:
        np.argsort(-(phase @ queries[row]))

    alone = _times(answer, len(queries))
    share = answered / len(queries)
    plain = _times(scan, len(queries))
    stop = threading.Event()

    def renew() -> None:
        while not stop.is_set():
            consensus.renew(STAMP)

    other = threading.Thread(target=renew)
    other.start()
    try:
        beside = _times(answer, len(queries))
    finally:
        stop.set()
        other.join()
    return AnswerFigures(alone, plain, beside, renewal, passed, share)


def _times(ask: Callable[[int], None], count: int) -> Latency:
    spent = []
    for row in range(count):
        busy = time.thread_time()
        ask(row)
        spent.append((time.thread_time() - busy) * 1e3)
    return Latency.of(spent[WARM_UP:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The memory's answer with 5,000 cases beside a plain scan.")
    parser.add_argument("--count", type=int, default=400, help="situations asked about (default 400)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    figures = measure(options.count)
    print(figures.table())
    if options.json is not None:
        write_text(options.json, json.dumps(asdict(figures), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
