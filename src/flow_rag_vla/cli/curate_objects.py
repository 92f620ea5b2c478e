# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla curate next``, ``mistakes``, ``classify`` and ``unique``: which objects to look at first."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.table import Table

from flow_rag_vla.cli.curate_registry import (
    CATEGORY,
    LIMIT,
    bar,
    pool_of,
    print_table,
)
from flow_rag_vla.cli.registry_opening import FILES, JSON, PROJECT, REGISTRY, opened_registry


def next_objects(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    category: list[str] = CATEGORY,
    limit: int = LIMIT,
    failures: bool = typer.Option(True, help="Objects from around the failures that the bags recorded come first."),
    as_json: bool = JSON,
) -> None:
    """List unreviewed objects, the most useful to review first.

    Frames from around a failure of the robot come first (topic failure_event of the bags that were labelled). Then each
    is the one whose uncertainty, typicality and distance to all that is known multiply to the most.

    [bold]Examples[/bold]

      flow_rag_vla curate next ~/labels

      flow_rag_vla curate next ~/labels --category cup --limit 100 --json
    """
    from dataclasses import asdict

    from flow_rag_vla.labeling.curation.failures import FailureWindows
    from flow_rag_vla.labeling.curation.queue import rank_next
    from flow_rag_vla.labeling.registry.queries import ObjectFilter

    where = ObjectFilter(project=project, categories=tuple(category))
    with opened_registry(registry, files) as opened, bar("Ranking") as progress:
        found = FailureWindows()
        windows = found.of(opened, project) if failures else ()
        ranking = rank_next(opened, where, budget=limit, windows=windows, progress=progress)
        objects = opened.get_many([item.object_id for item in ranking.items])
    for problem in found.problems:
        typer.echo(f"failures not read: {problem}", err=True)
    if as_json:
        typer.echo(json.dumps(asdict(ranking)))
        return
    table = Table("object", "category", "score", "unsure", "typical", "novel", "why first")
    for ranked, item in zip(ranking.items, objects, strict=True):
        shares = (f"{value:.2f}" for value in (ranked.uncertainty, ranked.typicality, ranked.novelty))
        table.add_row(item.object_id, item.category, f"{item.score:.2f}", *shares, ranked.reason)
    print_table(table)
    typer.echo(f"{ranking.waiting} objects wait for a review, {ranking.judged} were judged")


def mistakes(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    limit: int = LIMIT,
    validated: bool = typer.Option(False, "--validated", help="Only labels that a person stands behind."),
    neighbours: int = typer.Option(15, min=1, max=200, help="Look-alikes whose labels are asked."),
    as_json: bool = JSON,
) -> None:
    """List objects whose label disagrees with what looks alike and with the model's confidence.

    [bold]Examples[/bold]

      flow_rag_vla curate mistakes ~/labels

      flow_rag_vla curate mistakes ~/labels --validated --limit 100
    """
    import math

    from flow_rag_vla.labeling.curation.neighbours import nearest_neighbours
    from flow_rag_vla.labeling.curation.scores import mistakenness
    from flow_rag_vla.labeling.registry.values import ReviewState

    with opened_registry(registry, files) as opened, bar("Comparing") as progress:
        pool = pool_of(opened, project)
        found = mistakenness(pool, nearest_neighbours(pool.vectors, neighbours, progress=progress))
    rows = [
        row
        for row, state in enumerate(pool.states)
        if (state.validated if validated else state is not ReviewState.REJECTED)
    ]
    rows = sorted(rows, key=lambda row: (-found.score[row], row))[:limit]
    listed = [
        {
            "object_id": pool.object_ids[row],
            "category": pool.labels[row],
            "suggested": found.suggested[row],
            "score": float(found.score[row]),
            "neighbours": float(found.neighbours[row]),
            "model": None if math.isnan(found.model[row]) else float(found.model[row]),
            "state": pool.states[row].value,
        }
        for row in rows
    ]
    if as_json:
        typer.echo(json.dumps(listed))
        return
    table = Table("object", "category", "look-alikes say", "mistaken", "by neighbours", "by the model", "state")
    for item in listed:
        shares = ["-" if item[name] is None else f"{item[name]:.2f}" for name in ("score", "neighbours", "model")]
        table.add_row(
            str(item["object_id"]), str(item["category"]), str(item["suggested"]), *shares, str(item["state"])
        )
    print_table(table)


