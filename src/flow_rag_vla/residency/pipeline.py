# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tasks to handlers, step by step: a bounded priority queue, isolated handlers, barriers that always end.

Runs on one asyncio loop. A task waits in the queue of its module's handler; all queues together are bounded. A handler
has a number of places; one that hangs loses the place until it comes back, and when it has none left its tasks are
refused at once. So nothing that a handler does keeps another's tasks, or a barrier, waiting. The one exception cannot
be helped: a coroutine that blocks the loop itself blocks everything; what computes is a plain function.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flow_rag_vla.residency.calls import Call, Calls
from flow_rag_vla.residency.errors import ClosedError, QueueFullError
from flow_rag_vla.residency.messages import ResultMessage, Status, TaskMessage
from flow_rag_vla.residency.notes import note
from flow_rag_vla.residency.routes import Handler, Job, Route, RouteMetrics
from flow_rag_vla.residency.steps import StepReport, Steps

_LOG = logging.getLogger(__name__)


class Pipeline:
    """Routes tasks to handlers. All methods on the loop's thread.

    Args:
        capacity: tasks that may wait, all handlers together.
        overflow: a full queue refuses the new task (``reject``), or the least urgent of all (``shed``).
        synchronize: called in a thread at the end of each barrier, for devices that work on after a call returns.
        retry_share: retries a success earns its handler; together with ``retry_start`` they bound what a handler that
            always fails can cost.
        retry_start: retries a handler has at the beginning, and the most it can save up.
    """

    def __init__(
        self,
        *,
        capacity: int = 1024,
        overflow: Literal["reject", "shed"] = "reject",
        synchronize: Callable[[], None] | None = None,
        retry_share: float = 0.1,
        retry_start: int = 10,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1")
        if overflow not in ("reject", "shed"):
            raise ValueError(f"overflow is {overflow!r}, expected reject or shed")
        self._capacity, self._overflow, self._synchronize = capacity, overflow, synchronize
        self._retry_share, self._retry_start = retry_share, float(retry_start)
        self._routes: dict[str, Route] = {}
        self._steps = Steps()
        self._jobs: dict[str, Job] = {}
        self._calls = Calls()
        self._waiting = 0
        self._sequence = 0
        self._closed = False

    # Routes.

    def register(
        self,
        module: str,
        handler: Handler,
        *,
        places: int = 1,
        timeout_s: float = 30.0,
        attempts: int = 1,
        pause_s: float = 0.05,
    ) -> None:
        """Send a module's tasks to a handler from now on.

        Args:
            module: its name.
            handler: called with the task.
            places: tasks that it works on at once.
            timeout_s: seconds after which a task is given up.
            attempts: times a task that raised is tried, within the handler's retry budget. One that hung is not.
            pause_s: seconds before the first retry, doubled for each further one.

        Raises:
            ValueError: for a name that is taken, or numbers out of range.
        """
        if not module or module in self._routes:
            raise ValueError(f"module {module!r} is empty or has a handler already; unregister it first")
        self._routes[module] = Route(module, handler, places, timeout_s, attempts, pause_s, self._retry_start)
        note(_LOG, "registered", module=module, places=places)

    def unregister(self, module: str) -> None:
        """Take a handler off. Its waiting tasks end as ``no_handler``, running ones go on.

        Raises:
            KeyError: when it has none.
        """
        if module not in self._routes:
            raise KeyError(f"module {module!r} has no handler; registered: {', '.join(self._routes) or 'none'}")
        self._refuse(self._routes.pop(module), Status.NO_HANDLER, f"the handler of {module!r} was unregistered")
        note(_LOG, "unregistered", module=module)

    # Tasks.

    def submit(self, task: TaskMessage) -> asyncio.Future[ResultMessage]:
        """Queue a task; the future always gets a result, it never raises for what a handler did.

        Raises:
            QueueFullError: when the queue is full and this task is not more urgent than the least urgent in it.
            ClosedError: after :meth:`close`.
            ValueError: for a task id that is on its way already.
        """
        if self._closed:
            raise ClosedError("the pipeline was closed; make a new one")
        if task.task_id in self._jobs:
            raise ValueError(f"task {task.task_id!r} is on its way already; task ids are unique")
        route = self._routes.get(task.module)
        job = Job(task, asyncio.get_running_loop().create_future(), time.monotonic())
        if route is not None and not route.dead and self._waiting >= self._capacity:
            self._make_room(task)
        self._jobs[task.task_id] = job
        self._steps.add(job)
        if route is None:
            known = ", ".join(self._routes) or "none"
            self._end(job, Status.NO_HANDLER, error=f"module {task.module!r} has no handler; registered: {known}")
        elif route.dead:
            self._end(job, Status.FAILED, error=route.death)
        else:
            self._sequence += 1
            route.push(job, self._sequence)
            self._waiting += 1
            self._dispatch(route)
        return job.future

    async def wait_step(self, step: str, timeout_s: float) -> StepReport:
        """Barrier: return when every task of a step has ended, at the latest after ``timeout_s``.

        What has not ended by then is given up: its futures end as ``timeout``. Then the devices are synchronized. A
        step is over after its barrier; a task of the same name later begins a new one.

        Raises:
            ValueError: when the step is waited for already.
        """
        until = time.monotonic() + timeout_s
        late = await self._steps.wait(step, timeout_s)
        for job in late:
            self._end(job, Status.TIMEOUT, error=f"not done when the barrier of step {step!r} ended: {timeout_s} s")
        given_up = tuple(sorted({job.task.module for job in late}))
        for module in given_up:
            self._forget_ended(module)
        counts = self._steps.close(step)
        if self._synchronize is not None:
            outcome = self._calls.in_thread(self._synchronize)
            # A device that does not answer must not hold the barrier either.
            done, _ = await asyncio.wait([outcome], timeout=max(0.0, until - time.monotonic()))
            if not done:
                given_up = (*given_up, "synchronize")
            else:
                outcome.result()
        report = StepReport(step, counts, given_up)
        note(_LOG, "step", step=step, given_up=given_up, **{status.value: count for status, count in counts.items()})
        return report

    def metrics(self) -> dict[str, RouteMetrics]:
        """By module."""
        return {name: route.metrics() for name, route in self._routes.items()}

    @property
    def waiting(self) -> int:
        """Tasks in all queues."""
        return self._waiting

    def close(self) -> None:
        """End every task as ``canceled`` and take no more."""
        self._closed = True
        for route in self._routes.values():
            route.queue.clear()
        self._waiting = 0
        for job in tuple(self._jobs.values()):
            self._end(job, Status.CANCELED, error="the pipeline was closed")
        self._calls.close()

    # Inside.

    def _make_room(self, task: TaskMessage) -> None:
        candidates = [(item, route) for route in self._routes.values() if (item := route.lowest()) is not None]
        if self._overflow == "shed" and candidates:
            lowest, owner = max(candidates, key=lambda one: one[0][:2])
            if -lowest[0] < task.priority:
                owner.remove(lowest)
                self._waiting -= 1
                self._end(lowest[2], Status.SHED, error=f"pushed out by a task of priority {task.priority}")
                return
        raise QueueFullError(
            f"{self._waiting} of {self._capacity} tasks wait, none less urgent than {task.priority}; "
            "submit more slowly, raise the priority or the capacity"
        )

    def _refuse(self, route: Route, status: Status, error: str) -> None:
        """End everything in a handler's queue."""
        jobs = [job for _, _, job in route.queue]
        route.queue.clear()
        self._waiting -= len(jobs)
        for job in jobs:
            self._end(job, status, error=error)

    def _forget_ended(self, module: str) -> None:
        """What a barrier gave up must not fill the queue of a handler that hangs."""
        if module in self._routes:
            self._waiting -= self._routes[module].keep_only(self._jobs)

    def _dispatch(self, route: Route) -> None:
        while route.queue and route.running < route.places:
            job = route.pop()
            self._waiting -= 1
            if job.future.done():  # its caller canceled it
                self._end(job, Status.CANCELED, error="canceled")
                continue
            route.running += 1
            job.began = time.monotonic()
            route.waits.append(job.began - job.entered)
            self._calls.keep(asyncio.ensure_future(self._run(route, job)))

    async def _run(self, route: Route, job: Job) -> None:
        freed = True
        try:
            while True:
                job.attempts += 1
                call = self._calls.start(route.handler, job.task)
                done, _ = await asyncio.wait([call.future], timeout=route.timeout_s)
                if not done:
                    # Not awaited: a handler may ignore being canceled. It keeps its place until it is gone.
                    freed = False
                    self._give_up(route, job, call)
                    return
                try:
                    data = call.future.result()
                    if not isinstance(data, Mapping):
                        raise TypeError(f"the handler returned {type(data).__name__}, expected a mapping")
                except (Exception, asyncio.CancelledError) as error:
                    if await self._may_retry(route, job):
                        continue
                    route.failed += 1
                    self._end(job, Status.FAILED, error=f"{type(error).__name__}: {error}")
                else:
                    route.earn_retry(self._retry_share, self._retry_start)
                    self._end(job, Status.OK, data=data)
                return
        finally:
            route.runs.append(time.monotonic() - job.began)
            if freed:
                route.running -= 1
                self._dispatch(route)

    async def _may_retry(self, route: Route, job: Job) -> bool:
        """Pay for a retry and wait its pause; False when there is none left or nobody waits any more."""
        if job.future.done() or not route.pay_retry(job):
            return False
        await asyncio.sleep(route.pause_s * 2.0 ** (job.attempts - 1))
        return not job.future.done()

    def _give_up(self, route: Route, job: Job, call: Call) -> None:
        route.stuck += 1
        route.failed += 1

        def back(_: object) -> None:
            route.stuck -= 1
            route.running -= 1
            if not self._closed:
                self._dispatch(route)

        call.future.add_done_callback(back)
        call.cancel()
        self._end(job, Status.TIMEOUT, error=f"handler {route.module!r} did not answer in {route.timeout_s} s")
        note(_LOG, "handler_hangs", logging.ERROR, module=route.module, task=job.task.task_id, stuck=route.stuck)
        if route.dead:
            # Canceling takes the loop a turn: a handler that heeds it is back by then.
            asyncio.get_running_loop().call_later(route.timeout_s, self._refuse_if_dead, route)

    def _refuse_if_dead(self, route: Route) -> None:
        if route.dead:
            self._refuse(route, Status.FAILED, route.death)

    def _end(self, job: Job, status: Status, *, data: Mapping[str, Any] | None = None, error: str = "") -> None:
        task = job.task
        if self._jobs.pop(task.task_id, None) is None:
            return
        now = time.monotonic()
        began = job.began or now
        queued_s, run_s = began - job.entered, now - began
        if not job.future.done():
            job.future.set_result(
                ResultMessage(task.task_id, task.module, status, data or {}, error, job.attempts, queued_s, run_s)
            )
        self._steps.ended(job, status)
        level = logging.DEBUG if status is Status.OK else logging.WARNING
        note(
            _LOG, "task", level, module=task.module, task=task.task_id, status=status.value, error=error,
            attempts=job.attempts, queued_s=round(queued_s, 6), run_s=round(run_s, 6),
        )  # fmt: skip
