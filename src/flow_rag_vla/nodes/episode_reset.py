# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator's reset, asked for at the start of an episode: one request at a time, within a time limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla_interfaces.srv import ResetSimulation


class SceneReset:
    """Every method on the executor's thread.

    on_reply: hears the answer to the request of the moment; one to a request that was forgotten is dropped.
    """

    def __init__(self, node: Node, on_reply: Callable[[ResetSimulation.Response], None]) -> None:
        self._client = node.create_client(ResetSimulation, topics.RESET_SIMULATION)
        self._on_reply = on_reply
        # Steady: a stopped clock must not hide that nobody answers.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._request: ResetSimulation.Request | None = None
        self._reply: Future[Any] | None = None
        self._limit_s = 0.0
        self._deadline_ns = 0

    @property
    def under_way(self) -> bool:
        """Whether the simulator was asked and has not answered: it may show the new scene already."""
        return self._reply is not None

    def ask(self, request: ResetSimulation.Request, limit_s: float) -> None:
        """Ask, as soon as the service is there, and give up after so many seconds."""
        self.forget()
        self._request, self._limit_s = request, limit_s
        self._deadline_ns = self._now_ns() + int(limit_s * 1e9)
        self._send()

    def turn(self) -> str:
        """To be called now and then while an answer is waited for; a sentence once it is too late, else empty."""
        self._send()
        if self._request is None or self._now_ns() <= self._deadline_ns:
            return ""
        name = self._client.srv_name
        if self._reply is None:
            return f"{name} did not appear within {self._limit_s:g} s; start the simulator or set reset to none"
        return f"{name} did not answer within {self._limit_s:g} s"

    def forget(self) -> None:
        """Wait for no answer any more."""
        if self._reply is not None:
            # A client keeps every request that is not answered.
            self._client.remove_pending_request(self._reply)
        self._request = self._reply = None

    def _send(self) -> None:
        if self._request is None or self._reply is not None or not self._client.service_is_ready():
            return
        self._reply = self._client.call_async(self._request)
        self._reply.add_done_callback(self._on_done)

    def _on_done(self, reply: Future[Any]) -> None:
        if reply is self._reply:
            self.forget()
            self._on_reply(reply.result())

    def _now_ns(self) -> int:
        return int(self._steady.now().nanoseconds)
