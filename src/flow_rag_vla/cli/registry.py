# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla registry``: look into a registry of labelled objects, take back changes, find and repair damage."""

from __future__ import annotations

import json
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.registry_catalogue import licence, projects, rename, sources
from flow_rag_vla.cli.registry_opening import FILES, JSON, PROJECT, REGISTRY, opened_registry, working

if TYPE_CHECKING:
    from flow_rag_vla.labeling.registry.queries import SearchAnswer
    from flow_rag_vla.labeling.registry.values import LabelledObject

Word = TypeVar("Word", bound=Enum)

app = typer.Typer(
    help="Look into a registry of labelled objects, take back changes, find and repair damage.", no_args_is_help=True
)


def _when(stamp_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp_ns / 1e9)) if stamp_ns else "-"


def _plain(item: LabelledObject) -> dict[str, object]:
    return {
        "object_id": item.object_id,
        "project": item.project,
        "category": item.category,
        "image_id": item.image_id,
        "source_id": item.source_id,
        "box": list(item.box),
        "score": item.score,
        "score_kind": item.score_kind.value,
        "model": item.origin.model,
        "state": item.state.value,
        "validated_by": item.validated_by,
        "track_id": item.track_id,
        "attributes": dict(item.attributes),
        "version": item.version,
    }


@app.command()
def stats(registry: str = REGISTRY, files: Path | None = FILES, project: str = PROJECT, as_json: bool = JSON) -> None:
    """Count objects by category, review state and model.

    [bold]Examples[/bold]

      flow_rag_vla registry stats ~/labels

      flow_rag_vla registry stats ~/labels --project kitchen --json
    """
    from dataclasses import asdict

    with opened_registry(registry, files) as opened, working("counting"):
        found = opened.statistics(project)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    console = Console()
    console.print(
        f"{found.objects} objects in {found.images} images of {found.sources} sources, {found.tracks} tracks; "
        f"{found.with_mask} with a mask, {found.with_embedding} with a vector; mean score {found.mean_score:.2f}; "
        f"{100 * found.validated_share:.1f} % validated",
        highlight=False,
    )
    for title, counts in (("category", found.by_category), ("state", found.by_state), ("model", found.by_model)):
        table = Table(title, "objects")
        for name, count in counts.items():
            table.add_row(name, str(count))
        console.print(table)


@app.command()
def search(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    like: str = typer.Option("", help="Id of an object: show those that look most like it."),
    project: str = PROJECT,
    category: list[str] = typer.Option([], help="Only this category; may be given again."),
    state: list[str] = typer.Option([], help="unreviewed, accepted, rejected or relabelled; may be given again."),
    min_score: float = typer.Option(0.0, min=0.0, max=1.0, help="Only as sure as this."),
    min_area: float | None = typer.Option(None, min=0.0, help="Only boxes of so many square pixels."),
    max_area: float | None = typer.Option(None, min=0.0, help="Only boxes of at most so many square pixels."),
    attribute: list[str] = typer.Option(
        [], help="name=value, such as look=3 or pose=open; may be given again: then each must hold."
    ),
    order: str = typer.Option(
        "newest", help="newest, oldest, lowest_score, highest_quality and so on; not with --like."
    ),
    limit: int = typer.Option(20, min=1, max=1_000, help="Objects to show."),
    cursor: str = typer.Option("", help="Go on after a page: the cursor that it ended with."),
    index: str = typer.Option("faiss", help="faiss, chroma or exact, for --like."),
    as_json: bool = JSON,
) -> None:
    """List objects by a filter, or by how much they look like one.

    [bold]Examples[/bold]

      flow_rag_vla registry search ~/labels --category cup --state unreviewed --order lowest_score

      flow_rag_vla registry search ~/labels --category gripper --attribute look=2 --max-area 1024

      flow_rag_vla registry search ~/labels --like 01a1fd2de09aaba2cd64ab8bd2ae9159 --category mug
    """
    from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, parse_attributes
    from flow_rag_vla.labeling.registry.values import ReviewState

    states = tuple(_word(ReviewState, name, "--state") for name in state)
    chosen = _word(Order, order, "--order")
    with opened_registry(registry, files, index) as opened:
        where = ObjectFilter(
            project=project,
            categories=tuple(category),
            states=states,
            min_score=min_score or None,
            min_area=min_area,
            max_area=max_area,
            attributes=parse_attributes(attribute),
        )
        if like:
            with working("searching"):
                _show_similar(opened.similar(like, k=min(limit, 999), where=where), as_json)
            return
        page = opened.list_objects(where, order=chosen, limit=limit, cursor=cursor)
    if as_json:
        typer.echo(json.dumps({"objects": [_plain(item) for item in page.objects], "cursor": page.cursor}))
        return
    _show([(item, None) for item in page.objects])
    if page.cursor:
        typer.echo(f"more: --cursor {page.cursor}")


