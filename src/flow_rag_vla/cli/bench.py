# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench``: the figures the project is held to, each beside a baseline of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line; each benchmark takes what it knows."""

    seconds: float
    cases: int
    objects: int
    soak: float
    quick: bool
    bank: Path | None
    bag: Path | None
    work: Path | None


Run = Callable[[Console, Path | None, Options], object]
"""Measures and prints; writes the figures as JSON to the path, if there is one. It imports what it needs itself."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One row of the table below."""

    meaning: str
    run: Run
    on_request: bool = True
    """Takes many minutes, needs an extra, or is beside the robot: it runs only when it is named."""


def _run_script(main: Callable[[Sequence[str]], int], output: Path | None, *arguments: str) -> None:
    """Run a benchmark that has a command line of its own."""
    main([*arguments, *([] if output is None else ["--json", str(output)])])


def _loop(_console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.evaluate.benchmarks import loop

    _run_script(loop.main, output, "--seconds", str(options.seconds))


def _memory(_console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.evaluate.benchmarks import memory

    _run_script(memory.main, output, "--cases", str(options.cases))


def _graph(_console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.evaluate.benchmarks import graph

    _run_script(graph.main, output, "--seconds", str(options.seconds))


def _answer(_console: Console, output: Path | None, _options: Options) -> None:
    from flow_rag_vla.evaluate.benchmarks import memory_answer

    _run_script(memory_answer.main, output)


def _llm(_console: Console, output: Path | None, _options: Options) -> None:
    from flow_rag_vla.evaluate.benchmarks import llm

    _run_script(llm.main, output)


def _residency(_console: Console, output: Path | None, _options: Options) -> None:
    from flow_rag_vla.evaluate.benchmarks import residency

    _run_script(residency.main, output)


def _retrieval(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_retrieval import bench_retrieval

    bench_retrieval(console, options.bank, output)


def _detection(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_detection import bench_detection

    bench_detection(console, options.work, output, quick=options.quick)


def _labeling(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_labeling import bench_labeling

    bench_labeling(console, output, quick=options.quick)


def _registry(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_registry import bench_registry

    bench_registry(console, output, options.objects, quick=options.quick, soak=options.soak)


def _curation(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_curation import bench_curation

    bench_curation(console, output, quick=options.quick)


def _deliberation(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_deliberation import bench_deliberation

    bench_deliberation(console, output, quick=options.quick)


def _likeness(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_likeness import bench_likeness

    bench_likeness(console, output, quick=options.quick)


def _pace(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_pace import bench_pace

    bench_pace(console, output, quick=options.quick)


def _restart(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_restart import bench_restart

    bench_restart(console, output, quick=options.quick)


def _replay(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_replay import bench_replay

    bench_replay(console, output, options.bag, quick=options.quick)


def _swapping(console: Console, output: Path | None, options: Options) -> None:
    from flow_rag_vla.cli.bench_swapping import bench_swapping

    bench_swapping(console, output, seconds=options.seconds)


BENCHMARKS = {
    "loop": Benchmark("the 40 Hz loop, fed, beside an empty timer", _loop, on_request=False),
    "memory": Benchmark("search over 10,000 cases beside a plain scan; resident memory", _memory, on_request=False),
    "graph": Benchmark("the loop and each stage's latency under the whole graph", _graph, on_request=False),
    "answer": Benchmark("the memory's answer to a situation with 5,000 cases beside a plain scan; renewal", _answer),
    "retrieval": Benchmark(
        "what the memory of --bank says where nothing failed, gates beside none and the nearest case", _retrieval
    ),
    "detection": Benchmark(
        "failure detection on fresh seeds, each kind of failure left out in turn, beside time alone", _detection
    ),
    "llm": Benchmark("a language model's answer through the layer beside the bare client", _llm),
    "labeling": Benchmark(
        "the compact detector on held-out scenes, tracks and times, beside colours, overlap and bare models",
        _labeling,
        on_request=False,
    ),
    "registry": Benchmark(
        "objects registered, searched and listed, writers beside readers, each beside its baseline", _registry
    ),
    "curation": Benchmark("what to label next beside random, planted label errors and pictures taken again", _curation),
    "residency": Benchmark(
        "leases on models at a full budget, phases in 8 GB, the pipeline, each beside the same without them", _residency
    ),
    "deliberation": Benchmark(
        "the seven stages beside the provider's bare call, checks a second, plans of 200 held-out commands",
        _deliberation,
    ),
    "likeness": Benchmark(
        "a start's own case looked for before the hand moves, beside the hand as it is and chance", _likeness
    ),
    "pace": Benchmark("tasks done slower beside the same starts at full speed", _pace),
    "restart": Benchmark(
        "nodes that died: the heavy ones from the spare process and anew, the others beside an empty node", _restart
    ),
    "replay": Benchmark(
        "a recorded run decided again, what the recorder costs, pictures to commands, the launch", _replay
    ),
    "swapping": Benchmark(
        "the 40 Hz loop while a language model generates and models swap, beside the same loop without", _swapping
    ),
}
"""Every benchmark by its name, in the order in which they run."""

_WHICH = (
    f"Which: {', '.join(BENCHMARKS)}; none: "
    f"{', '.join(name for name, item in BENCHMARKS.items() if not item.on_request)}."
)


def complete_benchmark(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    return [name for name in BENCHMARKS if name.startswith(incomplete)]


def bench(
    names: list[str] = typer.Argument(
        None,
        help=_WHICH,
        autocompletion=complete_benchmark,
    ),
    seconds: float = typer.Option(60.0, min=5.0, help="Length of the loop's and of the graph's measurement."),
    cases: int = typer.Option(10_000, min=1_000, help="Cases of the memory's; other than 10000: the index at scale."),
    objects: int = typer.Option(
        60_000, min=1_000, help="Objects of the registry's; 1000000: with 16 writers for 60 s."
    ),
    soak: float = typer.Option(0.0, min=0.0, help="Registry: only 16 writers and 32 readers, for so many seconds."),
    json: Path = typer.Option(None, help="Folder for the figures as JSON."),
    quick: bool = typer.Option(
        False,
        "--quick",
        help="Curation, detection, labeling, registry, deliberation, likeness, pace, replay, restart: a part of it.",
    ),
    bank: Path = typer.Option(None, help="Retrieval: folder of a bank of cases, made with practice."),
    bag: Path = typer.Option(None, help="Replay: run folder or bag to decide again, instead of a new one."),
    work: Path = typer.Option(None, help="Detection: folder that keeps the episodes for the next time."),
) -> None:
    """Measure the loop, the memory, the whole graph and the shipped labeller, each beside its baseline.

    The policy's success is measured by [bold]flow_rag_vla evaluate[/bold].

    [bold]Examples[/bold]

      flow_rag_vla bench                     loop, memory and graph, a minute each, and labeling

      flow_rag_vla bench graph --seconds 300

      flow_rag_vla bench memory --cases 1000000

      flow_rag_vla bench detection --quick   about 3 minutes of a processor; in full about 20

      flow_rag_vla bench labeling            about 3 minutes; with --quick one

      flow_rag_vla bench registry            about 2 minutes; with --objects 1000000 about 20

      flow_rag_vla bench registry --soak 60  16 writers and 32 readers alone

      flow_rag_vla bench retrieval --bank runs/bank   about 2 minutes

      flow_rag_vla bench residency           about a minute

      flow_rag_vla bench curation            about 2 minutes; with --quick one

      flow_rag_vla bench deliberation        under a minute

      flow_rag_vla bench likeness            about 2 minutes; with --quick one

      flow_rag_vla bench pace                about 3 minutes; with --quick one

      flow_rag_vla bench restart             about 2 minutes; with --quick one

      flow_rag_vla bench replay              about 3 minutes; with --quick 2

      flow_rag_vla bench swapping            about 3 minutes
    """
    chosen = names or [name for name, item in BENCHMARKS.items() if not item.on_request]
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    options = Options(seconds, cases, objects, soak, quick, bank, bag, work)
    console = Console()
    for name in chosen:
        benchmark = BENCHMARKS[name]
        console.print(f"\n[bold]{name}[/bold]: {benchmark.meaning}")
        benchmark.run(console, None if json is None else json / f"{name}.json", options)
