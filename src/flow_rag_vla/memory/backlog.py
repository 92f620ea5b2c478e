# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was learned and could not be written, until it can: a full disk or a held file costs no lesson.

A lesson is a row of steps, each of which is durable when it returns. One that fails is done again later, and those
behind it wait: a correction is of a case that is to be stored before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from flow_rag_vla.memory.store import StoreUnavailableError

Step = Callable[[], None]
"""Writes something once; raises StoreUnavailableError if it could not and may be done again."""

LESSONS_KEPT = 256
"""Lessons that may wait: an hour of failures, 10 MB with their pictures."""


class Backlog:
    """Writes lessons in their order. One thread writes; any may look at what waits."""

    def __init__(self, limit: int = LESSONS_KEPT) -> None:
        """Keep at most ``limit`` lessons waiting."""
        self._limit = limit
        self._waiting: deque[deque[Step]] = deque()
        self._reason = ""

    @property
    def waiting(self) -> int:
        """Lessons that are not written yet."""
        return len(self._waiting)

    @property
    def reason(self) -> str:
        """Why they wait; empty if none does."""
        return self._reason if self._waiting else ""

    def write(self, steps: Sequence[Step]) -> None:
        """Write a lesson, unless others wait already: then it waits behind them for :meth:`retry`.

        Raises:
            StoreUnavailableError: if it is not written, saying whether it is kept.
            Exception: what a step raised that would fail again: the rest of the lesson is dropped.
        """
        held = len(self._waiting)
        if held >= self._limit:
            raise StoreUnavailableError(f"{held} lessons wait to be written, so this one is lost: {self._reason}")
        self._waiting.append(deque(steps))
        if held:
            raise self._kept()
        self.retry()

    def retry(self) -> int:
        """Write what waits; how many lessons that were.

        Raises:
            StoreUnavailableError: if some still wait.
            Exception: as :meth:`write`.
        """
        written = 0
        while self._waiting:
            steps = self._waiting[0]
            try:
                while steps:
                    steps[0]()
                    steps.popleft()
            except StoreUnavailableError as error:
                self._reason = str(error)
                raise self._kept() from error
            except BaseException:
                self._waiting.popleft()
                raise
            self._waiting.popleft()
            written += 1
        return written

    def _kept(self) -> StoreUnavailableError:
        count = len(self._waiting)
        which = "1 lesson is kept and" if count == 1 else f"{count} lessons are kept and"
        return StoreUnavailableError(f"{self._reason}; {which} tried again")
