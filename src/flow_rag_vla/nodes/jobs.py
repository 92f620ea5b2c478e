# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Work that would delay a callback, done in order on a thread of its own; its results come back to the executor.

For a single-threaded executor: an ``async`` service callback in a reentrant group awaits the result while the executor
goes on with other callbacks. (A multi-threaded one was measured to wake up to 7 ms later, and Python runs one callback
at a time anyway.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

from rclpy.node import Node
from rclpy.task import Future

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class BusyError(RuntimeError):
    """Too many jobs wait already; the text says what to do."""


class Promise(Protocol[T_co]):
    """A result to come, awaited in an ``async`` callback or told to a done callback; never cancelled.

    rclpy's ``Future``, without the None that awaiting a cancelled one gives.
    """

    def __await__(self) -> Generator[Any, None, T_co]:
        """The result, or the exception of the work."""
        ...

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        """Call with the future once it is done, on the executor's thread."""
        ...


class JobThread:
    """One thread with a queue. Results are handed over on the executor's thread."""

    def __init__(self, node: Node, name: str, limit: int = 256) -> None:
        """Start on a node's executor; more than ``limit`` waiting jobs are refused."""
        self._name, self._limit = name, limit
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._finished: deque[tuple[Future[Any], ThreadFuture[Any]]] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        self._open = True
        self._guard = node.create_guard_condition(self._hand_over)

    @property
    def waiting(self) -> int:
        """Jobs that are not done."""
        return self._waiting

    def submit(self, job: Callable[[], T]) -> Promise[T]:
        """Queue a job.

        Raises:
            BusyError: if too many are waiting.
        """
        with self._lock:
            if self._waiting >= self._limit:
                raise BusyError(f"{self._waiting} jobs wait for the {self._name}; try again later")
            self._waiting += 1
        answer: Future[T] = Future()
        self._pool.submit(job).add_done_callback(lambda done: self._done(answer, done))
        return cast("Promise[T]", answer)

    def close(self) -> None:
        """Finish what was queued, then end the thread."""
        self._pool.shutdown(wait=True)
        with self._lock:
            self._open = False

    def abandon(self) -> None:
        """Drop what was queued and wait for nothing: for answers that nobody gets any more. The thread may go on."""
        with self._lock:
            self._open = False
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, answer: Future[Any], done: ThreadFuture[Any]) -> None:
        self._finished.append((answer, done))
        with self._lock:
            self._waiting -= 1
            if self._open:
                self._guard.trigger()

    def _hand_over(self) -> None:
        while self._finished:
            answer, done = self._finished.popleft()
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            else:
                answer.set_exception(cast(Exception, error))
