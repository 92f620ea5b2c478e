# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla curate duplicates``: pictures that show the same, and what is to become of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from flow_rag_vla.cli.curate_registry import (
    LIMIT,
    bar,
    pixels_of,
    pool_of,
    print_table,
)
from flow_rag_vla.cli.registry_opening import FILES, JSON, PROJECT, REGISTRY, opened_registry

if TYPE_CHECKING:
    from flow_rag_vla.labeling.curation.pictures import PictureGroups
    from flow_rag_vla.labeling.curation.pool import Pool
    from flow_rag_vla.labeling.registry.registry import Registry


def duplicates(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    cosine: float = typer.Option(0.9, min=-1.0, max=1.0, help="Least similarity of each pair of things."),
    overlap: float = typer.Option(0.7, min=0.0, max=1.0, help="Least overlap of the boxes of each pair of things."),
    difference: float = typer.Option(
        0.15, min=0.0, max=1.0, help="Most by which any part of the pictures may differ in brightness or colour."
    ),
    pixels: bool = typer.Option(True, help="Look at the pictures; --no-pixels compares what was found in them alone."),
    delete: bool = typer.Option(False, "--delete", help="Delete the objects of the duplicates; an undo brings back."),
    who: str = typer.Option("curate", help="Who deletes, as the history shows it."),
    limit: int = LIMIT,
    as_json: bool = JSON,
) -> None:
    """Group the pictures that show the same things in the same places; one of each group is kept.

    Without --delete nothing is changed. Validated objects are never deleted.

    [bold]Examples[/bold]

      flow_rag_vla curate duplicates ~/labels

      flow_rag_vla curate duplicates ~/labels --delete --who anna
    """
    from flow_rag_vla.labeling.curation.pictures import Likeness, picture_duplicates

    likeness = Likeness(cosine=cosine, overlap=overlap, difference=difference)
    with opened_registry(registry, files) as opened:
        with bar("Comparing pictures") as progress:
            pool = pool_of(opened, project)
            reader = pixels_of(opened) if pixels else None
            found = picture_duplicates(pool, reader, likeness, progress=progress)
        deleted = _delete(opened, pool, found, who) if delete else 0
        names = {name: opened.image(name).name for name in _shown(found, limit)}
    if found.unread:
        typer.echo(f"{len(found.unread)} pictures could not be read and are kept, such as {found.unread[0]}", err=True)
    if as_json:
        groups = [
            {"kept": found.image_ids[kept], "duplicates": [found.image_ids[row] for row in rows]}
            for kept, rows in found.groups.members().items()
        ]
        typer.echo(json.dumps({"pictures": len(found.image_ids), "groups": groups, "deleted": deleted}))
        return
    table = Table("kept picture", "name", "stands for", "least alike")
    for kept in _shown(found, limit):
        place = found.image_ids.index(kept)
        rows = found.groups.members()[place]
        least = float(found.groups.similarities[rows].min())
        table.add_row(kept, names[kept], str(len(rows)), f"{least:.3f}")
    print_table(table)
    typer.echo(f"{len(found.duplicates)} of {len(found.image_ids)} pictures are near duplicates of one that is kept")
    if delete:
        typer.echo(f"{deleted} objects deleted by {who}; flow_rag_vla registry undo --who {who} takes back the last")


def _shown(found: PictureGroups, limit: int) -> list[str]:
    members = sorted(found.groups.members().items(), key=lambda item: (-len(item[1]), item[0]))
    return [found.image_ids[kept] for kept, _ in members[:limit]]


def _delete(registry: Registry, pool: Pool, found: PictureGroups, who: str) -> int:
    """Delete the objects of duplicate pictures in which nobody validated anything; give their number."""
    doubled = set(found.duplicates)
    judged = {name for name, state in zip(pool.image_ids, pool.states, strict=True) if state.validated}
    rows = [row for row, name in enumerate(pool.image_ids) if name in doubled - judged]
    with bar("Deleting") as progress:
        for done, row in enumerate(rows, 1):
            registry.delete(pool.object_ids[row], who=who)
            progress(done, len(rows), "")
    return len(rows)
