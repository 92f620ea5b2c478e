# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a memory holds for each case that it learns while it answers, beside the bytes of the cases' own arrays.

    python -m flow_rag_vla.evaluate.benchmarks.memory_growth

A process of its own does what the node does: one thread stores case after case, each durable; another answers; a third
renews what answers are made from. Nothing is loaded at once, so what counts is what learning leaves behind: the index
as it grows, the database's caches, whole cases kept for answers, and what the allocator does not give back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.process_figures import ProcessFigures
from flow_rag_vla.evaluate.benchmarks.memory_answer import STAMP, situations
from flow_rag_vla.memory.answering import Answering, AnsweringSettings, Whereabouts
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.episode import EpisodeMemory
from flow_rag_vla.memory.index import make_backend
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings

CASES = 10_000

WARM_UP = 3_000
"""Cases that do not count: code is loaded, caches fill, and with 2,048 of a group the first compressed index is made,
which leaves the working buffers of the libraries behind, once."""

READINGS = 10

LEARNED_FOR_ANSWER = 3
"""Cases learned for each situation that is asked about: a failure gives nine, and ten situations a second are asked."""

MAX_A_CASE_KB = 5.0

HISTORY_NS = 60_000_000_000
EVERY_NS = 100_000_000
TASK, PHASES = "pick_and_place", ("reach", "grasp")

_MODULE = "flow_rag_vla.evaluate.benchmarks.memory_growth"


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory while cases are learned. MB are 10^6 bytes, kB 10^3.

    cases: held at each reading; resident_mb: at each; own_kb: of a case's arrays, in the mean
    warm: number of the reading behind the warm-up
    """

    cases: tuple[int, ...]
    resident_mb: tuple[float, ...]
    own_kb: float
    warm: int = 0

    @property
    def a_case_kb(self) -> float:
        """Growth for each case, behind the warm-up."""
        grown = self.resident_mb[-1] - self.resident_mb[self.warm]
        return 1e3 * grown / (self.cases[-1] - self.cases[self.warm])

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.a_case_kb <= MAX_A_CASE_KB

    def table(self) -> str:
        """The figures for people."""
        return (
            f"learned one by one, from {self.cases[self.warm]} cases on: {self.a_case_kb:.1f} kB a case beside "
            f"{self.own_kb:.1f} kB of its own arrays (ratio {self.a_case_kb / self.own_kb:.2f}), target <= "
            f"{MAX_A_CASE_KB:g} kB\n  resident MB with {self.cases[0]} to {self.cases[-1]} cases: "
            f"{' '.join(f'{value:.0f}' for value in self.resident_mb)}"
        )


def measure(cases: int = CASES) -> Growth:
    """Learn so many cases in a process of its own.

    Raises:
        subprocess.CalledProcessError: if that fails.
    """
    command = [sys.executable, "-m", _MODULE, "--cases", str(cases), "--here"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return Growth(tuple(found["cases"]), tuple(found["resident_mb"]), found["own_kb"], found["warm"])


def learned(count: int, folder: Path) -> Growth:
    """Learn so many cases in this process."""
    generator = np.random.default_rng(0)
    keys, corrections = situations(count, generator)
    process = ProcessFigures()
    memory, _ = FailureMemory.open(folder / "memory.db", MemorySettings(capacity=count), make_backend("faiss", "cpu"))
    episode = EpisodeMemory(HISTORY_NS)
    answering = Answering(memory, episode, AnsweringSettings(), deferred=True)
    episode.begin(1, TASK, 1)
    own, held, resident = 0, [], []
    marks = {count * reading // READINGS for reading in range(1, READINGS + 1)}
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as reader:
        for number in range(count):
            failed = generator.normal(scale=0.003, size=corrections[number].shape).astype(np.float32)
            failed[:, 6] = generator.uniform(0.0, 0.9)
            case = FailureCase(
                FailureType.GRASP_FAILURE,
                TASK,
                PHASES[number % 6 == 0],
                STAMP.encoder,
                STAMP.revision,
                keys[number],
                failed,
                corrections[number] if number % 2 else None,
                "expert" if number % 2 else "",
                generator.standard_normal(15, dtype=np.float32),
                (Evidence("gripper_width", 0.001, 0.01, "m"), Evidence("gripper_effort", 2.0, 5.0, "N")),
                f"the gripper closed on nothing, {number}",
            )
            own += case.embedding.nbytes + case.failed_actions.nbytes + case.proprioception.nbytes
            own += 0 if case.correction is None else case.correction.nbytes
            writer.submit(memory.add, case).result()
            if number % LEARNED_FOR_ANSWER == 0:
                seen = keys[generator.integers(count)]
                where = Whereabouts(TASK, case.phase, "put the red cube in the bin")
                answering.answer(number * EVERY_NS + 1, seen, STAMP.encoder, STAMP.revision, where)
                if answering.stale:
                    reader.submit(answering.renew).result()
            if number + 1 in marks:
                memory.settle_index()
                statistics = memory.statistics()
                held.append(statistics.cases + statistics.retired)
                resident.append(process.read()["memory_mb"])
        memory.close()
    warm = min(bisect_left(held, WARM_UP), READINGS - 2)
    return Growth(tuple(held), tuple(resident), own / count / 1e3, warm)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What each learned case leaves in memory.")
    parser.add_argument("--cases", type=int, default=CASES, help=f"cases learned (default {CASES})")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cases < 2 * WARM_UP:
        parser.error(f"--cases is {options.cases}, expected at least {2 * WARM_UP}")
    if not options.here:
        print(measure(options.cases).table())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        growth = learned(options.cases, Path(folder))
    print(json.dumps(asdict(growth)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