def _word(kind: type[Word], name: str, option: str) -> Word:
    """A word of an option; another one is refused with those that there are."""
    try:
        return kind(name)
    except ValueError as error:
        known = ", ".join(str(one.value) for one in kind)
        raise typer.BadParameter(f"{option} {name!r} is none of {known}") from error


def _show_similar(answer: SearchAnswer, as_json: bool) -> None:
    answered = answer.answered
    if as_json:
        hits = [{"similarity": hit.similarity, **_plain(hit.object)} for hit in answer.hits]
        typer.echo(json.dumps({"objects": hits, "way": answered.way.value, "reason": answered.reason}))
        return
    _show([(hit.object, hit.similarity) for hit in answer.hits])
    typer.echo(f"{answered.way.value}: {answered.reason}")


def _show(found: list[tuple[LabelledObject, float | None]]) -> None:
    similar = any(similarity is not None for _, similarity in found)
    table = Table(
        "object", "category", "score", "state", "by", "model", "registered", *(["similarity"] if similar else [])
    )
    for item, similarity in found:
        last = [] if similarity is None else [f"{similarity:.3f}"]
        table.add_row(
            item.object_id,
            item.category,
            f"{item.score:.2f}",
            item.state.value,
            item.validated_by,
            item.origin.model,
            _when(item.created_ns),
            *last,
        )
    # An id that is cut cannot be copied.
    Console(width=max(Console().width, 140)).print(table)


@app.command()
def history(
    object_id: str = typer.Argument(help="Id of the object."), registry: str = REGISTRY, files: Path | None = FILES
) -> None:
    """Show every change of an object, oldest first.

    [bold]Example[/bold]

      flow_rag_vla registry history 01a1fd2de09aaba2cd64ab8bd2ae9159 ~/labels
    """
    with opened_registry(registry, files) as opened:
        changes = opened.history(object_id)
    table = Table("change", "when", "who", "what", "before", "after", "")
    for change in changes:
        note = "taken back" if change.undone else f"takes back {change.undoes}" if change.undoes else ""
        before, after = (
            ", ".join(f"{name}: {value}" for name, value in values.items()) for values in (change.before, change.after)
        )
        table.add_row(str(change.change_id), _when(change.stamp_ns), change.who, change.kind.value, before, after, note)
    Console().print(table)


@app.command()
def undo(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    who: str = typer.Option(..., help="Who takes it back; without --change and --object the last change of this one."),
    change: int = typer.Option(None, help="Number of the change; the history of an object shows it."),
    object_id: str = typer.Option(None, "--object", help="Take back the last change of this object."),
) -> None:
    """Take back a change; what takes it back can itself be taken back.

    [bold]Examples[/bold]

      flow_rag_vla registry undo ~/labels --who anna

      flow_rag_vla registry undo ~/labels --who anna --change 1207
    """
    with opened_registry(registry, files) as opened:
        done = opened.undo(who=who, change_id=change, object_id=object_id)
    fields = ", ".join(f"{name}: {value}" for name, value in done.after.items())
    typer.echo(f"change {done.undoes} of object {done.object_id} is taken back by change {done.change_id}: {fields}")


