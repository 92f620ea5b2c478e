# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Bars say how much is done, and of how much where that is known."""

from __future__ import annotations

import io

from rich.console import Console

from flow_rag_vla.cli.progress import StageBars, progress_display


def shown(*reports: tuple[int, int]) -> str:
    console = Console(file=io.StringIO(), width=100)
    with progress_display(console) as display:
        bar = StageBars(display).bar("Frames")
        for done, total in reports:
            bar(done, total, "things")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_bar_of_an_unknown_length_says_so():
    assert "60/?" in shown((1, 0), (60, 0))
    assert "6/10" in shown((1, 10), (6, 10))
