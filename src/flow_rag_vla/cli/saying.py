# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What went wrong, printed as it was said."""

from __future__ import annotations

from rich.console import Console


def complain(console: Console, sentence: object) -> None:
    """Print why a command ends, in red.

    Brackets and colons in it are no markup: ``pip install 'flow_rag_vla[web]'`` and ``root:x:0`` stay whole. Where a
    line ends is left to the terminal, so that a path in it can be copied.
    """
    console.print(str(sentence), style="red", markup=False, emoji=False, highlight=False, soft_wrap=True)


def warn(console: Console, sentence: object) -> None:
    """Print what a command goes on with, in yellow; see `complain`."""
    console.print(str(sentence), style="yellow", markup=False, emoji=False, highlight=False, soft_wrap=True)
