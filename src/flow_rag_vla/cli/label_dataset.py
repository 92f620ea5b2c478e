# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla label-dataset``: datasets of labelled pictures: built, exported, imported, compared."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flow_rag_vla.cli.moments import nanoseconds
from flow_rag_vla.cli.signals import INTERRUPTED

if TYPE_CHECKING:
    from flow_rag_vla.labeling.datasets.dataset import LabelDataset
    from flow_rag_vla.labeling.datasets.store import DatasetStore
    from flow_rag_vla.learn.progress import Progress

app = typer.Typer(
    help="Datasets of labelled pictures: built from a registry, exported, imported, compared.", no_args_is_help=True
)

REGISTRY = typer.Option(..., "--registry", "-r", help="The registry's folder, or postgresql://user:password@host/db.")
FILES = typer.Option(None, help="Folder of masks and datasets, where the registry is on a server.")
STORE = typer.Option(..., "--store", "-s", help="Folder of datasets, such as REGISTRY/datasets.")
DATASET = typer.Argument(help="A dataset's folder; or, with --store, name or name@vN (no version: the newest).")
IN_STORE = typer.Option(None, "--store", "-s", help="Folder of datasets in which the name is looked up.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")


@contextmanager
def _checked() -> Iterator[Console]:
    """What is refused becomes one line with its code and exit code 1; Ctrl-C ends with 130 and leaves nothing."""
    from flow_rag_vla.labeling.pipeline.errors import LabelingError
    from flow_rag_vla.labeling.registry.errors import RegistryError

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        yield console
    except (LabelingError, RegistryError) as error:
        code = error.code.value if isinstance(error, RegistryError) else error.code
        console.print(f"[red]{escape(str(error))} \\[{code}]")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("stopped; what was not finished was not kept")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Progress]:
    from flow_rag_vla.cli.progress import StageBars, progress_display

    with progress_display(console) as display:
        yield StageBars(display).bar(title[:28])


@app.command()
def build(
    name: str = typer.Argument(help="Of the dataset; its next version is made."),
    registry: str = REGISTRY,
    files: Path | None = FILES,
    project: str = typer.Option("", help="Only this project."),
    categories: list[str] = typer.Option([], "--category", "-c", help="Only these; several times."),
    min_score: float | None = typer.Option(None, min=0.0, max=1.0, help="Least score."),
    max_score: float | None = typer.Option(None, min=0.0, max=1.0, help="Greatest score."),
    validated: bool | None = typer.Option(None, "--validated/--not-validated", help="What a person stands behind."),
    min_area: float | None = typer.Option(None, min=0.0, help="Least area of a box, square pixels."),
    max_area: float | None = typer.Option(None, min=0.0, help="Greatest area of a box, square pixels."),
    attributes: list[str] = typer.Option(
        [], "--attribute", help="name=value, such as look=3; several times: then each must hold."
    ),
    sources: list[str] = typer.Option([], "--source", help="Only these sources (ids); several times."),
    episodes: list[str] = typer.Option([], "--episode", help="Only these episodes; several times."),
    since: str = typer.Option("", help="Pictures taken from this UTC time on, such as 2026-11-20T14:30."),
    until: str = typer.Option("", help="Pictures taken before this UTC time."),
    split: str = typer.Option("0.8,0.1,0.1", help="Shares of train, val and test."),
    seed: int = typer.Option(0, min=0, help="Of the splits: the same seed gives the same ones."),
    keep: bool = typer.Option(True, "--keep/--no-keep", help="Pictures of the version before stay in their splits."),
    apart: bool = typer.Option(
        False, "--apart", help="Pictures of a folder may be in different splits: each shows a scene of its own."
    ),
    link: bool = typer.Option(False, help="Links to the pictures instead of copies."),
    without_duplicates: bool = typer.Option(
        False, "--without-duplicates", help="Of pictures that show the same, take one; objects need vectors."
    ),
    who: str = typer.Option("flow_rag_vla label-dataset", help="Who makes it, as the card shows."),
) -> None:
    """Make the next version of a dataset from the objects of a registry that pass a filter.

    Pictures of one source, one episode or one track are never in two splits. A folder is one source, unless --apart
    says that its pictures were not taken in a row. Rejected objects are left out. The version lies in
    [bold]REGISTRY/datasets/NAME/vN[/bold], with its card; it is whole or absent, and never changes.

    [bold]Examples[/bold]

      flow_rag_vla label-dataset build cups --registry ~/labels --category cup --validated

      flow_rag_vla label-dataset build all -r ~/labels --min-score 0.6 --split 0.7,0.2,0.1 --seed 3

      flow_rag_vla label-dataset build photographs -r ~/labels --apart --without-duplicates

      flow_rag_vla label-dataset build today -r ~/labels --since 2026-11-20 --split 1,0,0

      flow_rag_vla label-dataset build film -r ~/labels --without-duplicates --split 1,0,0
    """
    from flow_rag_vla.labeling.datasets.splits import parse_ratios
    from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
    from flow_rag_vla.labeling.registry.queries import ObjectFilter, parse_attributes
    from flow_rag_vla.labeling.registry.registry import Registry

    with _checked() as console:
        where = ObjectFilter(
            project=project,
            categories=tuple(categories),
            min_score=min_score,
            max_score=max_score,
            validated=validated,
            source_ids=tuple(sources),
            episodes=tuple(episodes),
            captured_from_ns=nanoseconds(since, "--since"),
            captured_until_ns=nanoseconds(until, "--until"),
            min_area=min_area,
            max_area=max_area,
            attributes=parse_attributes(attributes),
        )
        order = DatasetOrder(name, where, parse_ratios(split), seed, keep, link, without_duplicates, apart)
        with Registry(registry, files=files, create=False) as opened, _bar(console, name) as bar:
            made = DatasetStore.of(opened).build(opened, order, who=who, progress=bar)
        _tell(made)