def classify(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    category: list[str] = CATEGORY,
    least: float = typer.Option(0.5, min=0.0, max=1.0, help="Least probability that is listed."),
    limit: int = LIMIT,
    write: bool = typer.Option(False, "--write", help="Put all of it beside the objects, for the review page (S)."),
    who: str = typer.Option("flow_rag_vla curate", help="Who writes, as the history shows."),
    as_json: bool = JSON,
) -> None:
    """Say what unreviewed objects are by a few that were judged: classes that the detector does not know.

    A small classifier on the vectors learns from what was accepted, relabelled and rejected. Listed is what it calls
    otherwise than the object is called now, the surest first. The objects stay what they are: with --write, each of its
    words stands beside the object until somebody takes it or takes it off.

    [bold]Examples[/bold]

      flow_rag_vla curate classify ~/labels --category gripper

      flow_rag_vla curate classify ~/labels --least 0.8 --write
    """
    from flow_rag_vla.labeling.curation.few_shot import classify as classified
    from flow_rag_vla.labeling.curation.few_shot import propose
    from flow_rag_vla.labeling.pipeline.errors import LabelingError
    from flow_rag_vla.labeling.registry.queries import ObjectFilter

    added = None
    with opened_registry(registry, files) as opened:
        try:
            found = classified(opened, ObjectFilter(project=project, categories=tuple(category)))
        except LabelingError as error:
            typer.echo(f"{error} [{error.code}]", err=True)
            raise typer.Exit(1) from error
        other = [one for one in found.verdicts if one.category != one.is_now and one.probability >= least]
        if write:
            added = propose(opened, other, found.revision, who=who)
    if as_json:
        listed = [
            {"object_id": one.object_id, "category": one.is_now, "says": one.category, "probability": one.probability}
            for one in other[:limit]
        ]
        typer.echo(json.dumps({"objects": listed, "examples": found.examples, "told": found.told, "written": added}))
        return
    table = Table("object", "category", "by the examples", "probability")
    for one in other[:limit]:
        table.add_row(one.object_id, one.is_now, one.category or "nothing", f"{one.probability:.2f}")
    print_table(table)
    examples = {name or "rejected": count for name, count in found.examples.items()}
    counts = ", ".join(f"{name} {count}" for name, count in sorted(examples.items()))
    typer.echo(f"{len(other)} of {len(found.verdicts)} would be called otherwise; examples: {counts}")
    always = 100 * max(examples.values()) / sum(examples.values())
    typer.echo(f"{100 * found.told:.0f} % of the examples are told by the others; always the same word: {always:.0f} %")
    if added is not None:
        typer.echo(f"{added} were put beside their objects: review them with S on the page")


def unique(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    category: list[str] = CATEGORY,
    limit: int = LIMIT,
    as_json: bool = JSON,
) -> None:
    """List the objects that are least like any other.

    [bold]Example[/bold]

      flow_rag_vla curate unique ~/labels --category cup
    """
    from flow_rag_vla.labeling.curation.neighbours import nearest_neighbours
    from flow_rag_vla.labeling.curation.scores import UNIQUENESS_WEIGHTS, uniqueness

    with opened_registry(registry, files) as opened, bar("Comparing") as progress:
        pool = pool_of(opened, project, category)
        scores = uniqueness(nearest_neighbours(pool.vectors, len(UNIQUENESS_WEIGHTS), progress=progress))
    rows = sorted(range(len(pool)), key=lambda row: (-scores[row], row))[:limit]
    if as_json:
        listed = [{"object_id": pool.object_ids[row], "uniqueness": float(scores[row])} for row in rows]
        typer.echo(json.dumps(listed))
        return
    table = Table("object", "category", "state", "unique")
    for row in rows:
        table.add_row(pool.object_ids[row], pool.labels[row], pool.states[row].value, f"{scores[row]:.2f}")
    print_table(table)
