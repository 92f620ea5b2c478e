# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Progress bars of long work: one a stage, with what is being done beside it, or one that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class StageBars:
    """One progress bar a stage."""

    def __init__(self, display: Progress) -> None:
        self._display = display

    def bar(self, title: str) -> StageBar:
        """A bar that a stage can report to."""
        return StageBar(self._display, self._display.add_task(title, total=None, note=""))


class StageBar:
    """What a stage calls with how much is done, of how much, and a few words."""

    def __init__(self, display: Progress, task: TaskID) -> None:
        self._display, self._task = display, task

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report progress. total: 0 where nobody knows it, as of the frames of a bag."""
        self._display.update(self._task, completed=done, total=total or None, note=note)


def progress_display(console: Console) -> Progress:
    """A display for `StageBars`."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, told how much is done and of how much; nothing where there is no terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
