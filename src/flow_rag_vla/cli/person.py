# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla approve`` and ``flow_rag_vla score``: a person's word on plans and episodes of a running graph."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from flow_rag_vla.cli.asking import said_yes, somebody_there
from flow_rag_vla.cli.saying import complain

if TYPE_CHECKING:
    from flow_rag_vla.nodes.person import Person, Waiting

_LOOK_S = 0.2


def approve(
    person: str = typer.Option("", help="Your name in the log; empty: the user's."),
    namespace: str = typer.Option("", help="Namespace of the graph."),
) -> None:
    """Answer for plans that wait for a person, one after the other, until Ctrl-C.

    A plan that nobody says yes to is not done. Plans wait where the node deliberation runs: sim --with deliberation.

    [bold]Examples[/bold]

      flow_rag_vla approve

      flow_rag_vla approve --person ada --namespace left
    """
    console = Console(soft_wrap=True, highlight=False)
    if not somebody_there(console):
        complain(console, "approve asks a person: run it at a terminal")
        raise typer.Exit(2)
    from flow_rag_vla.nodes.person import Person

    try:
        with Person(namespace) as client:
            console.print("plans that wait for a person are shown here; Ctrl-C ends")
            while True:
                waiting = client.next_plan(_LOOK_S)
                if waiting is not None:
                    _ask(console, client, waiting, person or getpass.getuser())
    except KeyboardInterrupt:
        console.print()


def _ask(console: Console, client: Person, waiting: Waiting, person: str) -> None:
    from flow_rag_vla.nodes.person import PersonError

    review = waiting.review
    console.print(f"[bold]{escape(review.instruction)}[/bold]")
    for question in review.questions:
        console.print(f"[yellow]?[/yellow] {escape(question)}")
    steps = "; then ".join(step.instruction for step in review.plan.steps)
    slowest = min((step.speed_scale for step in review.plan.steps), default=1.0)
    pace = min(float(review.speed_scale), slowest)
    at = "" if pace >= 1.0 else f", at {pace:.0%} of the speed or more slowly"
    left = waiting.ends - time.monotonic()
    said = said_yes(console, f"do it: {escape(steps)}{at}", max(left, 0.0), waiting.closed)
    if waiting.closed.is_set():
        console.print("[yellow]no longer asked[/yellow]: it was answered, withdrawn or held")
        return
    try:
        # Silence is no word: the node holds the plan by itself.
        if said is not None:
            console.print(escape(client.answer(waiting, said, person)))
        else:
            console.print("[yellow]held[/yellow]: nobody answered in time")
    except PersonError as error:
        complain(console, error)


def score(
    outcome: str = typer.Argument(..., help="success or failure."),
    namespace: str = typer.Option("", help="Namespace of the graph."),
) -> None:
    """Judge the episode that runs on an arm, which no simulator can. Without a word it fails at its time limit.

    [bold]Examples[/bold]

      flow_rag_vla score success

      flow_rag_vla score failure --namespace left
    """
    if outcome not in ("success", "failure"):
        raise typer.BadParameter(f"{outcome!r} is no outcome; say success or failure")
    from flow_rag_vla.nodes.person import Person, PersonError

    console = Console(soft_wrap=True, highlight=False)
    try:
        with Person(namespace) as client:
            console.print(escape(client.score(outcome == "success")))
    except PersonError as error:
        complain(console, error)
        raise typer.Exit(1) from None
