# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla curate``: what to review next, likely mistakes, odd ones out, doubles and groups of a registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flow_rag_vla.labeling.curation.groups import Group, PoolGroups
    from flow_rag_vla.labeling.curation.pictures import PictureGroups
    from flow_rag_vla.labeling.curation.pool import Pool
    from flow_rag_vla.labeling.pipeline.images import Image
    from flow_rag_vla.labeling.registry.registry import Registry
    from flow_rag_vla.labeling.registry.values import ReviewState
    from flow_rag_vla.learn.progress import Progress

app = typer.Typer(
    help="What to review next, likely mistakes, odd ones out, near duplicates, and groups, of a registry of labels.",
    no_args_is_help=True,
)

REGISTRY = typer.Argument(help="The registry's folder, or postgresql://user:password@host/database.")
FILES = typer.Option(None, help="Folder of masks and index, where the registry is on a server.")
PROJECT = typer.Option("", help="Only this project.")
CATEGORY = typer.Option([], help="Only this category; may be given again.")
LIMIT = typer.Option(20, min=1, max=1_000, help="Rows to show.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")


@contextmanager
def _opened(location: str, files: Path | None) -> Iterator[Registry]:
    """A registry that exists; what it refuses becomes one line and exit code 1."""
    try:
        from flow_rag_vla.labeling.registry.errors import RegistryError
        from flow_rag_vla.labeling.registry.registry import Registry
    except ImportError as error:
        typer.echo(f"{error}; install it: pip install 'flow_rag_vla[labeling]'", err=True)
        raise typer.Exit(2) from error
    try:
        with Registry(location, files=files, create=False) as registry:
            yield registry
    except RegistryError as error:
        typer.echo(f"{error} [{error.code.value}]", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """A progress bar on standard error."""
    from flow_rag_vla.cli.progress import StageBars, progress_display

    with progress_display(Console(stderr=True)) as display:
        yield StageBars(display).bar(title)


def _read(registry: Registry, project: str, category: list[str] | None = None) -> Pool:
    from flow_rag_vla.labeling.curation.pool import read_pool
    from flow_rag_vla.labeling.registry.queries import ObjectFilter

    pool = read_pool(registry, ObjectFilter(project=project, categories=tuple(category or ())))
    if pool.without_vector:
        typer.echo(f"{pool.without_vector} objects have no vector and are left out", err=True)
    if not len(pool):
        typer.echo("no object has a vector: label with an embedder (flow_rag_vla label --registry ...)", err=True)
        raise typer.Exit(1)
    return pool


@app.command("next")
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
    with _opened(registry, files) as opened, _bar("Ranking") as progress:
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
    _print(table)
    typer.echo(f"{ranking.waiting} objects wait for a review, {ranking.judged} were judged")


@app.command()
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

    with _opened(registry, files) as opened, _bar("Comparing") as progress:
        pool = _read(opened, project)
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
    _print(table)


@app.command()
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
    with _opened(registry, files) as opened:
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
    _print(table)
    examples = {name or "rejected": count for name, count in found.examples.items()}
    counts = ", ".join(f"{name} {count}" for name, count in sorted(examples.items()))
    typer.echo(f"{len(other)} of {len(found.verdicts)} would be called otherwise; examples: {counts}")
    always = 100 * max(examples.values()) / sum(examples.values())
    typer.echo(f"{100 * found.told:.0f} % of the examples are told by the others; always the same word: {always:.0f} %")
    if added is not None:
        typer.echo(f"{added} were put beside their objects: review them with S on the page")


@app.command()
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

    with _opened(registry, files) as opened, _bar("Comparing") as progress:
        pool = _read(opened, project, category)
        scores = uniqueness(nearest_neighbours(pool.vectors, len(UNIQUENESS_WEIGHTS), progress=progress))
    rows = sorted(range(len(pool)), key=lambda row: (-scores[row], row))[:limit]
    if as_json:
        listed = [{"object_id": pool.object_ids[row], "uniqueness": float(scores[row])} for row in rows]
        typer.echo(json.dumps(listed))
        return
    table = Table("object", "category", "state", "unique")
    for row in rows:
        table.add_row(pool.object_ids[row], pool.labels[row], pool.states[row].value, f"{scores[row]:.2f}")
    _print(table)


@app.command()
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
    with _opened(registry, files) as opened:
        with _bar("Comparing pictures") as progress:
            pool = _read(opened, project)
            reader = _pixels_of(opened) if pixels else None
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
    _print(table)
    typer.echo(f"{len(found.duplicates)} of {len(found.image_ids)} pictures are near duplicates of one that is kept")
    if delete:
        typer.echo(f"{deleted} objects deleted by {who}; flow_rag_vla registry undo --who {who} takes back the last")


@app.command("groups")
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
    with _opened(registry, files) as opened:
        with _bar("Grouping") as progress:
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
    _print(table)
    typer.echo(f"{len(found.pool)} objects: {grouping.verdict()}")
    if grouping.tried:
        parts = f"{grouping.best} groups have a silhouette of {grouping.silhouette:.2f}"
        typer.echo(f"{parts}, clouds without groups one of at most {grouping.chance:.2f}; {MARGIN} more counts")
    if picture is not None:
        typer.echo(f"picture: {picture}")
    if name:
        typer.echo(f"{named} objects have their group in the attribute {name!r}, written by {who}")


_ORDERS = ("typical", "quality")
_SHOWN_IN_ROW = 12


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

    pixels = _pixels_of(registry)
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
    with _bar("Naming") as progress:
        for done, item in enumerate(registry.get_many(ids), 1):
            attributes = {**item.attributes, name: int(found.grouping.of[done - 1]) + 1}
            try:
                change = ObjectChange(attributes=attributes)
                registry.update(item.object_id, change, who=who, expected_version=item.version)
            except ConflictError:
                missed += 1
            progress(done, len(ids), "objects")
    return len(ids) - missed, missed


def _shown(found: PictureGroups, limit: int) -> list[str]:
    members = sorted(found.groups.members().items(), key=lambda item: (-len(item[1]), item[0]))
    return [found.image_ids[kept] for kept, _ in members[:limit]]


def _delete(registry: Registry, pool: Pool, found: PictureGroups, who: str) -> int:
    """Delete the objects of duplicate pictures in which nobody validated anything; give their number."""
    doubled = set(found.duplicates)
    judged = {name for name, state in zip(pool.image_ids, pool.states, strict=True) if state.validated}
    rows = [row for row, name in enumerate(pool.image_ids) if name in doubled - judged]
    with _bar("Deleting") as progress:
        for done, row in enumerate(rows, 1):
            registry.delete(pool.object_ids[row], who=who)
            progress(done, len(rows), "")
    return len(rows)


def _pixels_of(registry: Registry) -> Callable[[str], Image | None]:
    """What reads a registered picture; None for one that is gone or spoiled."""
    try:
        from flow_rag_vla.gateway.errors import GatewayError
        from flow_rag_vla.gateway.labeling.pictures import Pictures
    except ImportError as error:
        typer.echo(f"{error}; install it: pip install 'flow_rag_vla[web]', or compare with --no-pixels", err=True)
        raise typer.Exit(2) from error
    from flow_rag_vla.labeling.pipeline.errors import LabelingError

    pictures = Pictures()

    def read(image_id: str) -> Image | None:
        image = registry.image(image_id)
        try:
            return pictures.pixels(registry.source(image.source_id), image)
        except (GatewayError, LabelingError, OSError):
            return None

    return read


def _print(table: Table) -> None:
    # An id that is cut cannot be copied.
    Console(width=max(Console().width, 140)).print(table)
