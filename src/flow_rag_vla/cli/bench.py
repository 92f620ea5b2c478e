"""``flow_rag_vla bench``: the figures the project is held to, each beside a baseline of the same run."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

BENCHMARKS = {
    "loop": "the 40 Hz loop, fed, beside an empty timer",
    "memory": "search over 10,000 cases beside a plain scan; resident memory",
    "graph": "the loop and each stage's latency under the whole graph",
}


def complete_benchmark(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    return [name for name in BENCHMARKS if name.startswith(incomplete)]


def bench(
    names: list[str] = typer.Argument(
        None, help="Which: loop, memory, graph; none means all.", autocompletion=complete_benchmark
    ),
    seconds: float = typer.Option(60.0, min=5.0, help="Length of the loop's and of the graph's measurement."),
    cases: int = typer.Option(10_000, min=1_000, help="Cases of the memory's; other than 10000: the index at scale."),
    json: Path = typer.Option(None, help="Folder for the figures as JSON."),
) -> None:
    """Measure the loop, the memory and the whole graph, each beside its baseline.

    The policy's success is measured by [bold]flow_rag_vla evaluate[/bold].

    [bold]Examples[/bold]

      flow_rag_vla bench                     everything, a minute each

      flow_rag_vla bench graph --seconds 300

      flow_rag_vla bench memory --cases 1000000
    """
    from flow_rag_vla.evaluate.benchmarks import graph, loop, memory

    chosen = names or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    console = Console()
    for name in chosen:
        console.print(f"\n[bold]{name}[/bold]: {BENCHMARKS[name]}")
        output = [] if json is None else ["--json", str(json / f"{name}.json")]
        if name == "loop":
            loop.main(["--seconds", str(seconds), *output])
        elif name == "memory":
            memory.main(["--cases", str(cases), *output])
        else:
            graph.main(["--seconds", str(seconds), *output])
