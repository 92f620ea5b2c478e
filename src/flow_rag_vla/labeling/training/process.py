# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The process that does one job: ``python -m flow_rag_vla.labeling.training.process FOLDER NICENESS``.

It runs below everything else, ends when the one that started it ends, and tells how it stands in a file. SIGINT or
SIGTERM: a training that has begun writes a checkpoint and ends; what has nothing to keep yet, as imports, pictures that
are read, or an evaluation, ends at once.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from flow_rag_vla.core.processes import end_with_parent, give_way
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.training.orders import (
    FAILED,
    FINISHED,
    RUNNING,
    STOPPED,
    Order,
    Status,
    TrainOrder,
    read_order,
    write_status,
)
from flow_rag_vla.learn.progress import Progress

TOLD_S = 0.3
"""Seconds between two statuses."""


class Withdrawn(BaseException):
    """The job is to end, and has nothing to keep. No Exception: nothing on the way may take it for a fault."""


class Withdrawal:
    """Takes the signals that end a job; ``asked`` is whether one came."""

    def __init__(self) -> None:
        self.asked = False
        self._keeps = False

    def take(self, _number: int, _frame: FrameType | None) -> None:
        """A signal's handler.

        Raises:
            Withdrawn: while there is nothing to keep.
        """
        self.asked = True
        if not self._keeps:
            raise Withdrawn

    def of_training(self) -> bool:
        """Whether a training is to end. From the first question on it ends by itself, behind a checkpoint."""
        self._keeps = True
        return self.asked


class Teller:
    """Writes how the job stands, not too often."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._told = folder, float("-inf")
        self.status = Status(RUNNING)

    def bar(self, title: str) -> Progress:
        """A progress callback of a stage."""

        def told(done: int, total: int, note: str = "") -> None:
            self.status = replace(self.status, stage=title, done=done, total=total, note=note)
            now = time.monotonic()
            if now - self._told >= TOLD_S:
                self.tell(self.status)
                self._told = now

        return told

    def tell(self, status: Status) -> None:
        """Write it now."""
        self.status = status
        write_status(self._folder, status)


def run_job(folder: Path, teller: Teller, withdrawal: Withdrawal) -> Status:
    """Do what the folder's order says.

    Raises:
        LabelingError: with a code for programs.
        Withdrawn: it was asked to end, and had nothing to keep.
    """
    order: Order = read_order(folder)
    import torch

    from flow_rag_vla.labeling.training.runs import named_backend, run_evaluation, run_training

    if isinstance(order, TrainOrder):
        torch.set_num_threads(order.settings.threads or 1)
        run = run_training(
            order.dataset, folder, order.settings, tracking=order.tracking, command=f"a job in {folder}",
            bar=teller.bar, stop=withdrawal.of_training,
        )  # fmt: skip
        map50 = 0.0 if run.evaluation is None else run.evaluation.boxes.ap50
        model = "" if run.trained.model is None else str(run.trained.model)
        state = FINISHED if run.trained.finished else STOPPED
        return replace(teller.status, state=state, best=run.trained.best, map50=map50, result=model)
    torch.set_num_threads(1)
    backend = named_backend(order.detector, order.model, order.device)
    try:
        scores, page = run_evaluation(
            order.dataset, order.part, folder, backend, threshold=order.threshold, most=order.most, bar=teller.bar,
            stop=lambda: withdrawal.asked,
        )  # fmt: skip
    except InterruptedError:
        return replace(teller.status, state=STOPPED)
    return replace(teller.status, state=FINISHED, best=scores.boxes.ap, map50=scores.boxes.ap50, result=str(page))


def main(arguments: Sequence[str]) -> int:
    """Do one job; 0 if it is finished or was stopped, 1 if it failed."""
    folder = Path(arguments[0])
    # Not a milder one: it may be one that waits, which hears of nothing else. The last checkpoint is whole.
    end_with_parent(signal.SIGKILL)
    give_way(int(arguments[1]))
    withdrawal, teller = Withdrawal(), Teller(folder)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, withdrawal.take)
        teller.tell(teller.status)
        teller.tell(run_job(folder, teller, withdrawal))
    except Withdrawn:
        teller.tell(replace(teller.status, state=STOPPED))
    except LabelingError as error:
        teller.tell(replace(teller.status, state=FAILED, code=error.code, message=str(error)))
        return 1
    except Exception as error:  # whoever waits for it must learn of it, whatever it is
        told = replace(teller.status, state=FAILED, code="internal", message=f"{type(error).__name__}: {error}")
        teller.tell(told)
        raise
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
