# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How much a request may send and how long it may take, checked while it comes in.

A body is never collected beyond its limit, and never waited for without end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flow_rag_vla.gateway.errors import GatewayError, respond, unavailable
from flow_rag_vla.gateway.patience import PATIENCE, Patience

DEFAULT_BODY = 1 << 20
"""Bytes of a body where nothing else is said: much for JSON, little for memory."""


class RequestLimit:
    """ASGI middleware: so many requests at once; further ones are refused, not kept waiting.

    ``/health`` is always answered: a server that has much to do is alive. WebSockets are bounded as connections.
    """

    def __init__(self, app: ASGIApp, patience: Patience = PATIENCE, exempt: str = "/health") -> None:
        self._app, self._most, self._exempt = app, patience.requests, exempt
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or scope["path"] == self._exempt:
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._most:
            message = f"{self._under_way} requests are under way"
            error = unavailable("overloaded", message, "send it again in a moment", retry_after_s=1)
            await respond(error)(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


class BodyLimit:
    """ASGI middleware. ``limits`` gives other limits below path prefixes; the longest that fits counts."""

    def __init__(
        self, app: ASGIApp, limits: Mapping[str, int], default: int = DEFAULT_BODY, patience: Patience = PATIENCE
    ) -> None:
        self._app, self._default, self._patience = app, default, patience
        self._limits = sorted(limits.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        declared = _declared(scope)
        if declared is not None and declared > limit:
            await respond(_too_large(scope["path"], limit))(scope, receive, send)
            return
        taken, waited, whole, begun = 0, 0.0, False, False
        refusal: GatewayError | None = None

        async def counted() -> Message:
            nonlocal taken, waited, whole, refusal
            if whole:
                # What comes now is that the client goes away, some time.
                return await receive()
            since = time.monotonic()
            try:
                left = self._patience.body_s + taken / self._patience.body_rate - waited
                message = await asyncio.wait_for(receive(), left)
            except asyncio.TimeoutError:
                refusal = _too_slow(scope["path"], taken)
                raise refusal from None
            # What the server itself took in between is not the client's fault.
            waited += time.monotonic() - since
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > limit:
                refusal = _too_large(scope["path"], limit)
                raise refusal
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            # What a framework makes of the exception is its own affair; the client hears what it was.
            if refusal is not None and not begun:
                return
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except GatewayError:
            if begun:
                raise
        if refusal is not None and not begun:
            answer = respond(refusal)
            if refusal.status == HTTPStatus.REQUEST_TIMEOUT:
                # The rest of that body is not waited for either.
                answer.headers["Connection"] = "close"
            await answer(scope, receive, send)

    def _limit(self, path: str) -> int:
        return next((limit for prefix, limit in self._limits if path.startswith(prefix)), self._default)


def _declared(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def _too_large(path: str, limit: int) -> GatewayError:
    return GatewayError(
        413, "too_large", f"the body for {path} is larger than {limit} bytes", "send less, or in several requests"
    )


def _too_slow(path: str, taken: int) -> GatewayError:
    return GatewayError(
        408, "too_slow", f"the body for {path} stopped coming after {taken} bytes", "send it again, without pauses"
    )
