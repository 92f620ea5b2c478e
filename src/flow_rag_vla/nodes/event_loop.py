# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An asyncio loop on a thread of its own, whose results come back to the executor.

As ``jobs.JobThread``, for work that waits instead of computing: an ``async`` callback awaits the result while the
executor goes on with other callbacks.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.nodes.jobs import Promise

T = TypeVar("T")


class EventLoopThread:
    """One loop. ``submit`` and ``close`` belong to the executor's thread, ``post`` to any."""

    def __init__(self, node: Node, name: str) -> None:
        self._posted: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._open = True
        self._guard = node.create_guard_condition(self._hand_over)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Promise[T]:
        """Run a coroutine on the loop."""
        answer: Future[T] = Future()
        running = asyncio.run_coroutine_threadsafe(work, self._loop)

        def finished(done: Any) -> None:
            error = asyncio.CancelledError() if done.cancelled() else done.exception()
            if error is None:
                result = done.result()
                self.post(lambda: answer.set_result(result))
            else:
                # Cancelled when the loop closes: no Exception by its class, but one to who waits.
                self.post(lambda: answer.set_exception(cast(Exception, error)))

        running.add_done_callback(finished)
        return cast("Promise[T]", answer)

    def post(self, callback: Callable[[], None]) -> None:
        """Run a callback on the executor's thread, in the order of posting."""
        self._posted.append(callback)
        with self._lock:
            if self._open:
                self._guard.trigger()

    def close(self) -> None:
        """Cancel what is under way, let it end, and stop the loop."""
        with self._lock:
            self._open = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        # A task that does not end when canceled may not keep the node from ending.
        self._loop.run_until_complete(asyncio.wait(tasks, timeout=2.0) if tasks else asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _hand_over(self) -> None:
        while self._posted:
            self._posted.popleft()()
