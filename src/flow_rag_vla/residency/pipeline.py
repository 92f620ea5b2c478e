"""Tasks to handlers, step by step: a bounded priority queue, isolated handlers, barriers that always end.

Runs on one asyncio loop. A task waits in the queue of its module's handler; all queues together are bounded. A handler
has a number of places; one that hangs loses the place until it comes back, and when it has none left its tasks are
refused at once. So nothing that a handler does keeps another's tasks, or a barrier, waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from flow_rag_vla.residency.errors import ClosedError, ResidencyError
from flow_rag_vla.residency.messages import ResultMessage, Status, TaskMessage
from flow_rag_vla.residency.workers import Workers

_LOG = logging.getLogger(__name__)

Handler = Callable[[TaskMessage], "Mapping[str, Any] | Awaitable[Mapping[str, Any]]"]
"""``async def`` runs on the loop; a plain function in a thread. Raising fails the task."""

MAX_STEPS = 1024
_WINDOW = 1024


class QueueFullError(ResidencyError):
    """The queue is full of tasks at least as urgent."""

    kind = "queue_full"
    retryable = True


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
class _Job:
    task: TaskMessage
    future: asyncio.Future[ResultMessage]
    entered: float
    began: float = 0.0
    attempts: int = 0


@dataclass(slots=True)
class _Route:
    module: str
    handler: Handler
    places: int
    timeout_s: float
    attempts: int
    pause_s: float
    budget: float
    queue: list[tuple[int, int, _Job]] = field(default_factory=list)
    running: int = 0
    stuck: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    runs: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))


@dataclass(slots=True)
class _Step:
    pending: dict[str, _Job] = field(default_factory=dict)
    counts: dict[Status, int] = field(default_factory=dict)
    waiter: asyncio.Future[None] | None = None


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
        self._routes: dict[str, _Route] = {}
        self._steps: dict[str, _Step] = {}
        self._jobs: dict[str, _Job] = {}
        self._workers = Workers("pipeline")
        self._tasks: set[asyncio.Future[Any]] = set()
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
        if places < 1 or attempts < 1 or not timeout_s > 0.0 or pause_s < 0.0:
            raise ValueError(
                f"places {places}, attempts {attempts}, timeout {timeout_s} s, pause {pause_s} s: too small"
            )
        self._routes[module] = _Route(module, handler, places, timeout_s, attempts, pause_s, self._retry_start)
        _note("registered", module=module, places=places)

    def unregister(self, module: str) -> None:
        """Take a handler off. Its waiting tasks end as ``no_handler``, running ones go on.

        Raises:
            KeyError: when it has none.
        """
        if module not in self._routes:
            raise KeyError(f"module {module!r} has no handler; registered: {', '.join(self._routes) or 'none'}")
        route = self._routes.pop(module)
        for _, _, job in route.queue:
            self._leave_queue(job, Status.NO_HANDLER, f"the handler of {module!r} was unregistered")
        route.queue.clear()
        _note("unregistered", module=module)

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
        job = _Job(task, asyncio.get_running_loop().create_future(), time.monotonic())
        if route is not None and route.stuck < route.places and self._waiting >= self._capacity:
            self._make_room(task)
        self._jobs[task.task_id] = job
        if task.step:
            if task.step not in self._steps:
                self._forget_steps()
            self._steps.setdefault(task.step, _Step()).pending[task.task_id] = job
        if route is None:
            known = ", ".join(self._routes) or "none"
            self._end(job, Status.NO_HANDLER, error=f"module {task.module!r} has no handler; registered: {known}")
        elif route.stuck >= route.places:
            self._end(job, Status.FAILED, error=_dead(route))
        else:
            self._sequence += 1
            heapq.heappush(route.queue, (-task.priority, self._sequence, job))
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
        record = self._steps.get(step, _Step())
        if record.waiter is not None:
            raise ValueError(f"step {step!r} has a barrier already; one waits for all")
        given_up: tuple[str, ...] = ()
        until = time.monotonic() + timeout_s
        if record.pending:
            record.waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait([record.waiter], timeout=timeout_s)
            given_up = tuple(sorted({job.task.module for job in record.pending.values()}))
            for job in tuple(record.pending.values()):
                error = f"not done when the barrier of step {step!r} ended after {timeout_s} s"
                self._end(job, Status.TIMEOUT, error=error)
        self._steps.pop(step, None)
        if self._synchronize is not None:
            outcome = self._in_thread(self._synchronize)
            # A device that does not answer must not hold the barrier either.
            done, _ = await asyncio.wait([outcome], timeout=max(0.0, until - time.monotonic()))
            if not done:
                given_up = (*given_up, "synchronize")
            else:
                outcome.result()
        report = StepReport(step, dict(record.counts), given_up)
        _note("step", step=step, given_up=given_up, **{status.value: count for status, count in report.counts.items()})
        return report

    def metrics(self) -> dict[str, RouteMetrics]:
        """By module."""
        return {
            name: RouteMetrics(
                len(route.queue), route.running, route.stuck, route.done, route.failed, route.retried,
                _quantile(route.waits, 0.5), _quantile(route.waits, 0.95),
                _quantile(route.runs, 0.5), _quantile(route.runs, 0.95),
            )
            for name, route in self._routes.items()
        }  # fmt: skip

    @property
    def waiting(self) -> int:
        """Tasks in all queues."""
        return self._waiting

    def close(self) -> None:
        """End every task as ``canceled`` and take no more."""
        self._closed = True
        for module in tuple(self._routes):
            self._routes[module].queue.clear()
        self._waiting = 0
        for job in tuple(self._jobs.values()):
            self._end(job, Status.CANCELED, error="the pipeline was closed")
        for task in tuple(self._tasks):
            task.cancel()
        self._workers.close()

    # Inside.

    def _make_room(self, task: TaskMessage) -> None:
        lowest: tuple[int, int, _Job] | None = None
        owner: _Route | None = None
        if self._overflow == "shed":
            for route in self._routes.values():
                for item in route.queue:
                    if lowest is None or item[:2] > lowest[:2]:
                        lowest, owner = item, route
        if lowest is None or owner is None or -lowest[0] >= task.priority:
            raise QueueFullError(
                f"{self._waiting} of {self._capacity} tasks wait, none less urgent than {task.priority}; "
                "submit more slowly, raise the priority or the capacity"
            )
        owner.queue.remove(lowest)
        heapq.heapify(owner.queue)
        self._leave_queue(lowest[2], Status.SHED, f"pushed out by a task of priority {task.priority}")

    def _leave_queue(self, job: _Job, status: Status, error: str) -> None:
        self._waiting -= 1
        self._end(job, status, error=error)

    def _dispatch(self, route: _Route) -> None:
        while route.queue and route.running < route.places:
            job = heapq.heappop(route.queue)[2]
            self._waiting -= 1
            if job.future.done():  # its barrier gave it up, or its caller canceled it
                self._end(job, Status.CANCELED, error="canceled")
                continue
            route.running += 1
            job.began = time.monotonic()
            route.waits.append(job.began - job.entered)
            self._keep(asyncio.ensure_future(self._run(route, job)))

    def _keep(self, task: asyncio.Future[Any]) -> None:
        # The loop itself holds tasks weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, route: _Route, job: _Job) -> None:
        freed = True
        try:
            while True:
                job.attempts += 1
                call = self._call(route.handler, job.task)
                self._keep(call)
                done, _ = await asyncio.wait([call], timeout=route.timeout_s)
                if not done:
                    # Not awaited: a handler may ignore being canceled. It keeps its place until it is gone.
                    freed = False
                    self._give_up(route, job, call)
                    return
                try:
                    data = call.result()
                    if not isinstance(data, Mapping):
                        raise TypeError(f"the handler returned {type(data).__name__}, expected a mapping")
                except (Exception, asyncio.CancelledError) as error:
                    if job.attempts < route.attempts and route.budget >= 1.0 and not job.future.done():
                        route.budget -= 1.0
                        route.retried += 1
                        await asyncio.sleep(route.pause_s * 2.0 ** (job.attempts - 1))
                        continue
                    route.failed += 1
                    self._end(job, Status.FAILED, error=f"{type(error).__name__}: {error}")
                    _note("task_failed", logging.WARNING, module=route.module, task=job.task.task_id, error=str(error))
                else:
                    route.done += 1
                    route.budget = min(self._retry_start, route.budget + self._retry_share)
                    self._end(job, Status.OK, data=data)
                return
        finally:
            route.runs.append(time.monotonic() - job.began)
            if freed:
                route.running -= 1
                self._dispatch(route)

    def _give_up(self, route: _Route, job: _Job, call: asyncio.Future[Any]) -> None:
        route.stuck += 1
        route.failed += 1

        def back(_: object) -> None:
            route.stuck -= 1
            route.running -= 1
            if not self._closed:
                self._dispatch(route)

        call.add_done_callback(back)
        call.cancel()
        self._end(job, Status.TIMEOUT, error=f"handler {route.module!r} did not answer in {route.timeout_s} s")
        _note("handler_hangs", logging.ERROR, module=route.module, task=job.task.task_id, stuck=route.stuck)
        if route.stuck >= route.places:
            # Canceling takes the loop a turn: a handler that heeds it is back by then.
            asyncio.get_running_loop().call_later(route.timeout_s, self._refuse_if_dead, route)

    def _refuse_if_dead(self, route: _Route) -> None:
        if route.stuck >= route.places:
            for _, _, job in route.queue:
                self._leave_queue(job, Status.FAILED, _dead(route))
            route.queue.clear()

    def _call(self, handler: Handler, task: TaskMessage) -> asyncio.Future[Any]:
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            return asyncio.ensure_future(cast(Awaitable[Any], handler(task)))
        return self._in_thread(lambda: handler(task))

    def _in_thread(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        came = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if came.done():
                return
            if error is not None:
                came.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            else:
                came.set_result(value)

        def work() -> None:
            value, error = None, None
            try:
                value = call()
            except BaseException as caught:
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, error)

        self._workers.run(work)
        # A thread cannot be canceled: whoever cancels must not believe that it is gone.
        return asyncio.ensure_future(_shielded(came))

    def _end(self, job: _Job, status: Status, *, data: Mapping[str, Any] | None = None, error: str = "") -> None:
        if self._jobs.pop(job.task.task_id, None) is None:
            return
        now = time.monotonic()
        began = job.began or now
        if not job.future.done():
            result = ResultMessage(
                job.task.task_id,
                job.task.module,
                status,
                data or {},
                error,
                job.attempts,
                began - job.entered,
                now - began,
            )
            job.future.set_result(result)
        record = self._steps.get(job.task.step) if job.task.step else None
        if record is not None and record.pending.pop(job.task.task_id, None) is not None:
            record.counts[status] = record.counts.get(status, 0) + 1
            if not record.pending and record.waiter is not None and not record.waiter.done():
                record.waiter.set_result(None)

    def _forget_steps(self) -> None:
        """Steps that ended and were never waited for must not add up."""
        while len(self._steps) >= MAX_STEPS:
            over = next((name for name, one in self._steps.items() if not one.pending and one.waiter is None), None)
            if over is None:
                return
            del self._steps[over]


async def _shielded(future: asyncio.Future[Any]) -> Any:
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.cancelled():
                raise
        except Exception:
            break
    return future.result()


def _dead(route: _Route) -> str:
    return f"all {route.places} places of handler {route.module!r} hang; unregister it, mend it, register it anew"


def _quantile(values: deque[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


def _note(event: str, level: int = logging.DEBUG, **fields: Any) -> None:
    if _LOG.isEnabledFor(level):
        _LOG.log(level, "%s", json.dumps({"event": event, **fields}, default=str))
