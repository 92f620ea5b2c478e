# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla curate groups``: objects that look alike, as a table, as a picture, and under a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from flow_rag_vla.cli.curate_registry import (
    CATEGORY,
    LIMIT,
    bar,
    pixels_of,
    print_table,
)
from flow_rag_vla.cli.registry_opening import FILES, JSON, PROJECT, REGISTRY, opened_registry

if TYPE_CHECKING:
    from flow_rag_vla.labeling.curation.groups import Group, PoolGroups
    from flow_rag_vla.labeling.pipeline.images import Image
    from flow_rag_vla.labeling.registry.registry import Registry
    from flow_rag_vla.labeling.registry.values import ReviewState

_ORDERS = ("typical", "quality")
_SHOWN_IN_ROW = 12


def look_groups(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = PROJECT,
    category: list[str] = CATEGORY,
    state: list[str] = typer.Option([], help="Only this state of review; may be given again. Usual: not the rejected."),
    groups: int | None = typer.Option(None, min=1, max=200, help="How many; left out: as many as there are."),
    members: int = typer.Option(5, min=0, help="Objects to list of each group in JSON and to show in a row; 0: all."),
    order: str = typer.Option("typical", help="What comes first in a group: typical or quality."),
    picture: Path | None = typer.Option(None, help="PNG with a row of its objects for each group."),
    name: str = typer.Option("", help="Write the group's number to this attribute of each object."),
    who: str = typer.Option("curate", help="Who writes it, as the history shows it."),
    seed: int = typer.Option(0, min=0, help="Of what is drawn by chance."),
    limit: int = LIMIT,
    as_json: bool = JSON,
) -> None:
    """Sort objects into groups that look alike, the largest first, and say whether there are any.

    What looks alike is what the embedder holds for alike: see docs/curation.md before you give groups names. Without
    --name nothing is changed. Rejected objects are left out unless --state asks for them.

    [bold]Examples[/bold]

      flow_rag_vla curate groups ~/labels --category hand --picture hands.png

      flow_rag_vla curate groups ~/labels --category hand --groups 4 --name look --who anna

      flow_rag_vla curate groups ~/labels --category hand --order quality --members 0 --json
    """
    from flow_rag_vla.labeling.curation.groups import MARGIN, group_objects
    from flow_rag_vla.labeling.registry.queries import ObjectFilter

    if order not in _ORDERS:
        raise typer.BadParameter(f"{order!r}, expected one of {', '.join(_ORDERS)}", param_hint="--order")
    where = ObjectFilter(project=project, categories=tuple(category), states=_states(state))
    with opened_registry(registry, files) as opened:
        with bar("Grouping") as progress:
            found = group_objects(opened, where, groups, seed=seed, progress=progress)
        if found.pool.without_vector:
            typer.echo(f"{found.pool.without_vector} objects have no vector and are left out", err=True)
        listed = [_group_told(found, place, order, members) for place in range(min(limit, len(found.grouping.groups)))]
        if picture is not None:
            _draw_groups(opened, found, order, limit, members, picture)
        named, changed = _name_groups(opened, found, name, who) if name else (0, 0)
    if changed:
        typer.echo(f"{changed} objects were changed meanwhile and left as they are; run the same again", err=True)
    grouping = found.grouping
    if as_json:
        document = {
            "objects": len(found.pool),
            "groups": len(grouping.groups),
            "strength": grouping.strength.value,
            "silhouette": grouping.silhouette,
            "chance": grouping.chance,
            "tried": dict(grouping.tried),
            "compared": grouping.compared,
            "named": named,
            "items": listed,
        }
        typer.echo(json.dumps(document))
        return
    table = Table("group", "objects", "mostly", "silhouette", "spread", "most typical", "most unusual")
    for item in listed:
        mostly = f"{item['mostly']} ({100 * item['mostly_share']:.0f} %)"
        shares = f"{item['silhouette']:.2f}", f"{item['spread']:.2f}"
        odd = item["unusual"][0] if item["unusual"] else "-"
        table.add_row(str(item["group"]), str(item["objects"]), mostly, *shares, item["medoid"], odd)
    print_table(table)
    typer.echo(f"{len(found.pool)} objects: {grouping.verdict()}")
    if grouping.tried:
        parts = f"{grouping.best} groups have a silhouette of {grouping.silhouette:.2f}"
        typer.echo(f"{parts}, clouds without groups one of at most {grouping.chance:.2f}; {MARGIN} more counts")
    if picture is not None:
        typer.echo(f"picture: {picture}")
    if name:
        typer.echo(f"{named} objects have their group in the attribute {name!r}, written by {who}")


