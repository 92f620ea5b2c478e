# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Steps that each leave a folder, run side by side, each as soon as the folders that it is made from are whole.

A step is not run again while its folder is there; one that was interrupted begins anew.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.processes import worker_pool
from flow_rag_vla.evaluate.trials.protocol import TrialError

DONE = "done"
"""File that says that a step's folder is whole."""

MADE = "made.json"
"""File that says with which numbers it was made; folders of earlier versions lack it and are taken as they are."""

Progress = Callable[[str, int, int, str], None]
"""(title of the steps, done, total, note)."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is made into a folder.

    title: what steps like it are called
    work: makes it, in a process of its own, and returns a note; ``arguments``: its folder first, then what decides what
        comes of it. Those of them that are folders of other steps are what it is made from
    earlier: values of arguments that folders of earlier versions did not name
    """

    title: str
    work: Callable[..., str]
    arguments: tuple[object, ...]
    earlier: tuple[tuple[str, object], ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is made."""
        return Path(str(self.arguments[0]))

    @property
    def whole(self) -> bool:
        """Whether it is there."""
        return (self.folder / DONE).is_file()

    @property
    def sources(self) -> set[Path]:
        """Folders that it is made from."""
        return {value for value in self.arguments[1:] if isinstance(value, Path)}

    @property
    def settings(self) -> dict[str, Any]:
        """What it is told, by name, less where folders lie; plain JSON values."""
        told = zip(inspect.signature(self.work).parameters, self.arguments, strict=True)
        return {
            name: value if isinstance(value, str | int | float | None) else str(value)
            for name, value in told
            if not isinstance(value, Path)
        }

    def check(self) -> None:
        """Refuse a whole folder that was made with other settings: what comes of it would be told as what it is not.

        Raises:
            TrialError: if it was.
        """
        if not self.whole or not (self.folder / MADE).is_file():
            return
        try:
            made = json.loads((self.folder / MADE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            said = f"{self.folder / MADE} cannot be read ({error}); delete {self.folder}, it is made again"
            raise TrialError(said) from error
        if made != self.settings and {**dict(self.earlier), **made} != self.settings:
            raise TrialError(
                f"{self.folder} was made with {made}, not with {self.settings}; name another --work, or delete it"
            )


def run_steps(steps: Sequence[Step], workers: int, progress: Progress) -> None:
    """Make what is not there yet.

    Raises:
        TrialError: if what is there was made with other settings.
        Exception: what a step raises; those that were not begun are dropped.
    """
    for step in steps:
        step.check()
    total = Counter(step.title for step in steps)
    done = Counter(step.title for step in steps if step.whole)
    for title in total:
        progress(title, done[title], total[title], "")
    for step, note in _made([step for step in steps if not step.whole], workers):
        done[step.title] += 1
        progress(step.title, done[step.title], total[step.title], note)


def _made(steps: list[Step], workers: int) -> Iterator[tuple[Step, str]]:
    """Each step as it is done, with its note."""
    lacking = {step.folder for step in steps}
    begun: dict[Future[str], Step] = {}
    with worker_pool(workers) as pool:
        while lacking:
            for step in [step for step in steps if not step.sources & lacking]:
                steps.remove(step)
                begun[pool.submit(_make, step)] = step
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                step = begun.pop(future)
                lacking.discard(step.folder)
                yield step, future.result()


def _make(step: Step) -> str:
    """Do a step in its folder, from nothing if it was begun before."""
    import torch

    torch.set_num_threads(1)
    shutil.rmtree(step.folder, ignore_errors=True)
    step.folder.mkdir(parents=True)
    note = step.work(*step.arguments)
    write_text(step.folder / MADE, json.dumps(step.settings) + "\n")
    write_text(step.folder / DONE, note + "\n")
    return note
