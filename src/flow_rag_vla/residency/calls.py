# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Runs handlers: coroutines on the loop, plain functions in threads of their own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from flow_rag_vla.residency.messages import TaskMessage
from flow_rag_vla.residency.routes import Handler
from flow_rag_vla.residency.workers import Workers


@dataclass(frozen=True, slots=True)
class Call:
    """A handler at work. ``future`` is done when it is really back."""

    future: asyncio.Future[Any]
    on_loop: bool

    def cancel(self) -> None:
        """Ask it to stop. A thread cannot be asked: its future stays open until it is back by itself."""
        if self.on_loop:
            self.future.cancel()


class Calls:
    """Starts calls of one pipeline. A thread that never comes back keeps neither the loop nor the process."""

    def __init__(self) -> None:
        self._workers = Workers("pipeline")
        self._open: set[asyncio.Future[Any]] = set()

    def start(self, handler: Handler, task: TaskMessage) -> Call:
        """Call a handler with a task."""
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            return Call(self.keep(asyncio.ensure_future(cast(Awaitable[Any], handler(task)))), True)
        return Call(self.in_thread(lambda: handler(task)), False)

    def in_thread(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a plain call; the future, of the running loop, gets what it gives or raises."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if came.done():
                return
            if error is not None:
                came.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
                came.exception()  # looked at: nobody may be left who asks
            else:
                came.set_result(value)

        def work() -> None:
            value, error = None, None
            try:
                value = call()
            except BaseException as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(settle, value, error)
            except RuntimeError:
                return  # the loop has ended, and with it whoever waited

        self._workers.run(work)
        return came

    def keep(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Hold a task: the loop itself holds tasks weakly."""
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def close(self) -> None:
        """Cancel what runs on the loop."""
        for task in tuple(self._open):
            task.cancel()
        self._workers.close()
