"""How much a request may send, checked while it comes in: a body is never collected beyond its limit."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flow_rag_vla.gateway.errors import GatewayError, respond

DEFAULT_BODY = 1 << 20
"""Bytes of a body where nothing else is said: much for JSON, little for memory."""


class BodyLimit:
    """ASGI middleware. ``limits`` gives other limits below path prefixes; the longest that fits counts."""

    def __init__(self, app: ASGIApp, limits: Mapping[str, int], default: int = DEFAULT_BODY) -> None:
        self._app, self._default = app, default
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
        taken, begun, refused = 0, False, False

        async def counted() -> Message:
            nonlocal taken, refused
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                refused = True
                raise _too_large(scope["path"], limit)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            # What a framework makes of the exception is its own affair; the client hears what it was.
            if refused and not begun:
                return
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except GatewayError:
            if begun:
                raise
        if refused and not begun:
            await respond(_too_large(scope["path"], limit))(scope, receive, send)

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
