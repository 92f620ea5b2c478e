# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla memory list``, ``show`` and ``stats``: what a failure database knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from flow_rag_vla.cli.memory_database import DATABASE, failure_type, opened, when
from flow_rag_vla.cli.tables import table_console

if TYPE_CHECKING:
    from flow_rag_vla.memory.case import FailureCase
    from flow_rag_vla.memory.credit import UseRecord
    from flow_rag_vla.memory.images import CaseImage

WIDE = 120
"""Columns of a terminal that show every column of the list."""


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

      flow_rag_vla memory list -d runs/2026-01-31_12-00-00/failure_memory.db --retired
    """
    from flow_rag_vla.memory.store import CaseFilter

    types = tuple(failure_type(name) for name in kind)
    with opened(database) as memory:
        total, cases = memory.page(CaseFilter(task, phase, types, retired), offset, limit)
    console = table_console()
    console.print(_cases(cases, narrow=console.width < WIDE))
    console.print(f"{len(cases)} of {total} cases")


def _cases(cases: Sequence[FailureCase], narrow: bool) -> Table:
    """A line a case. In a narrow terminal what leaves room for the rest is left to ``show``."""
    dropped = {"credit", "origin", "note"} if narrow else set()
    named = ("case", "created", "type", "task", "phase", "correction", "uses", "credit", "origin", "note")
    table = Table(*(name for name in named if name not in dropped), padding=(0, 0) if narrow else (0, 1))
    for case in cases:
        cells = {
            "case": f"{case.case_id} (retired)" if case.retired else str(case.case_id),
            "created": when(case.created_ns)[: len("2026-01-31") if narrow else None],
            "type": case.failure_type.name.lower(),
            "task": case.task,
            "phase": case.phase,
            "correction": case.correction_source or "-",
            "uses": f"{case.successes}/{case.uses}",
            "credit": f"{case.credit:.2f}",
            "origin": case.origin,
            "note": case.note,
        }
        # One line each, so that a long note, which is all in `show`, does not push the others out of sight.
        table.add_row(*(Text(cells[name], no_wrap=True, overflow="ellipsis") for name in cells if name not in dropped))
    return table


def show(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    images: Path | None = typer.Option(None, help="Folder to write its pictures to."),
) -> None:
    """Show everything about one case but its embedding: evidence, worth, uses, history.

    [bold]Example[/bold]

      flow_rag_vla memory show 12 --images pictures/
    """
    with opened(database) as memory:
        case = memory.get(case_id)
        worth, uses = memory.worth(case), memory.ledger.uses(case_id, 20)
        pictures = memory.ledger.images(case_id)
    table = Table(show_header=False)
    for name, value in (
        ("case", str(case.case_id)),
        ("created", when(case.created_ns)),
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
    console = table_console()
    console.print(table)
    console.print(_chunks(case))
    if uses:
        console.print(_uses(uses))
    for change in case.history:
        console.print(f"{when(change.stamp_ns)}  {change.change} by {change.origin or 'unnamed'}: {change.detail}")
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
        log.add_row(when(use.stamp_ns), str(use.episode_id), use.origin, how, *figures)
    return log


def _write_pictures(pictures: Sequence[CaseImage], folder: Path, case_id: int) -> None:
    for picture in pictures:
        folder.mkdir(parents=True, exist_ok=True)
        # A name from another robot must not choose the folder.
        name = "".join(letter if letter.isalnum() else "_" for letter in picture.name)
        (folder / f"case{case_id}_{name}.{picture.format}").write_bytes(picture.data)


def stats(database: Path = DATABASE) -> None:
    """Say how many cases there are, of which kinds, and what their use was worth.

    [bold]Example[/bold]

      flow_rag_vla memory stats -d runs/2026-01-31_12-00-00/failure_memory.db
    """
    from flow_rag_vla.memory.store import CaseFilter

    with opened(database) as memory:
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
    console = table_console()
    stamp = statistics.stamp or "no encoder"
    console.print(f"{statistics.cases} active cases, {statistics.retired} retired, of {stamp}")
    if newest:
        console.print(f"newest: case {newest[0].case_id}, {when(newest[0].created_ns)}")
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
