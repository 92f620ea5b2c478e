# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""WebSockets: the token comes as the first message, since a browser cannot set a header on one."""

from __future__ import annotations

import asyncio
import json

from starlette.websockets import WebSocket, WebSocketDisconnect

from flow_rag_vla.gateway.access import Access, Person, Role
from flow_rag_vla.gateway.errors import GatewayError

PATIENCE_S = 10.0
"""How long a connection may stay silent before it is closed."""

UNAUTHORIZED, FORBIDDEN = 4401, 4403
"""Close codes: those of HTTP, in the range that applications may use (RFC 6455, 7.4.2)."""


async def admit(socket: WebSocket, role: Role) -> Person | None:
    """Accept a connection and wait for ``{"token": ...}``; None if it was closed, after being told why."""
    await socket.accept()
    access: Access = socket.app.state.access
    try:
        secret = _secret(await asyncio.wait_for(socket.receive_text(), PATIENCE_S))
        return access.check(secret, role)
    except (WebSocketDisconnect, KeyError):
        # Gone, or bytes where text was expected: starlette then has no "text" in the message.
        return None
    except asyncio.TimeoutError:
        error = GatewayError(401, "token_missing", "no token came", 'send {"token": ...} as the first message')
    except GatewayError as refusal:
        error = refusal
    await turn_away(socket, error)
    return None


async def turn_away(socket: WebSocket, error: GatewayError) -> None:
    """Say why, and close the connection."""
    await socket.send_text(json.dumps({"error": error.body()}))
    await socket.close(FORBIDDEN if error.status == 403 else UNAUTHORIZED)


def _secret(text: str) -> str | None:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    secret = message.get("token") if isinstance(message, dict) else None
    return secret if isinstance(secret, str) else None