@app.command()
def doctor(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    repair: bool = typer.Option(False, "--repair", help="Put right what can be."),
    grace: float = typer.Option(600.0, min=0.0, help="Seconds for which a file without an object is left alone."),
    as_json: bool = JSON,
) -> None:
    """Look for damaged pages, broken references, wrong vectors, lost and orphaned masks, and foreign indexes.

    Ends with 1 if something is wrong and was not repaired.

    [bold]Examples[/bold]

      flow_rag_vla registry doctor ~/labels

      flow_rag_vla registry doctor ~/labels --repair
    """
    from flow_rag_vla.labeling.registry.doctor import examine

    with opened_registry(registry, files) as opened, working("looking it over"):
        problems = examine(opened, repair=repair, grace_s=grace)
    left = [problem for problem in problems if not problem.repaired]
    if as_json:
        listed = [
            {
                "finding": problem.finding.value,
                "count": problem.count,
                "examples": problem.examples,
                "repaired": problem.repaired,
                "remedy": problem.remedy,
            }
            for problem in problems
        ]
        typer.echo(json.dumps(listed))
    for problem in [] if as_json else problems:
        done = "repaired" if problem.repaired else problem.remedy
        typer.echo(f"{problem.finding.value}: {problem.count} (such as {problem.examples[0]}): {done}")
    if not problems and not as_json:
        typer.echo("nothing is wrong")
    if left:
        raise typer.Exit(1)


@app.command()
def calibrate(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    output: Path = typer.Option(Path("calibration.json"), "--output", "-o", help="File to be written."),
    detector: str = typer.Option("", help="Whose scores, such as florence2; may be left out where one was judged."),
    revision: str = typer.Option("", help="Of its weights; may be left out where one was judged."),
    project: str = PROJECT,
) -> None:
    """Fit how often a detector is right at which score, to what people accepted, corrected and rejected.

    Labelling with --calibration then gives shares of correct ones as scores, and --threshold 0.95 keeps what is right
    in 95 of 100. Review what was found at a low threshold: of what is less sure nothing is known, and none is kept.

    [bold]Examples[/bold]

      flow_rag_vla registry calibrate ~/labels -o calibration.json

      flow_rag_vla registry calibrate ~/labels --detector florence2 -o florence2.json
    """
    from flow_rag_vla.labeling.pipeline.errors import LabelingError
    from flow_rag_vla.labeling.reviewed_scores import reviewed_scores

    with opened_registry(registry, files) as opened, working("reading what was judged"):
        try:
            found = reviewed_scores(opened, detector=detector, revision=revision, project=project)
            fitted = found.calibration()
            fitted.save(output)
        except LabelingError as error:
            typer.echo(f"{error} [{error.code}]", err=True)
            raise typer.Exit(1) from error
        except OSError as error:
            typer.echo(f"{output} cannot be written: {error.strerror}", err=True)
            raise typer.Exit(1) from error
    typer.echo(
        f"{len(found.scores)} judged of {found.detector} {found.revision} ({found.kind.value}), "
        f"{int(found.correct.sum())} right"
    )
    for share in (0.8, 0.9, 0.95, 0.99):
        least = fitted.threshold_for(share)
        typer.echo(
            f"{100 * share:.0f} % right: " + ("at no score" if least is None else f"from a score of {least:.3f} on")
        )
    typer.echo(f"{output}: flow_rag_vla label ... --calibration {output} --threshold 0.9")


@app.command()
def actions(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    output: Path = typer.Option(..., "--output", "-o", help="Folder to be written."),
    project: str = PROJECT,
) -> None:
    """Write what robots did with which objects, and what can be done with them, as lines of JSON.

    sequences.jsonl has a line for each action sequence: its steps, and its objects with role, class, box, frame and
    affordances. affordances.jsonl has one for each affordance, with its object.

    [bold]Example[/bold]

      flow_rag_vla registry actions ~/labels -o actions/
    """
    from flow_rag_vla.labeling.action_export import export_actions

    with opened_registry(registry, files) as opened, working("writing"):
        done = export_actions(opened, output, project=project)
    typer.echo(f"{done.sequences} action sequences and {done.affordances} affordances written to {output}")


@app.command()
def index(
    registry: str = REGISTRY,
    files: Path | None = FILES,
    kind: str = typer.Option("faiss", help="faiss, chroma or exact."),
) -> None:
    """Build the index for similar objects now and save it, so that who opens the registry next is quick.

    [bold]Example[/bold]

      flow_rag_vla registry index ~/labels
    """
    with opened_registry(registry, files, kind) as opened, working("building the index"):
        start = time.monotonic()
        opened.build_index()
        count = opened.statistics().with_embedding
    typer.echo(f"{count} vectors indexed in {time.monotonic() - start:.1f} s")


for command in (projects, sources, licence, rename):
    app.command()(command)
