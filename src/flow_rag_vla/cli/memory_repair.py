# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla memory check`` and ``salvage``: cases that no longer stand, and files that are damaged."""

from __future__ import annotations

from pathlib import Path

import typer

from flow_rag_vla.cli.memory_database import DATABASE, ORIGIN, PARAMS_FILE, PROFILE, opened
from flow_rag_vla.cli.progress import counted


def check(
    database: Path = DATABASE,
    mend: bool = typer.Option(
        False,
        "--retire",
        help="Retire what is found, with the reason; of one whose misreading is doubted, only that is forgotten.",
    ),
    origin: str = ORIGIN,
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
) -> None:
    """Look for active cases that the guard would stop now, that contradict each other, or that hurt.

    And for those whose misreading is doubted, as one that arrives would be. Ends with 1 if it finds one and leaves it.
    What no longer stands since successes came in or the workspace was changed shows here; nothing is retired, and no
    misreading forgotten, unless asked for.

    [bold]Examples[/bold]

      flow_rag_vla memory check

      flow_rag_vla memory check -d fleet.db --retire

      flow_rag_vla memory check -d fleet.db --profile so101
    """
    from flow_rag_vla.memory.checking import check_cases

    with opened(database, origin=origin, params_file=params_file, profile=profile) as memory:
        with counted("checking cases") as progress:
            findings = check_cases(memory, progress)
        for finding in findings:
            typer.echo(f"case {finding.case_id}: {finding.text}")
            if mend and finding.misreading:
                memory.edit(finding.case_id, forget_misreading=True, reason=finding.text)
            elif mend:
                memory.retire(finding.case_id, True, finding.text)
        count = memory.statistics().cases
    said = f"{len(findings)} found"
    if mend:
        forgotten = sum(finding.misreading for finding in findings)
        said = f"{len(findings) - forgotten} retired" + (f", {forgotten} misreadings forgotten" if forgotten else "")
    typer.echo(f"{said}, {count} cases are active")
    if findings and not mend:
        raise typer.Exit(1)


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