def _tell(made: LabelDataset) -> None:
    from flow_rag_vla.labeling.curation.pictures import LEFT_OUT
    from flow_rag_vla.labeling.datasets.dataset import Split

    counts = ", ".join(f"{split.value} {len(made.of_split(split))}" for split in Split)
    typer.echo(f"{made.label}: {len(made.items)} pictures ({counts}), {made.annotation_count} annotations")
    if LEFT_OUT in made.provenance:
        typer.echo(f"left out: {made.provenance[LEFT_OUT]} pictures that show what another one shows")
    typer.echo(f"written to {made.images.parent}")


@app.command("list")
def list_(store: Path = STORE, as_json: bool = JSON) -> None:
    """List the versions of the datasets in a folder.

    [bold]Example[/bold]

      flow_rag_vla label-dataset list --store ~/labels/datasets
    """
    from flow_rag_vla.labeling.datasets.store import DatasetStore

    with _checked():
        found = DatasetStore(store).versions()
    if as_json:
        rows = [
            {
                "name": one.name,
                "version": one.version,
                "created_ns": one.created_ns,
                "images": {split.value: count for split, count in one.images.items()},
                "annotations": one.annotations,
                "categories": one.categories,
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("dataset", "made (UTC)", "train", "val", "test", "annotations", "categories")
    for one in found:
        made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.created_ns / 1e9))
        counts = [str(count) for count in one.images.values()]
        table.add_row(one.label, made, *counts, str(one.annotations), escape(", ".join(one.categories)[:60]))
    Console().print(table if found else f"there is no dataset in {store}")


@app.command()
def export(
    dataset: str = DATASET,
    kind: str = typer.Option("yolo", "--format", "-f", help="See the command formats."),
    to: Path = typer.Option(..., "--to", help="Folder to be made; must not exist. A name with .zip: one file."),
    store: Path | None = IN_STORE,
) -> None:
    """Write a dataset in a format of others, with its pictures and its card: whole, or not at all.

    [bold]Examples[/bold]

      flow_rag_vla label-dataset export ~/labels/datasets/cups/v1 --format yolo --to cups_yolo

      flow_rag_vla label-dataset export cups@v1 --store ~/labels/datasets --format coco --to cups.zip
    """
    import tempfile

    from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
    from flow_rag_vla.labeling.datasets.exchange import export_dataset, zip_folder

    with _checked() as console:
        found = _named(dataset, store)
        with _bar(console, f"{found.label} as {kind}") as bar:
            if to.suffix != ".zip":
                export_dataset(found, kind, to, progress=bar)
            elif to.exists():
                raise DatasetError(f"{to} exists already: choose another name, or remove it", "dataset_exists")
            else:
                with disk_checked(to):
                    to.parent.mkdir(parents=True, exist_ok=True)
                    with tempfile.TemporaryDirectory(prefix=".export_", dir=to.parent) as folder:
                        zip_folder(export_dataset(found, kind, Path(folder) / "export", progress=bar), to)
        typer.echo(f"{found.label} as {kind}: {len(found.items)} pictures, {found.annotation_count} annotations: {to}")


