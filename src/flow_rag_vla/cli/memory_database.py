"""A failure memory's database as commands open it: options, errors, names and times."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flow_rag_vla.core.failure import FailureType
    from flow_rag_vla.memory.memory import FailureMemory

DEFAULT_DATABASE = Path("~/.ros/flow_rag_vla/failure_memory.db")

DATABASE = typer.Option(DEFAULT_DATABASE, "--database", "-d", help="The SQLite file.")
CAPACITY = typer.Option(10_000, min=1, help="Active cases that fit, as the node's parameter says.")
ORIGIN = typer.Option("", help="Name of who makes the change; empty: this host.")


@contextmanager
def opened(database: Path, capacity: int = 10_000_000, origin: str = "") -> Iterator[FailureMemory]:
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


def failure_type(name: str) -> FailureType:
    """The failure type of that name, in either case.

    Raises:
        typer.BadParameter: naming the known ones.
    """
    from flow_rag_vla.core.failure import FailureType

    try:
        return FailureType[name.upper()]
    except KeyError:
        known = ", ".join(item.name.lower() for item in FailureType)
        raise typer.BadParameter(f"{name!r} is no failure type; known: {known}") from None


def when(created_ns: int) -> str:
    """Nanoseconds since 1970 as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created_ns / 1e9))
