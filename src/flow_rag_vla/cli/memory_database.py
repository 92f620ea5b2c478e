# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A failure memory's database as commands open it: options, errors, names and times."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
    from flow_rag_vla.core.failure import FailureType
    from flow_rag_vla.memory.memory import FailureMemory

DEFAULT_DATABASE = Path("~/.ros/flow_rag_vla/failure_memory.db")

DATABASE = typer.Option(DEFAULT_DATABASE, "--database", "-d", help="The SQLite file.")
CAPACITY = typer.Option(10_000, min=1, help="Active cases that fit, as the node's parameter says.")
ORIGIN = typer.Option("", help="Name of who makes the change; empty: this host.")
PARAMS_FILE = typer.Option(
    None, help="YAML file of the graph's parameters, whose limits and workspace corrections must keep; empty: defaults."
)
PROFILE = typer.Option("", help="Robot profile, whose limits and workspace they must keep instead.")


@contextmanager
def opened(
    database: Path,
    capacity: int = 10_000_000,
    origin: str = "",
    *,
    params_file: Path | None = None,
    profile: str = "",
) -> Iterator[FailureMemory]:
    """The memory on a database that exists; what it refuses becomes one line and exit code 1.

    params_file, profile: of the robot that will act; see ``guarding``
    """
    from flow_rag_vla.bringup.memory_settings import memory_settings
    from flow_rag_vla.memory.case import CaseError
    from flow_rag_vla.memory.exchange import ExchangeError
    from flow_rag_vla.memory.index import NumpyIndex
    from flow_rag_vla.memory.memory import FailureMemory
    from flow_rag_vla.memory.store import FailureStore, StoreError

    memory = None
    try:
        store = FailureStore(database, create=False)
        settings = memory_settings(guarding(origin, params_file, profile), capacity)
        memory = FailureMemory(store, settings, NumpyIndex)
        yield memory
    except (CaseError, StoreError, ExchangeError, LookupError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    finally:
        if memory is not None:
            memory.close()


def guarding(origin: str = "", params_file: Path | None = None, profile: str = "") -> FailureMemoryParameters:
    """Parameters of the memory's node on the robot that will act: what a case is tried on depends on its limits.

    Raises:
        typer.BadParameter: for a file or a profile that cannot be used, with the remedy.
    """
    import yaml

    from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
    from flow_rag_vla.bringup.resources import robots_folder
    from flow_rag_vla.bringup.robot_graph import GUARDED, loop_limits
    from flow_rag_vla.core.parameters import ParameterError, load_parameters
    from flow_rag_vla.core.yaml_text import plain_yaml
    from flow_rag_vla.robot.fields import ProfileError
    from flow_rag_vla.robot.profile import find_profile, load_profile

    values: dict[str, Any] = {}
    try:
        if params_file is not None:
            loaded = plain_yaml(params_file.read_text(encoding="utf-8"))
            sections = loaded.items() if isinstance(loaded, dict) else ()
            some = [section for name, section in sections if str(name).rsplit("/", 1)[-1] == "failure_memory"]
            if not some or not all(isinstance(section, dict) for section in some):
                raise ParameterError(f"{params_file} says nothing of failure_memory; copy config/flow_rag_vla.yaml")
            for section in some:
                values |= section.get("ros__parameters") or {}
            values.pop("use_sim_time", None)
        if profile:
            limits = loop_limits(load_profile(find_profile(profile, robots_folder())))
            values |= {name: limits[name] for name in GUARDED}
        values["origin"] = origin or values.get("origin") or socket.gethostname()
        return load_parameters(FailureMemoryParameters, values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{params_file} cannot be read: {error}; copy config/flow_rag_vla.yaml") from None
    except (ParameterError, ProfileError) as error:
        raise typer.BadParameter(str(error)) from None


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
