# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of ``flow_rag_vla registry`` about what objects belong to: projects, sources and categories."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flow_rag_vla.cli.registry_opening import FILES, JSON, PROJECT, REGISTRY, opened_registry, working


def projects(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    add: str = typer.Option("", help="Add a project of this name; the registry is made if there is none."),
    closed: bool = typer.Option(False, "--closed", help="With --add: it takes objects of its own categories only."),
    description: str = typer.Option("", help="With --add: a few words."),
    as_json: bool = JSON,
) -> None:
    """List the projects, each with a vocabulary of its own, or add one.

    [bold]Examples[/bold]

      flow_rag_vla registry projects ~/labels

      flow_rag_vla registry projects ~/labels --add kitchen --description "cups and plates, autumn"
    """
    from dataclasses import asdict

    if not add and (closed or description):
        raise typer.BadParameter("--closed and --description say something of a project that --add adds")
    with opened_registry(registry, files, create=bool(add)) as opened, working("counting"):
        if add:
            opened.add_project(add, closed_vocabulary=closed, description=description)
        found = [(item, opened.statistics(item.name).objects) for item in opened.projects()]
    if as_json:
        typer.echo(json.dumps([{**asdict(item), "objects": objects} for item, objects in found]))
        return
    table = Table("project", "objects", "categories", "description")
    for item, objects in found:
        kept = "only its own" if item.closed_vocabulary else "new ones are added"
        table.add_row(escape(item.name), str(objects), kept, escape(item.description))
    Console().print(table)


def sources(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    limit: int = typer.Option(50, min=1, max=1_000, help="Sources to show."),
    after: str = typer.Option("", help="Go on after this one: the last id of the page before."),
    as_json: bool = JSON,
) -> None:
    """List what was labelled: folders, pictures, videos and bags, with their licences and ids.

    [bold]Examples[/bold]

      flow_rag_vla registry sources ~/labels

      flow_rag_vla registry sources ~/labels --project kitchen --json
    """
    from dataclasses import asdict

    with opened_registry(registry, files) as opened:
        found = opened.sources(project, limit=limit, after=after)
    if as_json:
        typer.echo(json.dumps([{**asdict(item), "kind": item.kind.value} for item in found]))
        return
    table = Table("source", "kind", "path", "project", "episode", "licence")
    for item in found:
        table.add_row(
            item.source_id, item.kind.value, escape(item.path), item.project, item.episode, item.licence or "unknown"
        )
    # An id that is cut cannot be copied.
    Console(width=max(Console().width, 140)).print(table)


def licence(
    registry: str = REGISTRY,
    text: str = typer.Argument(help="SPDX id such as CC-BY-4.0, or a few words."),
    source: list[str] = typer.Option(..., "--source", help="Id of the source; may be given again."),
    files: Path | None = FILES,
) -> None:
    """Say under which licence sources stand; the cards of datasets that are made from now on show it.

    [bold]Example[/bold]

      flow_rag_vla registry licence ~/labels CC-BY-4.0 --source 01a1fd2de09aaba2cd64ab8bd2ae9159
    """
    with opened_registry(registry, files) as opened:
        for source_id in source:
            made = opened.describe_source(source_id, licence=text)
            typer.echo(f"{made.path}: {made.licence or 'unknown'}")


def rename(
    registry: str = REGISTRY,
    name: str = typer.Argument(help="The category."),
    to: str = typer.Argument(help="Its new name; with --merge also that of another category."),
    files: Path | None = FILES,
    project: str = typer.Option("default", help="Whose category it is."),
    merge: bool = typer.Option(False, "--merge", help="Make its objects those of the other one."),
    who: str = typer.Option("flow_rag_vla registry", help="Who merges, as the history shows."),
) -> None:
    """Rename a category, or merge it into another one; the old word stays as a synonym.

    [bold]Examples[/bold]

      flow_rag_vla registry rename ~/labels cupp cup

      flow_rag_vla registry rename ~/labels pedestrian person --merge --who anna
    """
    with opened_registry(registry, files) as opened, working("renaming"):
        if merge:
            made = opened.merge_category(name, to, who=who, project=project)
        else:
            made = opened.rename_category(name, to, project=project)
    typer.echo(f"{made.name}: {made.objects} objects; {', '.join(made.synonyms)} mean the same")
