# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla curate``: what to review next, likely mistakes, odd ones out, doubles and groups of a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer

from flow_rag_vla.cli.curate_duplicates import duplicates
from flow_rag_vla.cli.curate_groups import look_groups
from flow_rag_vla.cli.curate_objects import classify, mistakes, next_objects, unique

app = typer.Typer(
    help="What to review next, likely mistakes, odd ones out, near duplicates, and groups, of a registry of labels.",
    no_args_is_help=True,
)

COMMANDS: Mapping[str, Callable[..., None]] = {
    "next": next_objects,
    "mistakes": mistakes,
    "classify": classify,
    "unique": unique,
    "duplicates": duplicates,
    "groups": look_groups,
}
"""In the order of the help page."""

for name, command in COMMANDS.items():
    app.command(name)(command)
