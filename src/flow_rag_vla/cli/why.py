# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla why``: what made one command."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import warn


def why(
    run: Path = typer.Argument(..., help="Run folder, bag folder or .mcap file."),
    tick: str = typer.Argument(..., help="A tick's number, a time such as 12.5s, failure:N or episode:N."),
    html: Path | None = typer.Option(None, "--html", help="Also write a page with the pictures to this file."),
    frames: Path | None = typer.Option(None, "--frames", help="Also save the pictures as PNG in this folder."),
    checkpoint: str = typer.Option("", help="Policy checkpoint; empty: the one that the run used."),
    memory: str = typer.Option("", help="Failure memory that knows where corrections came from; empty: the run's."),
    namespace: str = typer.Option("", help="Namespace of the graph, if the bag holds several."),
) -> None:
    """Explain one command: observation, chunk, cases, guidance and what would have been without, arbiter and limits.

    The chunk is sampled again from the recorded observation and the loop is run again up to the tick; the last lines
    say whether both came out bit for bit as recorded.

    [bold]Examples[/bold]

      flow_rag_vla why runs/2026-01-31_12-00-00 failure:1 --html why.html

      flow_rag_vla why runs/2026-01-31_12-00-00 412
    """
    console = Console(soft_wrap=True, highlight=False)
    from flow_rag_vla.bringup.replay_settings import replay_settings
    from flow_rag_vla.core.files import write_text
    from flow_rag_vla.data.bag import BagError
    from flow_rag_vla.evaluate.decisions.explanation import TickError, explain, find_tick
    from flow_rag_vla.evaluate.decisions.reading import read_recording
    from flow_rag_vla.evaluate.decisions.why_page import why_page
    from flow_rag_vla.evaluate.decisions.why_text import headline, sections
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.policy import FlowPolicy

    if memory and not Path(memory).expanduser().is_file():
        raise typer.BadParameter(f"--memory {memory} is not there; name a database, or leave it out for the run's own")
    try:
        recording = read_recording(run, namespace)
        index, failure = find_tick(recording, tick)
    except (BagError, TickError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    settings = replay_settings(recording)
    policy = None
    try:
        policy = FlowPolicy.load(checkpoint or settings.checkpoint or None)
    except CheckpointError as error:
        warn(console, f"chunks are not made again: {error}")
    found = explain(
        recording,
        index,
        policy,
        policy_settings=settings.policy,
        loop_settings=settings.loop,
        database=memory or settings.database,
        failure=failure,
    )
    console.print(f"[bold]{headline(found)}[/bold]")
    for section in sections(found):
        console.print(f"\n[bold cyan]{section.title}[/bold cyan]")
        for sentence in section.sentences:
            console.print(f"  {sentence}", markup=False)
    for note in settings.notes:
        warn(console, note)
    if frames is not None:
        from PIL import Image

        if not found.frames:
            warn(console, f"{frames}: there are no pictures to save, as no observation stands behind this command")
        for camera, pixels in found.frames.items():
            frames.mkdir(parents=True, exist_ok=True)
            path = frames / f"tick_{found.command.tick}_{camera}.png"
            Image.fromarray(pixels).save(path)
            console.print(str(path))
    if html is not None:
        write_text(html, why_page(found, f"{recording.path}"))
        console.print(str(html))
