# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tables for people and for pipes."""

from __future__ import annotations

import os

from rich.console import Console

PIPE_WIDTH = 1_000
"""Characters of a line that no terminal shows: wider than any table here, so that no cell is cut."""


def table_console() -> Console:
    """A console for tables: as wide as the terminal, and in a pipe or a file as wide as the table wants to be."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_WIDTH)
