# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The 40 Hz loop while a language model generates and models swap, against the same loop with nothing beside it.

    python -m flow_rag_vla.evaluate.benchmarks.swapping --seconds 60

Runs with and without the load alternate. The load is a process of its own whose two threads give way to everything
else, as that of a local language model does, with one thread of torch each. It holds random weights as leases in a
memory that fits two of four models: one thread generates with the first (a causal transformer of 25 million weights),
another takes the rest in turn, so that each lease of one evicts another. An empty timer runs beside the loop, and
shows what the machine does to both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.processes import LOWEST, give_way
from flow_rag_vla.evaluate.benchmarks.loop import LoopFigures, measure

MAX_RATIO = 1.1
"""p99 tick error with the load over that without: unchanged within 10 %."""

RUNS = 4
WIDTH, LAYERS, WORDS, CONTEXT = 512, 8, 512, 48
SWAPPED = 3
FIT = 2
"""Models that the memory has room for, of ``SWAPPED`` and the language model."""


@dataclass(frozen=True, slots=True)
class SwappingFigures:
    """Medians over the runs, milliseconds; ``load``: what the load did in its runs.

    loop, timer: p50 and p99 of the tick error without and with the load
    """

    runs: int
    seconds: float
    loop: dict[str, tuple[float, float]]
    timer: dict[str, tuple[float, float]]
    skipped: tuple[int, int]
    load: dict[str, float]

    def ratio(self, figure: str, of: str = "loop") -> float:
        """With the load over without, of ``p50`` or ``p99``."""
        without, with_load = (self.loop if of == "loop" else self.timer)[figure]
        return with_load / max(without, 1e-6)

    @property
    def reached(self) -> bool:
        """Whether the loop's tick error is unchanged within the target."""
        return self.ratio("p99") <= MAX_RATIO

    def table(self) -> str:
        """The figures for people."""
        lines = [f"{'':34}{'without':>10}{'with load':>11}"]
        for name, values in (("loop", self.loop), ("empty timer", self.timer)):
            for figure, (without, with_load) in values.items():
                note = f"ratio {self.ratio(figure, name):.2f}"
                if (name, figure) == ("loop", "p99"):
                    note += f", target at most {MAX_RATIO:g}"
                lines.append(f"{f'{name}, tick error {figure}, ms':34}{without:10.3f}{with_load:11.3f}   {note}")
        lines.append(f"{'loop, ticks skipped':34}{self.skipped[0]:10}{self.skipped[1]:11}")
        done = ", ".join(f"{value:.0f} {name}" for name, value in self.load.items())
        lines.append(f"the load: {done} in {self.runs // 2} runs of {self.seconds:.0f} s")
        return "\n".join(lines)


def run(seconds: float, progress: Callable[[int, int], None] | None = None) -> SwappingFigures:
    """Measure for about so long together; runs without and with the load alternate.

    Raises:
        RuntimeError: if a process ends early or says nothing.
    """
    each = max(seconds / RUNS, 1.0)
    without: list[LoopFigures] = []
    loaded: list[LoopFigures] = []
    done: dict[str, float] = {}
    for number in range(RUNS):
        if number % 2:
            with _load(done):
                loaded.append(measure(each))
        else:
            without.append(measure(each))
        if progress is not None:
            progress(number + 1, RUNS)

    def both(of: Callable[[LoopFigures], dict[str, Any]], figure: str) -> tuple[float, float]:
        one, other = (statistics.median(float(of(run)[f"{figure}_ms"]) for run in runs) for runs in (without, loaded))
        return one, other

    return SwappingFigures(
        RUNS,
        each,
        {figure: both(lambda run: run.loop, figure) for figure in ("p50", "p99")},
        {figure: both(lambda run: run.timer, figure) for figure in ("p50", "p99")},
        (sum(run.skipped for run in without), sum(run.skipped for run in loaded)),
        done,
    )


@contextlib.contextmanager
def _load(done: dict[str, float]) -> Iterator[None]:
    """The load beside the block; what it did is added to ``done``."""
    command = [sys.executable, "-m", "flow_rag_vla.evaluate.benchmarks.swapping", "--load"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the load ended with {process.wait(20.0)} before it began; see above")
        yield
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60.0)
        for name, value in json.loads(output.strip().splitlines()[-1]).items():
            done[name] = done.get(name, 0.0) + value
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def load() -> int:
    """Generate and swap until SIGTERM, then print what was done as one line of JSON."""
    import torch

    from flow_rag_vla.residency.manager import BESIDE_A_LOOP_S, ResidencyManager
    from flow_rag_vla.residency.model import ModelSpec, Place
    from flow_rag_vla.residency.torch_adapter import ModuleLoader, TorchDevice, module_bytes

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    def make() -> torch.nn.Module:
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 8, 4 * WIDTH, batch_first=True, norm_first=True)
        encoder = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        embedding, head = torch.nn.Embedding(WORDS, WIDTH), torch.nn.Linear(WIDTH, WORDS)
        return torch.nn.ModuleDict({"embedding": embedding, "encoder": encoder, "head": head}).eval()

    size = module_bytes([make()])
    manager = ResidencyManager([TorchDevice(Place.HOST, FIT * size)], min_resident_s=BESIDE_A_LOOP_S)
    names = ["language model", *(f"model {number}" for number in range(SWAPPED))]
    for name in names:
        manager.register(ModelSpec(name, ModuleLoader(make), {Place.HOST: size}))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    counts = {"tokens": 0, "leases of others": 0}

    def generate() -> None:
        give_way(LOWEST)
        while not ended.is_set():
            with manager.lease(names[0], timeout_s=60.0) as lease:
                model, tokens = lease.value, [1]
                while len(tokens) < CONTEXT and not ended.is_set():
                    given = model["embedding"](torch.tensor([tokens]))
                    mask = torch.nn.Transformer.generate_square_subsequent_mask(len(tokens))
                    hidden = model["encoder"](given, mask=mask, is_causal=True)
                    tokens.append(int(model["head"](hidden[0, -1]).argmax()))
                    counts["tokens"] += 1

    def swap() -> None:
        give_way(LOWEST)
        number = 0
        while not ended.is_set():
            with manager.lease(names[1 + number % SWAPPED], timeout_s=60.0) as lease:
                lease.value["head"](torch.zeros(1, WIDTH))
            number += 1
            counts["leases of others"] += 1

    threads = [threading.Thread(target=work) for work in (generate, swap)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    ended.wait()
    for thread in threads:
        thread.join()
    loads = manager.snapshot().counts.get("loads", 0)
    print(json.dumps({**counts, "loads": loads}), flush=True)
    manager.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 if the target is missed and ``--check`` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="length of all runs together (default 120)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the target is missed")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load:
        return load()
    figures = run(options.seconds)
    print(figures.table())
    if options.json is not None:
        write_text(options.json, json.dumps({**asdict(figures), "ratio_p99": figures.ratio("p99")}, indent=1))
    return 1 if options.check and not figures.reached else 0


if __name__ == "__main__":
    raise SystemExit(main())
