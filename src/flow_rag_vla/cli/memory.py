"""``flow_rag_vla memory``: look into a failure database and change it, whether or not the node runs.

The node notices within a second that the file was changed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.progress import counted

if TYPE_CHECKING:
    from flow_rag_vla.core.failure import FailureType
    from flow_rag_vla.memory.case import FailureCase
    from flow_rag_vla.memory.credit import UseRecord
    from flow_rag_vla.memory.images import CaseImage
    from flow_rag_vla.memory.memory import FailureMemory
    from flow_rag_vla.memory.merging import MergeReport, Refused

DEFAULT_DATABASE = Path("~/.ros/flow_rag_vla/failure_memory.db")

app = typer.Typer(
    help="Look into a failure memory's database, change it, and share it between robots.", no_args_is_help=True
)

DATABASE = typer.Option(DEFAULT_DATABASE, "--database", "-d", help="The SQLite file.")
CAPACITY = typer.Option(10_000, min=1, help="Active cases that fit, as the node's parameter says.")
ORIGIN = typer.Option("", help="Name of who makes the change; empty: this host.")


@contextmanager
def _opened(database: Path, capacity: int = 10_000_000, origin: str = "") -> Iterator[FailureMemory]:
    """The memory on a database that exists; what it refuses becomes one line and exit code 1."""
    from flow_rag_vla.bringup.memory_settings import memory_settings
    from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
    from flow_rag_vla.memory.case import CaseError
    from flow_rag_vla.memory.exchange import ExchangeError
    from flow_rag_vla.memory.index import NumpyIndex
    from flow_rag_vla.memory.memory import FailureMemory
    from flow_rag_vla.memory.store import FailureStore, StoreError

    memory = None
    try:
        store = FailureStore(database, create=False)
        parameters = FailureMemoryParameters(origin=origin or socket.gethostname())
        settings = memory_settings(parameters, capacity)
        memory = FailureMemory(store, settings, NumpyIndex)
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
    """List cases, newest first.

    [bold]Examples[/bold]

      flow_rag_vla memory list --task push --type drop

      flow_rag_vla memory list -d runs/latest/failure_memory.db --retired
    """
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
def show(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    images: Path | None = typer.Option(None, help="Folder to write its pictures to."),
) -> None:
    """Show everything about one case but its embedding: evidence, worth, uses, history.

    [bold]Example[/bold]

      flow_rag_vla memory show 12 --images pictures/
    """
    with _opened(database) as memory:
        case = memory.get(case_id)
        worth, uses = memory.worth(case), memory.ledger.uses(case_id, 20)
        pictures = memory.ledger.images(case_id)
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
        (
            "misread by",
            "not known"
            if case.misreading is None
            else " ".join(f"{1e3 * value:+.0f}" for value in case.misreading) + " mm (x y z)",
        ),
        ("uses", f"{case.uses}, {case.successes} of them in an episode that succeeded; credit {case.credit:.2f}"),
        *((f"uses of {item.origin or 'unnamed'}", f"{item.uses}, {item.successes} succeeded") for item in case.shares),
        ("worth", str(worth)),
        ("calibration", case.calibration_id or "none was in force"),
        ("identity", case.uid),
        ("pictures", ", ".join(f"{item.name}.{item.format}" for item in pictures) or "none"),
        ("retired", f"yes: {case.retired_reason}" if case.retired else "no"),
        ("origin", case.origin),
        ("note", case.note),
    ):
        table.add_row(name, value)
    for item in case.evidence:
        table.add_row(item.name, f"{item.value:.4g} {item.unit}, threshold {item.threshold:.4g}")
    console = Console()
    console.print(table)
    console.print(_chunks(case))
    if uses:
        console.print(_uses(uses))
    for change in case.history:
        console.print(f"{_when(change.stamp_ns)}  {change.change} by {change.origin or 'unnamed'}: {change.detail}")
    if images is not None:
        _write_pictures(pictures, images, case_id)


def _chunks(case: FailureCase) -> Table:
    rows = Table("row", "dx mm", "dy mm", "dz mm", "roll", "pitch", "yaw", "grip", title="failed, then correction")
    for chunk in (case.failed_actions, case.correction):
        if chunk is not None:
            for number, row in enumerate(chunk.tolist()):
                millimetres = [f"{value * 1000:.2f}" for value in row[:3]]
                rows.add_row(str(number), *millimetres, *(f"{value:.3f}" for value in row[3:]))
            rows.add_section()
    return rows


def _uses(uses: Sequence[UseRecord]) -> Table:
    log = Table("when", "episode", "robot", "mode", "strength", "chunks", "result", title="uses, newest first")
    for use in uses:
        how = "passed over" if use.mode == 0 else use.mode.name.lower()
        figures = f"{use.strength:.2f}", str(use.chunks), use.result.name.lower()
        log.add_row(_when(use.stamp_ns), str(use.episode_id), use.origin, how, *figures)
    return log


def _write_pictures(pictures: Sequence[CaseImage], folder: Path, case_id: int) -> None:
    for picture in pictures:
        folder.mkdir(parents=True, exist_ok=True)
        # A name from another robot must not choose the folder.
        name = "".join(letter if letter.isalnum() else "_" for letter in picture.name)
        (folder / f"case{case_id}_{name}.{picture.format}").write_bytes(picture.data)


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
    force: bool = typer.Option(False, "--force", help="Also if the correction would have changed stored successes."),
    origin: str = ORIGIN,
) -> None:
    """Change the type, the note or the correction of a case. A new correction is tried before it is stored.

    [bold]Example[/bold]

      flow_rag_vla memory edit 12 --correction better.csv --note "grip later"
    """
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
    with _opened(database, origin=origin) as memory:
        memory.edit(
            case_id,
            correction=actions,
            forget_correction=forget_correction,
            failure_type=failure_type,
            note=note,
            force=force,
        )
    typer.echo(f"case {case_id} changed")


@app.command()
def retire(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    reason: str = typer.Option("", help="Why, for people."),
    undo: bool = typer.Option(False, "--undo", help="Take it back into the searches, as restore does."),
    capacity: int = CAPACITY,
    origin: str = ORIGIN,
) -> None:
    """Take a case out of every search; it stays on disk.

    [bold]Example[/bold]

      flow_rag_vla memory retire 12 --reason "the gripper was replaced"
    """
    with _opened(database, capacity, origin) as memory:
        memory.retire(case_id, not undo, reason)
    typer.echo(f"case {case_id} is {'active again' if undo else 'retired'}")


@app.command()
def restore(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    reason: str = typer.Option("", help="Why, for people."),
    capacity: int = CAPACITY,
    origin: str = ORIGIN,
) -> None:
    """Take a retired case back into the searches. It is then judged by its uses from now on.

    [bold]Example[/bold]

      flow_rag_vla memory restore 12 --reason "tried on the bench"
    """
    with _opened(database, capacity, origin) as memory:
        memory.retire(case_id, False, reason)
    typer.echo(f"case {case_id} is active again")


@app.command("export")
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

    with _opened(database) as memory, counted("reading cases") as progress:
        count = export_cases(memory, path, include_retired=retired, overwrite=overwrite, progress=progress)
    typer.echo(f"{count} cases in {path}")


@app.command("import")
def import_(
    path: Path = typer.Argument(help="A file that export made."),
    database: Path = DATABASE,
    origin: str = typer.Option("", help="Name kept with each case; empty: the file's own."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would happen."),
    capacity: int = CAPACITY,
) -> None:
    """Take in the cases of a file. A database that is not there is made.

    A case that makes no sense, or that the guard stops, is refused with its reason; of the others all are stored or,
    if anything goes wrong, none.

    [bold]Examples[/bold]

      flow_rag_vla memory import left_arm.npz --dry-run

      flow_rag_vla memory import left_arm.npz -d right_arm.db --origin "left arm"
    """
    from flow_rag_vla.memory.exchange import ExchangeError, import_cases, read_export
    from flow_rag_vla.memory.store import FailureStore, StoreError

    try:
        # Before anything is made: a wrong path must not leave an empty database.
        export = read_export(path)
        if dry_run and not database.expanduser().exists():
            typer.echo(f"would import {len(export.arrivals)} cases into {database}, which would be made")
            _say_refused(export.refused)
            return
        FailureStore(database).close()
    except (ExchangeError, StoreError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    with _opened(database, capacity) as memory, counted("trying cases") as progress:
        report = import_cases(memory, path, origin=origin, dry_run=dry_run, progress=progress)
    _say_merged(report, dry_run)


@app.command()
def merge(
    other: Path = typer.Argument(help="The database to take cases from; it is only read."),
    database: Path = DATABASE,
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would happen."),
    capacity: int = CAPACITY,
    origin: str = ORIGIN,
) -> None:
    """Take in the cases of another robot's database.

    Cases that say the same unite, with the credit of each robot kept apart; contradictions are settled and reported.
    Merging twice changes nothing.

    [bold]Example[/bold]

      flow_rag_vla memory merge left_arm.db -d fleet.db
    """
    from flow_rag_vla.memory.exchange import merge_store

    with _opened(database, capacity, origin) as memory, counted("trying cases") as progress:
        report = merge_store(memory, other, dry_run=dry_run, progress=progress)
    _say_merged(report, dry_run)


@app.command()
def check(
    database: Path = DATABASE,
    mend: bool = typer.Option(False, "--retire", help="Retire what is found, with the reason."),
    origin: str = ORIGIN,
) -> None:
    """Look for active cases that the guard would stop now, that contradict each other, or that hurt.

    Ends with 1 if it finds one and leaves it. What no longer stands since successes came in or the workspace was
    changed shows here; nothing is retired unless asked for.

    [bold]Examples[/bold]

      flow_rag_vla memory check

      flow_rag_vla memory check -d fleet.db --retire
    """
    from flow_rag_vla.memory.checking import check_cases

    with _opened(database, origin=origin) as memory:
        with counted("checking cases") as progress:
            findings = check_cases(memory, progress)
        for finding in findings:
            typer.echo(f"case {finding.case_id}: {finding.text}")
            if mend:
                memory.retire(finding.case_id, True, finding.text)
        count = memory.statistics().cases
    what = "retired" if mend else "found"
    typer.echo(f"{len(findings)} {what}, {count} cases are active")
    if findings and not mend:
        raise typer.Exit(1)


def _say_merged(report: MergeReport, dry_run: bool) -> None:
    verb = "would import" if dry_run else "imported"
    typer.echo(
        f"{verb} {report.imported} cases, {report.duplicates} were known already"
        + (f", {report.united} of them brought something new" if report.united else "")
        + (f", {len(report.refused)} were refused" if report.refused else "")
    )
    _say_refused(report.refused)
    for conflict in report.conflicts:
        typer.echo(f"contradiction: {conflict}")


def _say_refused(refused: Sequence[Refused]) -> None:
    for item in refused:
        typer.echo(f"refused {item}", err=True)


@app.command()
def stats(database: Path = DATABASE) -> None:
    """Say how many cases there are, of which kinds, and what their use was worth.

    [bold]Example[/bold]

      flow_rag_vla memory stats -d runs/latest/failure_memory.db
    """
    from flow_rag_vla.memory.store import CaseFilter

    with _opened(database) as memory:
        statistics = memory.statistics()
        groups: dict[str, list[int]] = {}
        places: set[tuple[str, str]] = set()
        for batch, _ in memory.store.summaries():
            for item in batch:
                if not item.retired:
                    places |= {(item.group.task, ""), (item.group.task, item.group.phase)}
                    counts = groups.setdefault(str(item.group), [0, 0, 0, 0])
                    for place, value in enumerate((1, int(item.has_correction), item.uses, item.successes)):
                        counts[place] += value
        calibration, calibration_id = memory.calibration, memory.calibration_id
        newest = memory.page(CaseFilter(include_retired=True), 0, 1)[1]
        successes = memory.ledger.success_count()
        baselines = {place: memory.ledger.baseline(*place) for place in sorted(places)}
    console = Console()
    stamp = statistics.stamp or "no encoder"
    console.print(f"{statistics.cases} active cases, {statistics.retired} retired, of {stamp}")
    if newest:
        console.print(f"newest: case {newest[0].case_id}, {_when(newest[0].created_ns)}")
    if calibration is not None:
        console.print(
            f"threshold {calibration.threshold:.4f}, calibrated on {calibration.scores} situations for a "
            f"false-retrieval rate of {calibration.rate:g} (calibration {calibration_id})"
        )
    else:
        console.print("threshold not calibrated yet: the node's default holds")
    console.print(f"{successes} situations of successful episodes, on which new cases are tried")
    table = Table("task/phase/type", "cases", "with correction", "uses", "successes")
    for name in sorted(groups):
        table.add_row(name, *(str(value) for value in groups[name]))
    console.print(table)
    without = Table("task", "phase", "episodes", "succeeded", title="episodes that no case shaped")
    for (task, phase), baseline in baselines.items():
        if baseline.episodes:
            without.add_row(task, phase or "any", str(baseline.episodes), str(baseline.successes))
    if without.row_count:
        console.print(without)


@app.command()
def salvage(database: Path = DATABASE) -> None:
    """Save what is intact of a damaged database into a fresh file; the damaged one is kept beside it.

    [bold]Example[/bold]

      flow_rag_vla memory salvage -d failure_memory.db
    """
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