@app.command("import")
def import_(
    path: Path = typer.Argument(help="Folder or file that somebody wrote."),
    name: str = typer.Option(..., help="Of the dataset that it becomes; its next version is made."),
    kind: str = typer.Option(..., "--format", "-f", help="See the command formats."),
    store: Path = STORE,
    registry: str = typer.Option("", "--registry", "-r", help="Register the pictures and objects as well."),
    files: Path | None = FILES,
    project: str = typer.Option("default", help="Of the registry."),
    who: str = typer.Option("flow_rag_vla label-dataset", help="Who registers them."),
) -> None:
    """Take in what somebody wrote in another format, as the next version of a dataset, and register it if asked.

    [bold]Examples[/bold]

      flow_rag_vla label-dataset import downloads/cups --format yolo --name cups --store ~/labels/datasets

      flow_rag_vla label-dataset import export.json -f label-studio --name cups -s ~/labels/datasets -r ~/labels
    """
    from flow_rag_vla.labeling.datasets.exchange import import_dataset
    from flow_rag_vla.labeling.datasets.registering import register_dataset
    from flow_rag_vla.labeling.datasets.store import DatasetStore
    from flow_rag_vla.labeling.registry.registry import Registry

    with _checked() as console:
        found = import_dataset(path, kind, name)
        try:
            with _bar(console, f"{name} from {kind}") as bar:
                made = DatasetStore(store).add(found.dataset, files=found.files, progress=bar)
        finally:
            found.close()
        _tell(made)
        if registry:
            with Registry(registry, files=files) as opened, _bar(console, "registering") as bar:
                done = register_dataset(opened, made, who=who, project=project, progress=bar)
            typer.echo(f"registered: {done.sources} sources, {done.images} pictures, {done.objects} objects")


@app.command()
def diff(
    old: str = typer.Argument(help="A dataset's folder; or, with --store, name@vN."),
    new: str = typer.Argument(help="The other one."),
    store: Path | None = IN_STORE,
    as_json: bool = JSON,
) -> None:
    """Tell what changed between two versions: pictures and labels added, removed, changed.

    [bold]Example[/bold]

      flow_rag_vla label-dataset diff cups@v1 cups@v2 --store ~/labels/datasets
    """
    from dataclasses import asdict

    from flow_rag_vla.labeling.datasets.diff import diff as compare
    from flow_rag_vla.labeling.datasets.diff import diff_text

    with _checked():
        found = compare(_named(old, store), _named(new, store))
    typer.echo(json.dumps(asdict(found), ensure_ascii=False) if as_json else diff_text(found))


@app.command()
def card(dataset: str = DATASET, store: Path | None = IN_STORE) -> None:
    """Print a dataset's card: counts, classes, provenance, sources and licences.

    [bold]Example[/bold]

      flow_rag_vla label-dataset card cups --store ~/labels/datasets
    """
    from flow_rag_vla.labeling.datasets.card import card_text

    with _checked():
        typer.echo(card_text(_named(dataset, store)), nl=False)


@app.command()
def check(dataset: str = DATASET, store: Path | None = IN_STORE) -> None:
    """Read a dataset whole and compare every file with its digest.

    [bold]Example[/bold]

      flow_rag_vla label-dataset check ~/labels/datasets/cups/v1
    """
    from flow_rag_vla.labeling.datasets.folders import read_dataset

    with _checked():
        found = _named(dataset, store)
        read_dataset(found.images.parent, verify=True)
    typer.echo(f"{found.label} is sound: {len(found.items)} pictures, {found.annotation_count} annotations")


@app.command()
def formats() -> None:
    """List the formats, and what each cannot hold.

    [bold]Example[/bold]

      flow_rag_vla label-dataset formats
    """
    from flow_rag_vla.labeling.datasets.exchange import FORMATS

    table = Table("format", "what it is", "what is lost")
    for one in FORMATS.values():
        table.add_row(one.name, one.about, one.loses or "nothing")
    Console().print(table)


def _named(dataset: str, store: Path | None) -> LabelDataset:
    """A dataset by its folder, or by ``name@vN`` in a store."""
    from flow_rag_vla.labeling.datasets.folders import read_dataset
    from flow_rag_vla.labeling.datasets.store import DatasetStore
    from flow_rag_vla.labeling.datasets.summaries import parse_label

    if store is None:
        return read_dataset(dataset)
    found: DatasetStore = DatasetStore(store)
    return found.get(*parse_label(dataset))
