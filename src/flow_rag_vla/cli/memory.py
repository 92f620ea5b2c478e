"""``flow_rag_vla memory``: look into a failure database and change it, whether or not the node runs.

The node notices within a second that the file was changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flow_rag_vla.core.failure import FailureType
    from flow_rag_vla.memory.memory import FailureMemory

DEFAULT_DATABASE = Path("~/.ros/flow_rag_vla/failure_memory.db")

app = typer.Typer(help="Look into a failure memory's database and change it.", no_args_is_help=True)

DATABASE = typer.Option(DEFAULT_DATABASE, "--database", "-d", help="The SQLite file.")
CAPACITY = typer.Option(10_000, min=1, help="Active cases that fit, as the node's parameter says.")


@contextmanager
def _opened(database: Path, capacity: int = 10_000_000) -> Iterator[FailureMemory]:
    """The memory on a database that exists; what it refuses becomes one line and exit code 1."""
    from flow_rag_vla.memory.case import CaseError
    from flow_rag_vla.memory.exchange import ExchangeError
    from flow_rag_vla.memory.index import NumpyIndex
    from flow_rag_vla.memory.memory import FailureMemory
    from flow_rag_vla.memory.results import MemorySettings
    from flow_rag_vla.memory.store import FailureStore, StoreError

    memory = None
    try:
        store = FailureStore(database, create=False)
        memory = FailureMemory(store, MemorySettings(capacity=capacity), NumpyIndex)
        yield memory
    except (CaseError, StoreError, ExchangeError, LookupError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    finally:
        if memory is not None:
            memory.close()


def _failure_type(name: str) -> FailureType:
    from flow_rag_vla.core.failure import FailureType

    try:
        return FailureType[name.upper()]
    except KeyError:
        known = ", ".join(item.name.lower() for item in FailureType)
        raise typer.BadParameter(f"{name!r} is no failure type; known: {known}") from None


def _when(created_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created_ns / 1e9))


@app.command("list")
def list_cases(
    database: Path = DATABASE,
    task: str = typer.Option("", help="Only this task."),
    phase: str = typer.Option("", help="Only this phase."),
    kind: list[str] = typer.Option([], "--type", help="Only this failure type; may be given again."),
    retired: bool = typer.Option(False, help="Retired cases too."),
    offset: int = typer.Option(0, min=0, help="Cases to skip."),
    limit: int = typer.Option(50, min=1, help="Cases to show."),
) -> None:
    """List cases, newest first."""
    from flow_rag_vla.memory.store import CaseFilter

    types = tuple(_failure_type(name) for name in kind)
    with _opened(database) as memory:
        total, cases = memory.page(CaseFilter(task, phase, types, retired), offset, limit)
    table = Table("case", "created", "type", "task", "phase", "correction", "uses", "credit", "origin", "note")
    for case in cases:
        name = f"{case.case_id} (retired)" if case.retired else str(case.case_id)
        uses = f"{case.successes}/{case.uses}"
        table.add_row(
            name,
            _when(case.created_ns),
            case.failure_type.name.lower(),
            case.task,
            case.phase,
            case.correction_source or "-",
            uses,
            f"{case.credit:.2f}",
            case.origin,
            case.note,
        )
    console = Console()
    console.print(table)
    console.print(f"{len(cases)} of {total} cases")


@app.command()
def show(case_id: int = typer.Argument(help="Number of the case."), database: Path = DATABASE) -> None:
    """Show everything about one case but its embedding."""
    with _opened(database) as memory:
        case = memory.get(case_id)
    table = Table(show_header=False)
    for name, value in (
        ("case", str(case.case_id)),
        ("created", _when(case.created_ns)),
        ("type", case.failure_type.name.lower()),
        ("task", case.task),
        ("phase", case.phase),
        ("encoder", str(case.stamp)),
        ("proprioception", " ".join(f"{value:.3f}" for value in case.proprioception) or "not known"),
        ("correction", case.correction_source or "not known"),
        ("uses", f"{case.uses}, {case.successes} of them in an episode that succeeded; credit {case.credit:.2f}"),
        ("retired", f"yes: {case.retired_reason}" if case.retired else "no"),
        ("origin", case.origin),
        ("note", case.note),
    ):
        table.add_row(name, value)
    for item in case.evidence:
        table.add_row(item.name, f"{item.value:.4g} {item.unit}, threshold {item.threshold:.4g}")
    console = Console()
    console.print(table)
    rows = Table("row", "dx mm", "dy mm", "dz mm", "roll", "pitch", "yaw", "grip", title="failed, then correction")
    for chunk in (case.failed_actions, case.correction):
        if chunk is not None:
            for number, row in enumerate(chunk.tolist()):
                metres = [f"{value * 1000:.2f}" for value in row[:3]]
                rows.add_row(str(number), *metres, *(f"{value:.3f}" for value in row[3:]))
            rows.add_section()
    console.print(rows)


@app.command()
def edit(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    kind: str | None = typer.Option(None, "--type", help="The right failure type."),
    note: str | None = typer.Option(None, help="A note for people."),
    correction: Path | None = typer.Option(
        None, help="What to do instead: a .npy or .csv file with as many rows of 7 as the failed chunk has."
    ),
    forget_correction: bool = typer.Option(False, "--forget-correction", help="Drop the correction."),
) -> None:
    """Change the type, the note or the correction of a case."""
    import numpy as np

    actions = None
    if correction is not None:
        try:
            if correction.suffix == ".npy":
                actions = np.load(correction, allow_pickle=False).astype(np.float32)
            else:
                actions = np.loadtxt(correction, delimiter=",", dtype=np.float32, ndmin=2)
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"{correction} cannot be read as rows of 7 numbers ({error})") from error
    failure_type = None if kind is None else _failure_type(kind)
    with _opened(database) as memory:
        memory.edit(
            case_id, correction=actions, forget_correction=forget_correction, failure_type=failure_type, note=note
        )
    typer.echo(f"case {case_id} changed")


@app.command()
def retire(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    reason: str = typer.Option("", help="Why, for people."),
    undo: bool = typer.Option(False, "--undo", help="Take it back into the searches."),
    capacity: int = CAPACITY,
) -> None:
    """Take a case out of every search; it stays on disk."""
    with _opened(database, capacity) as memory:
        memory.retire(case_id, not undo, reason)
    typer.echo(f"case {case_id} is {'active again' if undo else 'retired'}")


@app.command("export")
def export(
    path: Path = typer.Argument(help="The .npz file to write."),
    database: Path = DATABASE,
    retired: bool = typer.Option(False, help="Retired cases too."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it is there."),
) -> None:
    """Write the cases to a file that another robot can import."""
    from flow_rag_vla.memory.exchange import export_cases

    with _opened(database) as memory:
        count = export_cases(memory, path, include_retired=retired, overwrite=overwrite)
    typer.echo(f"{count} cases in {path}")


@app.command("import")
def import_(
    path: Path = typer.Argument(help="A file that export made."),
    database: Path = DATABASE,
    origin: str = typer.Option("", help="Name kept with each case; empty: the file's own."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would happen."),
    capacity: int = CAPACITY,
) -> None:
    """Store the cases of a file: all or, if anything is wrong, none. A database that is not there is made."""
    from flow_rag_vla.memory.exchange import ExchangeError, import_cases, read_cases
    from flow_rag_vla.memory.store import FailureStore, StoreError

    try:
        # Before anything is made: a wrong path must not leave an empty database.
        count = len(read_cases(path, origin))
        if dry_run and not database.expanduser().exists():
            typer.echo(f"would import {count} cases into {database}, which would be made")
            return
        FailureStore(database).close()
    except (ExchangeError, StoreError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    with _opened(database, capacity) as memory:
        report = import_cases(memory, path, origin=origin, dry_run=dry_run)
    verb = "would import" if dry_run else "imported"
    typer.echo(f"{verb} {report.imported} cases, {report.duplicates} were known already")


@app.command()
def stats(database: Path = DATABASE) -> None:
    """Say how many cases there are, of which kinds, and what their use was worth."""
    from flow_rag_vla.memory.store import CaseFilter

    with _opened(database) as memory:
        statistics = memory.statistics()
        groups: dict[str, list[int]] = {}
        for batch, _ in memory.store.summaries():
            for item in batch:
                if not item.retired:
                    counts = groups.setdefault(str(item.group), [0, 0, 0, 0])
                    for place, value in enumerate((1, int(item.has_correction), item.uses, item.successes)):
                        counts[place] += value
        calibration = memory.calibration
        newest = memory.page(CaseFilter(include_retired=True), 0, 1)[1]
    console = Console()
    stamp = statistics.stamp or "no encoder"
    console.print(f"{statistics.cases} active cases, {statistics.retired} retired, of {stamp}")
    if newest:
        console.print(f"newest: case {newest[0].case_id}, {_when(newest[0].created_ns)}")
    if calibration is not None:
        console.print(
            f"threshold {calibration.threshold:.4f}, calibrated on {calibration.scores} situations for a "
            f"false-retrieval rate of {calibration.rate:g}"
        )
    else:
        console.print("threshold not calibrated yet: the node's default holds")
    table = Table("task/phase/type", "cases", "with correction", "uses", "successes")
    for name in sorted(groups):
        table.add_row(name, *(str(value) for value in groups[name]))
    console.print(table)


@app.command()
def salvage(database: Path = DATABASE) -> None:
    """Save what is intact of a damaged database into a fresh file; the damaged one is kept beside it."""
    from flow_rag_vla.memory.salvage import salvage as save
    from flow_rag_vla.memory.store import CorruptStoreError, FailureStore, StoreError

    try:
        FailureStore(database, create=False).close()
    except CorruptStoreError as error:
        reason = str(error)
    except StoreError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    else:
        typer.echo(f"{database} is intact: nothing to do")
        return
    try:
        report = save(database, reason)
    except StoreError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{report.recovered} intact cases are in {report.path}; the damaged file is {report.kept}")
