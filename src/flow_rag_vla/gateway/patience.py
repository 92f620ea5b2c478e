# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How long a connection may keep the server waiting: for a request, for its body, for its answers to be taken.

Who opens a connection and then says nothing, or a byte now and then (slowloris), holds a place that others need.
uvicorn ends only a connection that idles between two requests; the other limits are here. The body of a request is
timed where it is counted, in ``limits``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from flow_rag_vla.gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Patience:
    """What is waited for, and for how long.

    head_s: seconds from a connection's opening, or from the first byte after an answer, to the end of a request's head
    body_s: seconds that the server waits for a body in all, and one more for each ``body_rate`` bytes that came
    unread_s: seconds in which a client that has an answer waiting takes ``unread_rate`` bytes for each
    connections: open at once; further ones are closed unheard, so that files can still be opened here
    connections_each: open at once from one address, or one /64 network of IPv6; further ones hear a 429
    requests: answered at once; further ones hear a 503
    """

    head_s: float = 20.0
    body_s: float = 20.0
    body_rate: float = 4096.0
    unread_s: float = 30.0
    unread_rate: float = 1024.0
    connections: int = 400
    connections_each: int = 100
    requests: int = 100


PATIENCE = Patience()
_REFUSAL_S = 1.0
_MOST_REFUSING = 50
_NETWORK_BITS = 64
"""Of an IPv6 address: the rest is the client's own to choose."""


def _place(client: tuple[str, int] | None) -> str | None:
    """Where a connection comes from; None where nobody knows, as behind a Unix socket."""
    if client is None:
        return None
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(address), _NETWORK_BITS), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _too_many(most: int) -> bytes:
    """The answer to a connection too many, before anything was asked."""
    error = GatewayError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_connections",
        f"{most} connections are open from your address",
        "close some, or keep one open for several requests",
    )
    body = json.dumps(error.body()).encode()
    lines = (
        f"HTTP/1.1 {error.status:d} Too Many Requests",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Retry-After: 1",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


class _PatientProtocol(H11Protocol):
    """One connection; all of it happens in the server's event loop."""

    patience = PATIENCE
    refusing = 0
    """Connections that were refused and whose client has not gone yet; of all connections of one server."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.patience.connections:
            transport.abort()
        elif self._from_here() > self.patience.connections_each:
            self._refuse(transport)
        else:
            self._await_head()

    def _from_here(self) -> int:
        """Open connections from where this one comes, with it; those that became WebSockets too."""
        here = _place(self.client)
        # uvicorn keeps both kinds in one set.
        return 0 if here is None else sum(_place(getattr(one, "client", None)) == here for one in self.connections)

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Say why, and wait a moment for the client to read it: a request that comes meanwhile would reset it."""
        self.connections.discard(self)
        kind = type(self)
        if kind.refusing >= _MOST_REFUSING:
            transport.abort()
            return
        kind.refusing += 1
        self._refused = True
        transport.write(_too_many(self.patience.connections_each))
        self._head_timer = self.loop.call_later(_REFUSAL_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._refused:
            type(self).refusing -= 1
        self._stop_waiting_for_head()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        self._await_head()

    def _await_head(self) -> None:
        """Begin to wait for a head, or go on; what comes in between does not lengthen it."""
        answering = self.cycle is not None and not self.cycle.response_complete
        # A WebSocket has taken the connection over where the transport's protocol is another one.
        if answering or self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._stop_waiting_for_head()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.patience.head_s, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # A transport that closes waits until the last answer is taken.
        self.loop.call_later(self.patience.unread_s, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting_for_reader()

    def _await_reader(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(self.patience.unread_s, self._judge_reader)

    def _judge_reader(self) -> None:
        taken = self._unread - self.transport.get_write_buffer_size()
        if taken < self.patience.unread_s * self.patience.unread_rate:
            self.transport.abort()
        else:
            self._await_reader()

    def _stop_waiting_for_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_waiting_for_reader(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def patient_protocol(patience: Patience) -> type[asyncio.Protocol]:
    """The protocol of connections that are waited for so long, for ``uvicorn.Config(http=...)``."""

    class PatientProtocol(_PatientProtocol):
        """The same with these limits."""

    PatientProtocol.patience = patience
    return PatientProtocol
