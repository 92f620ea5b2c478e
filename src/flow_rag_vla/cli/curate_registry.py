# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``flow_rag_vla curate`` have in common: a registry's vectors, its pictures, a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flow_rag_vla.labeling.curation.pool import Pool
    from flow_rag_vla.labeling.pipeline.images import Image
    from flow_rag_vla.labeling.registry.registry import Registry
    from flow_rag_vla.learn.progress import Progress

CATEGORY = typer.Option([], help="Only this category; may be given again.")
LIMIT = typer.Option(20, min=1, max=1_000, help="Rows to show.")


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A progress bar on standard error."""
    from flow_rag_vla.cli.progress import StageBars, progress_display

    with progress_display(Console(stderr=True)) as display:
        yield StageBars(display).bar(title)


def pool_of(registry: Registry, project: str, category: list[str] | None = None) -> Pool:
    """The objects that have a vector; says how many have none, and ends the command if none has one."""
    from flow_rag_vla.labeling.curation.pool import read_pool
    from flow_rag_vla.labeling.registry.queries import ObjectFilter

    pool = read_pool(registry, ObjectFilter(project=project, categories=tuple(category or ())))
    if pool.without_vector:
        typer.echo(f"{pool.without_vector} objects have no vector and are left out", err=True)
    if not len(pool):
        typer.echo("no object has a vector: label with an embedder (flow_rag_vla label --registry ...)", err=True)
        raise typer.Exit(1)
    return pool


def pixels_of(registry: Registry) -> Callable[[str], Image | None]:
    """What reads a registered picture; None for one that is gone or spoiled."""
    try:
        from flow_rag_vla.gateway.errors import GatewayError
        from flow_rag_vla.gateway.labeling.pictures import Pictures
    except ImportError as error:
        typer.echo(f"{error}; install it: pip install 'flow_rag_vla[web]', or compare with --no-pixels", err=True)
        raise typer.Exit(2) from error
    from flow_rag_vla.labeling.pipeline.errors import LabelingError

    pictures = Pictures()

    def read(image_id: str) -> Image | None:
        image = registry.image(image_id)
        try:
            return pictures.pixels(registry.source(image.source_id), image)
        except (GatewayError, LabelingError, OSError):
            return None

    return read


def print_table(table: Table) -> None:
    """Print it wide, whatever the terminal is: an id that is cut cannot be copied."""
    Console(width=max(Console().width, 140)).print(table)
