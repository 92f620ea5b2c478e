"""``flow_rag_vla bench``: the figures the project is held to, each beside a baseline of the same run."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

BENCHMARKS = {
    "loop": "the 40 Hz loop, fed, beside an empty timer",
    "memory": "search over 10,000 cases beside a plain scan; resident memory",
    "graph": "the loop and each stage's latency under the whole graph",
    "answer": "the memory's answer to a situation with 5,000 cases beside a plain scan; renewal",
    "retrieval": "what the memory of --bank says where nothing failed, gates beside none and the nearest case",
    "detection": "failure detection on fresh seeds, each kind of failure left out in turn, beside time alone",
    "llm": "a language model's answer through the layer beside the bare client",
    "labeling": "the compact detector on held-out scenes, tracks and times, beside colours, overlap and bare models",
    "registry": "objects registered, searched and listed, writers beside readers, each beside its baseline",
    "curation": "what to label next beside random, planted label errors and pictures taken again",
    "residency": "leases on models at a full budget, phases in 8 GB, the pipeline, each beside the same without them",
    "deliberation": "the seven stages beside the provider's bare call, checks a second, plans of 200 held-out commands",
    "pace": "tasks done slower beside the same starts at full speed",
    "restart": "nodes that died: the heavy ones from the spare process and anew, the others beside an empty node",
    "replay": "a recorded run decided again, what the recorder costs, pictures to commands, the launch",
    "swapping": "the 40 Hz loop while a language model generates and models swap, beside the same loop without",
}
ON_REQUEST = (
    "curation",
    "answer",
    "retrieval",
    "detection",
    "labeling",
    "llm",
    "registry",
    "residency",
    "deliberation",
    "pace",
    "restart",
    "replay",
    "swapping",
)
"""Benchmarks of many minutes, that need an extra (llm), or beside the robot: they run only when they are named."""
_WHICH = f"Which: {', '.join(BENCHMARKS)}; none: the first 3."


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
        False, "--quick", help="Detection, labeling, registry, deliberation, pace, replay, restart: a part of it."
    ),
    bank: Path = typer.Option(None, help="Retrieval: folder of a bank of cases, made with practice."),
    bag: Path = typer.Option(None, help="Replay: run folder or bag to decide again, instead of a new one."),
    work: Path = typer.Option(None, help="Detection: folder that keeps the episodes for the next time."),
) -> None:
    """Measure the loop, the memory and the whole graph, each beside its baseline.

    The policy's success is measured by [bold]flow_rag_vla evaluate[/bold].

    [bold]Examples[/bold]

      flow_rag_vla bench                     everything, a minute each

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

      flow_rag_vla bench pace                about 3 minutes; with --quick one

      flow_rag_vla bench restart             about 2 minutes; with --quick one

      flow_rag_vla bench replay              about 3 minutes; with --quick 2

      flow_rag_vla bench swapping            about 3 minutes
    """
    from flow_rag_vla.evaluate.benchmarks import graph, llm, loop, memory, memory_answer, residency

    chosen = names or [name for name in BENCHMARKS if name not in ON_REQUEST]
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    console = Console()
    for name in chosen:
        console.print(f"\n[bold]{name}[/bold]: {BENCHMARKS[name]}")
        output = [] if json is None else ["--json", str(json / f"{name}.json")]
        if name == "detection":
            from flow_rag_vla.cli.bench_detection import bench_detection

            bench_detection(console, work, None if json is None else json / "detection.json", quick=quick)
        elif name == "labeling":
            from flow_rag_vla.cli.bench_labeling import bench_labeling

            bench_labeling(console, None if json is None else json / "labeling.json", quick=quick)
        elif name == "registry":
            from flow_rag_vla.cli.bench_registry import bench_registry

            bench_registry(console, None if json is None else json / "registry.json", objects, quick=quick, soak=soak)
        elif name == "retrieval":
            from flow_rag_vla.cli.bench_retrieval import bench_retrieval

            bench_retrieval(console, bank, None if json is None else json / "retrieval.json")
        elif name == "deliberation":
            from flow_rag_vla.cli.bench_deliberation import bench_deliberation

            bench_deliberation(console, None if json is None else json / "deliberation.json", quick=quick)
        elif name == "pace":
            from flow_rag_vla.cli.bench_pace import bench_pace

            bench_pace(console, None if json is None else json / "pace.json", quick=quick)
        elif name == "restart":
            from flow_rag_vla.cli.bench_restart import bench_restart

            bench_restart(console, None if json is None else json / "restart.json", quick=quick)
        elif name == "replay":
            from flow_rag_vla.cli.bench_replay import bench_replay

            bench_replay(console, None if json is None else json / "replay.json", bag, quick=quick)
        elif name == "swapping":
            from flow_rag_vla.cli.bench_swapping import bench_swapping

            bench_swapping(console, None if json is None else json / "swapping.json", seconds=seconds)
        elif name == "curation":
            from flow_rag_vla.cli.bench_curation import bench_curation

            bench_curation(console, None if json is None else json / "curation.json", quick=quick)
        elif name == "loop":
            loop.main(["--seconds", str(seconds), *output])
        elif name == "answer":
            memory_answer.main(output)
        elif name == "memory":
            memory.main(["--cases", str(cases), *output])
        elif name == "llm":
            llm.main(output)
        elif name == "residency":
            residency.main(output)
        else:
            graph.main(["--seconds", str(seconds), *output])
