# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``flow_rag_vla registry`` and ``curate`` have in common: a registry, and how it is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from flow_rag_vla.labeling.registry.registry import Registry

REGISTRY = typer.Argument(help="The registry's folder, or postgresql://user:password@host/database.")
FILES = typer.Option(None, help="Folder of masks and index, where the registry is on a server.")
PROJECT = typer.Option("", help="Only this project.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")


@contextmanager
def opened_registry(
    location: str, files: Path | None, index: str = "faiss", *, create: bool = False
) -> Iterator[Registry]:
    """A registry, which exists unless it may be made; what it refuses becomes one line and exit code 1."""
    from flow_rag_vla.labeling.registry.errors import RegistryError
    from flow_rag_vla.labeling.registry.registry import Registry

    try:
        with Registry(location, files=files, index=index, create=create) as registry:
            yield registry
    except RegistryError as error:
        typer.echo(f"{error} [{error.code.value}]", err=True)
        raise typer.Exit(1) from error


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on a terminal that something goes on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
