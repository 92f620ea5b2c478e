# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla memory``: look into a failure database and change it, whether or not the node runs.

The node notices within a second that the file was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer

from flow_rag_vla.cli.memory_change import admit, edit, restore, retire
from flow_rag_vla.cli.memory_repair import check, salvage
from flow_rag_vla.cli.memory_share import export, import_, merge
from flow_rag_vla.cli.memory_view import list_cases, show, stats

app = typer.Typer(
    help="Look into a failure memory's database, change it, and share it between robots.", no_args_is_help=True
)

COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": list_cases,
    "show": show,
    "edit": edit,
    "admit": admit,
    "retire": retire,
    "restore": restore,
    "export": export,
    "import": import_,
    "merge": merge,
    "check": check,
    "stats": stats,
    "salvage": salvage,
}
"""In the order of the help page."""

for name, command in COMMANDS.items():
    app.command(name)(command)
