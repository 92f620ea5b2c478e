"""Progress bars of long work: one a stage, with what is being done beside it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


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
        """Report progress."""
        self._display.update(self._task, completed=done, total=total, note=note)


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
