# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The executor of a node: what a message, a request or a goal makes a callback raise ends that callback, not the node.

rclpy hands every exception of a callback to whoever spins, which ends the process: a request of one caller would take
the node from all others, and the controller from the robot. What can be foreseen is refused where it is read, by name.
This is for the rest, some of which is in rclpy itself. A timer may read what came since its last turn: that is dropped
too, but one that raises many times in a row is broken, not fed badly, and ends the node, so that whoever supervises it
starts it anew. So does what a guard condition raises.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor, await_or_execute

from flow_rag_vla.nodes.complaints import Complaints

_Work = Callable[[], Coroutine[None, None, None]]
_MARK = "_answers_whatever_happens"
_LONGEST = 500
_TURNS = 40
"""Of a timer in a row that raise: with the control loop's period a second. After them it counts as broken."""

_ENDS = (ExternalShutdownException, ShutdownException)
"""Exceptions that are no fault of what came: the node is to end."""


class NodeExecutor(SingleThreadedExecutor):
    """Runs callbacks in the thread that spins, and outlives what they raise about what came from outside."""

    def __init__(self) -> None:
        super().__init__()
        self._complain: Complaints | None = None
        self._raised: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def _take_subscription(self, sub: Any) -> _Work:
        return self._sheltered(super()._take_subscription, sub, f"a message on {sub.topic_name}")

    def _take_waitable(self, waitable: Any) -> _Work:
        return self._sheltered(super()._take_waitable, waitable, "an action's goal, cancellation or question")

    def _take_service(self, srv: Any) -> _Work:
        # Looked at with each request: handlers are exchanged while a node runs.
        if not hasattr(srv.callback, _MARK):
            srv.callback = self._answering(srv.callback, srv.service_name)
        return self._sheltered(super()._take_service, srv, f"a request to {srv.service_name}")

    def _take_timer(self, tmr: Any) -> _Work | None:
        work = super()._take_timer(tmr)
        if work is None:
            return None

        async def execute() -> None:
            try:
                await work()
                self._raised.pop(tmr, None)
            except _ENDS:
                raise
            except Exception as error:
                self._raised[tmr] = turns = self._raised.get(tmr, 0) + 1
                if turns >= _TURNS:
                    raise
                self.complain("what a timer had to do", error)

        return execute

    def _answering(self, handler: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The handler of a service that answers whatever happens: who waits without a limit would wait for good."""

        async def answer(request: Any, response: Any) -> Any:
            try:
                return await await_or_execute(handler, request, response)
            except _ENDS:
                raise
            except Exception as error:
                sentence = self.complain(f"a request to {name}", error)
                # A new one: what the handler had filled in may be what is wrong.
                empty = type(response)()
                for field in ("message", "reason"):
                    if hasattr(empty, field):
                        setattr(empty, field, sentence)
                return empty

        setattr(answer, _MARK, True)
        return answer

    def _sheltered(self, take: Callable[[Any], _Work | None], entity: Any, what: str) -> _Work:
        # What cannot even be taken must not raise here either: rclpy would never look at the entity again.
        try:
            work = take(entity)
        except Exception as error:
            self.complain(what, error)
            return _nothing
        if work is None:
            return _nothing

        async def execute() -> None:
            try:
                await work()
            except _ENDS:
                raise
            except Exception as error:
                self.complain(what, error)

        return execute

    def complain(self, what: str, error: Exception) -> str:
        """Log what was raised and where; the sentence about it."""
        if self._complain is None:
            self._complain = Complaints(next(iter(self.get_nodes())).get_logger())
        # An error may name what it was about, which may be of any length.
        sentence = f"{what} was dropped: {type(error).__name__}: {error}"[:_LONGEST]
        place = traceback.extract_tb(error.__traceback__)[-1]
        self._complain(f"internal error: {sentence} ({place.filename}:{place.lineno} in {place.name})")
        return sentence


async def _nothing() -> None:
    return None