def _states(words: list[str]) -> tuple[ReviewState, ...]:
    from flow_rag_vla.labeling.registry.values import ReviewState

    known = [state.value for state in ReviewState]
    for word in words:
        if word not in known:
            raise typer.BadParameter(f"{word!r}, expected one of {', '.join(known)}", param_hint="--state")
    return tuple(ReviewState(word) for word in words)


def _in_order(found: PoolGroups, group: Group, order: str, count: int) -> list[int]:
    rows = found.by_quality(group) if order == "quality" else group.rows
    return [int(row) for row in (rows[:count] if count else rows)]


def _group_told(found: PoolGroups, place: int, order: str, members: int) -> dict[str, Any]:
    group = found.grouping.groups[place]
    ids = found.pool.object_ids
    label, share = found.commonest_label(group)
    return {
        "group": place + 1,
        "objects": len(group),
        "mostly": label,
        "mostly_share": share,
        "silhouette": group.silhouette,
        "spread": group.spread,
        "medoid": ids[group.medoid],
        "members": [ids[row] for row in _in_order(found, group, order, members)],
        "unusual": [ids[row] for row in group.unusual(members or 5).tolist()],
    }


def _draw_groups(registry: Registry, found: PoolGroups, order: str, limit: int, members: int, path: Path) -> None:
    from flow_rag_vla.core.files import replaced_file
    from flow_rag_vla.labeling.curation.contact_sheet import SheetRow, contact_sheet, surroundings

    pixels = pixels_of(registry)
    pool = found.pool

    def crop(row: int) -> Image | None:
        image = pixels(pool.image_ids[row])
        return None if image is None else surroundings(image, pool.boxes[row].tolist())

    count = min(members or _SHOWN_IN_ROW, _SHOWN_IN_ROW)
    rows = []
    for place, group in enumerate(found.grouping.groups[:limit], 1):
        label, share = found.commonest_label(group)
        title = (f"group {place}", f"{len(group)} objects", f"{label} {100 * share:.0f} %")
        rows.append(SheetRow(title, [crop(row) for row in _in_order(found, group, order, count)]))
    try:
        with replaced_file(path) as temporary:
            contact_sheet(rows, count).save(temporary, "PNG")
    except OSError as error:
        typer.echo(f"{path} cannot be written: {error.strerror or error}; name another place with --picture", err=True)
        raise typer.Exit(2) from error


def _name_groups(registry: Registry, found: PoolGroups, name: str, who: str) -> tuple[int, int]:
    """Write each object's group to an attribute; how many have it, and how many changed meanwhile."""
    from flow_rag_vla.labeling.registry.errors import ConflictError
    from flow_rag_vla.labeling.registry.values import ObjectChange

    ids = found.pool.object_ids
    missed = 0
    with bar("Naming") as progress:
        for done, item in enumerate(registry.get_many(ids), 1):
            attributes = {**item.attributes, name: int(found.grouping.of[done - 1]) + 1}
            try:
                change = ObjectChange(attributes=attributes)
                registry.update(item.object_id, change, who=who, expected_version=item.version)
            except ConflictError:
                missed += 1
            progress(done, len(ids), "objects")
    return len(ids) - missed, missed
