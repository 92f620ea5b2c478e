# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Steps: which tasks count for a barrier, and how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from flow_rag_vla.residency.messages import Status
from flow_rag_vla.residency.routes import Job

MAX_STEPS = 1024
"""Steps remembered that ended and that nobody waited for."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """How a step ended: tasks by status, and the modules that had not answered when the barrier gave them up."""

    step: str
    counts: Mapping[Status, int]
    given_up: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every task ended well."""
        return not self.given_up and all(status is Status.OK for status in self.counts)


@dataclass(slots=True)
class _Step:
    pending: dict[str, Job] = field(default_factory=dict)
    counts: dict[Status, int] = field(default_factory=dict)
    waiter: asyncio.Future[None] | None = None


class Steps:
    """By name. On the loop's thread."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}

    def add(self, job: Job) -> None:
        """Count a task for its step, if it names one."""
        if not job.task.step:
            return
        if job.task.step not in self._steps:
            self._forget_old()
        self._steps.setdefault(job.task.step, _Step()).pending[job.task.task_id] = job

    def ended(self, job: Job, status: Status) -> None:
        """Write down how a task ended; the last one opens the barrier."""
        record = self._steps.get(job.task.step) if job.task.step else None
        if record is None or record.pending.pop(job.task.task_id, None) is None:
            return
        record.counts[status] = record.counts.get(status, 0) + 1
        if not record.pending and record.waiter is not None and not record.waiter.done():
            record.waiter.set_result(None)

    async def wait(self, step: str, timeout_s: float) -> tuple[Job, ...]:
        """Return when every task of a step has ended, or at the timeout those that have not.

        Raises:
            ValueError: when the step is waited for already.
        """
        record = self._steps.get(step)
        if record is None or not record.pending:
            return ()
        if record.waiter is not None:
            raise ValueError(f"step {step!r} has a barrier already; one waits for all")
        record.waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([record.waiter], timeout=timeout_s)
            return tuple(record.pending.values())
        finally:
            record.waiter = None

    def close(self, step: str) -> dict[Status, int]:
        """End a step: its counts. A task of the same name later begins a new one."""
        record = self._steps.pop(step, None)
        return dict(record.counts) if record is not None else {}

    def _forget_old(self) -> None:
        """Steps that ended and were never waited for must not add up."""
        while len(self._steps) >= MAX_STEPS:
            over = next((name for name, one in self._steps.items() if not one.pending and one.waiter is None), None)
            if over is None:
                return
            del self._steps[over]
