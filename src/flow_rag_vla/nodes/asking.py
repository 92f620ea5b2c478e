# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Questions to services whose answer may be lost, asked again until one comes.

A client counts a server as ready once it knows it. Whether the server knows the client too is another message, and an
answer to one that it does not know within 0.1 s is dropped. That strikes where one of both just started.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

AGAIN_S = 1.0
"""Seconds without an answer after which a question is asked again."""

_MEETING_AGAIN_S = 0.3
_MEETING_S = 2.0


class Asking(Generic[RequestT, ResponseT]):
    """One question that may be asked twice; on the executor's thread."""

    def __init__(
        self, client: Client[RequestT, ResponseT], take: Callable[[ResponseT], None], again_s: float = AGAIN_S
    ) -> None:
        """Ask nothing yet.

        Args:
            client: is the caller's to destroy.
            take: gets each answer.
            again_s: seconds without an answer after which it is asked again.
        """
        self._client, self._take, self._again_s = client, take, again_s
        self._asked: Future[Any] | None = None
        self._asked_s = 0.0

    def turn(self, request: RequestT) -> None:
        """To be called now and then until the answer came; asks if the service is there and none is waited for."""
        now = time.monotonic()
        if self._asked is not None:
            if now - self._asked_s < self._again_s:
                return
            self.forget()
        if not self._client.service_is_ready():
            return
        self._asked_s = now
        self._asked = self._client.call_async(request)
        self._asked.add_done_callback(self._on_done)

    def forget(self) -> None:
        """Wait for no answer."""
        if self._asked is not None:
            self._client.remove_pending_request(self._asked)
        self._asked = None

    def _on_done(self, done: Future[Any]) -> None:
        if done is not self._asked:
            return
        self._asked = None
        answer = None if done.exception() is not None else done.result()
        if answer is not None:
            self._take(answer)


class Meeting:
    """Whether a server's node knows the clients that this node made before: it has answered a later one.

    For a question that should not be asked twice: that to a language model takes seconds, or money. A node hears of
    another's clients in the order in which they were made.
    """

    def __init__(self, node: Node, server: str) -> None:
        """Make the client; make those that the server is to know before.

        Args:
            node: the asking one.
            server: name of the other node, as a service's would be said.
        """
        self._client = node.create_client(GetParameters, f"{server}/get_parameters")
        self._asking = Asking(self._client, self._met, _MEETING_AGAIN_S)
        self._ends_s = 0.0
        self._over = True
        self._then: Callable[[], None] = lambda: None

    def begin(self, then: Callable[[], None]) -> None:
        """Anew: the server may be another than the last time.

        Args:
            then: is called as soon as it knows; not if nothing tells.
        """
        self._over, self._then = False, then
        self._ends_s = time.monotonic() + _MEETING_S

    def is_over(self) -> bool:
        """To be called now and then, on the executor's thread; true once it knows, or nothing tells within 2 s."""
        if not self._over:
            self._asking.turn(GetParameters.Request())
            self._over = self._over or time.monotonic() >= self._ends_s
        if self._over:
            self._asking.forget()
        return self._over

    def _met(self, _answer: GetParameters.Response) -> None:
        self._over = True
        self._then()
