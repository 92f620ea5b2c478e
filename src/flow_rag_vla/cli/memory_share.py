# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla memory export``, ``import`` and ``merge``: cases that go from robot to robot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from flow_rag_vla.cli.memory_database import CAPACITY, DATABASE, ORIGIN, PARAMS_FILE, PROFILE, guarding, opened
from flow_rag_vla.cli.progress import counted

if TYPE_CHECKING:
    from flow_rag_vla.memory.merging import MergeReport


def export(
    path: Path = typer.Argument(help="The .npz file to write."),
    database: Path = DATABASE,
    retired: bool = typer.Option(False, help="Retired cases too."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it is there."),
) -> None:
    """Write the cases to a file that another robot can import.

    [bold]Example[/bold]

      flow_rag_vla memory export left_arm.npz -d left_arm.db --retired
    """
    from flow_rag_vla.memory.exchange import export_cases

    with opened(database) as memory, counted("reading cases") as progress:
        count = export_cases(memory, path, include_retired=retired, overwrite=overwrite, progress=progress)
    typer.echo(f"{count} cases in {path}")


def import_(
    path: Path = typer.Argument(help="A file that export made."),
    database: Path = DATABASE,
    origin: str = typer.Option("", help="Name kept with each case; empty: the file's own."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would happen."),
    capacity: int = CAPACITY,
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
) -> None:
    """Take in the cases of a file. A database that is not there is made.

    A case that makes no sense, or that the guard stops, is refused with its reason; of the others all are stored or,
    if anything goes wrong, none.

    [bold]Examples[/bold]

      flow_rag_vla memory import left_arm.npz --dry-run

      flow_rag_vla memory import left_arm.npz -d right_arm.db --origin "left arm"

      flow_rag_vla memory import left_arm.npz --profile so101        tried against that arm's limits and workspace
    """
    from flow_rag_vla.memory.exchange import ExchangeError, import_cases, read_export
    from flow_rag_vla.memory.store import FailureStore, StoreError

    try:
        # Before anything is made: a wrong path must not leave an empty database.
        read_export(path)
        guarding(origin, params_file, profile)
        with _to_take(database, dry_run) as taking:
            FailureStore(taking).close()
            with (
                opened(taking, capacity, params_file=params_file, profile=profile) as memory,
                counted("trying cases") as progress,
            ):
                report = import_cases(memory, path, origin=origin, dry_run=dry_run, progress=progress)
            _say_merged(report, dry_run, "" if taking == database else f" into {database}, which would be made")
    except (ExchangeError, StoreError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def merge(
    other: Path = typer.Argument(help="The database to take cases from; it is only read."),
    database: Path = DATABASE,
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would happen."),
    capacity: int = CAPACITY,
    origin: str = ORIGIN,
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
) -> None:
    """Take in the cases of another robot's database. One that is to take them and is not there is made.

    Cases that say the same unite, with the credit of each robot kept apart; contradictions are settled and reported.
    Merging twice changes nothing.

    [bold]Example[/bold]

      flow_rag_vla memory merge left_arm.db -d fleet.db
    """
    from flow_rag_vla.memory.exchange import merge_store
    from flow_rag_vla.memory.store import FailureStore, StoreError

    try:
        # Before anything is made: a wrong path must not leave an empty database.
        FailureStore(other, create=False).close()
        guarding(origin, params_file, profile)
        with _to_take(database, dry_run) as taking:
            FailureStore(taking).close()
            with (
                opened(taking, capacity, origin, params_file=params_file, profile=profile) as memory,
                counted("trying cases") as progress,
            ):
                report = merge_store(memory, other, dry_run=dry_run, progress=progress)
            _say_merged(report, dry_run, "" if taking == database else f" into {database}, which would be made")
    except StoreError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


@contextmanager
def _to_take(database: Path, dry_run: bool) -> Iterator[Path]:
    """The database that takes the cases: for a dry run into one that is not there an empty one that does not stay.

    So what would be refused is found out there, too.
    """
    if dry_run and not database.expanduser().exists():
        with TemporaryDirectory(prefix="flow_rag_vla_") as folder:
            yield Path(folder) / "failure_memory.db"
    else:
        yield database


def _say_merged(report: MergeReport, dry_run: bool, where: str) -> None:
    verb = "would import" if dry_run else "imported"
    typer.echo(
        f"{verb} {report.imported} cases{where}, {report.duplicates} were known already"
        + (f", {report.united} of them brought something new" if report.united else "")
        + (f", {len(report.refused)} were refused" if report.refused else "")
    )
    for item in report.refused:
        typer.echo(f"refused {item}", err=True)
    for item in report.doubted:
        typer.echo(f"misreading left out: {item}", err=True)
    for conflict in report.conflicts:
        typer.echo(f"contradiction: {conflict}")
