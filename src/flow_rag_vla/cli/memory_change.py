"""``flow_rag_vla memory edit``, ``retire`` and ``restore``: what a person changes in a case."""

from __future__ import annotations

from pathlib import Path

import typer

from flow_rag_vla.cli.memory_database import CAPACITY, DATABASE, ORIGIN, PARAMS_FILE, PROFILE, failure_type, opened


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
    params_file: Path | None = PARAMS_FILE,
    profile: str = PROFILE,
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
    changed = None if kind is None else failure_type(kind)
    with opened(database, origin=origin, params_file=params_file, profile=profile) as memory:
        memory.edit(
            case_id,
            correction=actions,
            forget_correction=forget_correction,
            failure_type=changed,
            note=note,
            force=force,
        )
    typer.echo(f"case {case_id} changed")


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
