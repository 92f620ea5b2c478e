# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla memory edit``, ``admit``, ``retire`` and ``restore``: what a person changes in a case."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flow_rag_vla.cli.memory_database import CAPACITY, DATABASE, ORIGIN, PARAMS_FILE, PROFILE, failure_type, opened

if TYPE_CHECKING:
    from flow_rag_vla.memory.case import Array

FARTHEST_MM = 50.0
"""As far as a diagnosis may propose along an axis; see ``llm.schemas.Offset``."""


def edit(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    kind: str | None = typer.Option(None, "--type", help="The right failure type."),
    note: str | None = typer.Option(None, help="A note for people."),
    correction: Path | None = typer.Option(
        None, help="What to do instead: a .npy or .csv file with as many rows of 7 as the failed chunk has."
    ),
    forget_correction: bool = typer.Option(False, "--forget-correction", help="Drop the correction."),
    forget_misreading: bool = typer.Option(
        False, "--forget-misreading", help="Drop by how much the target was misread; the case stays."
    ),
    force: bool = typer.Option(False, "--force", help="Also if the correction would have changed stored successes."),
    origin: str = ORIGIN,
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
) -> None:
    """Change the type, the note, the correction or the misreading of a case.

    A new correction is tried before it is stored.

    [bold]Examples[/bold]

      flow_rag_vla memory edit 12 --correction better.csv --note "grip later"

      flow_rag_vla memory edit 12 --forget-misreading
    """
    actions = None if correction is None else _rows(correction)
    changed = None if kind is None else failure_type(kind)
    with opened(database, origin=origin, params_file=params_file, profile=profile) as memory:
        memory.edit(
            case_id,
            correction=actions,
            forget_correction=forget_correction,
            forget_misreading=forget_misreading,
            failure_type=changed,
            note=note,
            force=force,
        )
    typer.echo(f"case {case_id} changed")


def admit(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    correction: Path | None = typer.Option(
        None, help="What to do instead: a .npy or .csv file with as many rows of 7 as the failed chunk has."
    ),
    slower: bool = typer.Option(False, "--slower", help="The failed chunk at 60 % of its speed, as diagnoses propose."),
    offset: tuple[float, float, float] = typer.Option(
        (0.0, 0.0, 0.0),
        help="The failed chunk, ending this much further: x y z in millimetres along the base's axes, 50 at most.",
    ),
    person: str = typer.Option("", help="Who stands for it, kept with the case; empty: the user's name."),
    reason: str = typer.Option("", help="Why, for people."),
    origin: str = ORIGIN,
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
) -> None:
    """Give a case the correction that a diagnosis proposes, on a person's word instead of the simulator's.

    It is tried like every correction, and counts as the language model's: one that a person made goes through edit. A
    case keeps a correction that is trusted more.

    [bold]Examples[/bold]

      flow_rag_vla memory admit 12 --slower --reason "seen on the bench"

      flow_rag_vla memory admit 12 --offset 0 0 -10 --person ada
    """
    from flow_rag_vla.deliberation.admission import (
        NotAdmittedError,
        PersonCheck,
        admit_by_person,
        proposed_correction,
    )

    if (correction is not None) + slower + any(offset) != 1:
        raise typer.BadParameter("name one of --correction, --slower and --offset: what is to be done instead")
    if not all(abs(value) <= FARTHEST_MM for value in offset):
        given = " ".join(f"{value:g}" for value in offset)
        raise typer.BadParameter(f"--offset {given} is beyond {FARTHEST_MM:g} mm along an axis; give a smaller one")
    given_rows = None if correction is None else _rows(correction)
    check = PersonCheck(person or getpass.getuser(), reason)
    with opened(database, origin=origin, params_file=params_file, profile=profile) as memory:
        try:
            rows = given_rows
            if rows is None:
                rows = proposed_correction(memory, case_id, "slower" if slower else "offset", offset)
            case = admit_by_person(memory, case_id, rows, check)
        except NotAdmittedError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
    retired = f"; it stays retired: {case.retired_reason}" if case.retired else ""
    typer.echo(f"case {case_id} is corrected as {check.name.strip()} says{retired}")


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
    with opened(database, capacity, origin) as memory:
        memory.retire(case_id, not undo, reason)
    typer.echo(f"case {case_id} is {'active again' if undo else 'retired'}")


def restore(
    case_id: int = typer.Argument(help="Number of the case."),
    database: Path = DATABASE,
    reason: str = typer.Option("", help="Why, for people."),
    capacity: int = CAPACITY,
    origin: str = ORIGIN,
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
) -> None:
    """Take a retired case back into the searches, unless its correction is no motion that the robot may make.

    It is then judged by its uses from now on.

    [bold]Example[/bold]

      flow_rag_vla memory restore 12 --reason "tried on the bench"
    """
    with opened(database, capacity, origin, params_file=params_file, profile=profile) as memory:
        memory.retire(case_id, False, reason)
    typer.echo(f"case {case_id} is active again")


def _rows(path: Path) -> Array:
    """(H, 7) float32, the rows of a file.

    Raises:
        typer.BadParameter: for a file that cannot be read as such.
    """
    import numpy as np

    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
        return np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read as rows of 7 numbers ({error})") from error
