# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One handler with its queue, its places, its retry budget and its figures."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from flow_rag_vla.residency.messages import ResultMessage, TaskMessage

Handler = Callable[[TaskMessage], "Mapping[str, Any] | Awaitable[Mapping[str, Any]]"]
"""``async def`` runs on the loop; a plain function in a thread. Raising fails the task."""

_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class RouteMetrics:
    """One handler. Counts since it was registered; seconds are of the last 1,024 tasks."""

    queued: int
    running: int
    stuck: int
    done: int
    failed: int
    retried: int
    queued_p50_s: float
    queued_p95_s: float
    run_p50_s: float
    run_p95_s: float


@dataclass(slots=True, eq=False)
class Job:
    """A task on its way: seconds of ``time.monotonic``."""

    task: TaskMessage
    future: asyncio.Future[ResultMessage]
    entered: float
    began: float = 0.0
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Route:
    """A registered handler; see :meth:`~flow_rag_vla.residency.pipeline.Pipeline.register`.

    Attributes:
        budget: retries that it may make now.
        running: places taken, those of calls that hang with them.
        stuck: places of calls that were given up and are not back.
    """

    module: str
    handler: Handler
    places: int
    timeout_s: float
    attempts: int
    pause_s: float
    budget: float
    queue: list[tuple[int, int, Job]] = field(default_factory=list)
    running: int = 0
    stuck: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    runs: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def __post_init__(self) -> None:
        if self.places < 1 or self.attempts < 1 or not self.timeout_s > 0.0 or self.pause_s < 0.0:
            raise ValueError(
                f"handler {self.module!r} with places {self.places}, attempts {self.attempts}, timeout "
                f"{self.timeout_s} s, pause {self.pause_s} s: expected from 1, from 1, above 0, from 0"
            )

    @property
    def dead(self) -> bool:
        """Whether every place hangs."""
        return self.stuck >= self.places

    @property
    def death(self) -> str:
        """What a task is told that it refuses."""
        return f"all {self.places} places of handler {self.module!r} hang; unregister it, mend it, register it anew"

    def push(self, job: Job, sequence: int) -> None:
        """Queue by priority, then arrival."""
        heapq.heappush(self.queue, (-job.task.priority, sequence, job))

    def pop(self) -> Job:
        """The most urgent job."""
        return heapq.heappop(self.queue)[2]

    def lowest(self) -> tuple[int, int, Job] | None:
        """The least urgent job with its key: priority below 0, arrival."""
        return max(self.queue, key=lambda item: item[:2], default=None)

    def remove(self, item: tuple[int, int, Job]) -> None:
        """Take one out of the queue."""
        self.queue.remove(item)
        heapq.heapify(self.queue)

    def keep_only(self, known: Container[str]) -> int:
        """Take out of the queue whose task id is not among ``known``; how many those were."""
        before = len(self.queue)
        self.queue = [item for item in self.queue if item[2].task.task_id in known]
        heapq.heapify(self.queue)
        return before - len(self.queue)

    def pay_retry(self, job: Job) -> bool:
        """Take one retry from the budget, if the job may have one and there is one."""
        if job.attempts >= self.attempts or self.budget < 1.0:
            return False
        self.budget -= 1.0
        self.retried += 1
        return True

    def earn_retry(self, share: float, most: float) -> None:
        """Count a success, which earns a share of a retry."""
        self.done += 1
        self.budget = min(most, self.budget + share)

    def metrics(self) -> RouteMetrics:
        """Its figures now."""
        return RouteMetrics(
            len(self.queue), self.running, self.stuck, self.done, self.failed, self.retried,
            _quantile(self.waits, 0.5), _quantile(self.waits, 0.95),
            _quantile(self.runs, 0.5), _quantile(self.runs, 0.95),
        )  # fmt: skip


def _quantile(values: deque[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0
