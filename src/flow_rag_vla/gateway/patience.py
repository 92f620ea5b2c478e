"""How long a connection may keep the server waiting: for a request, for its body, for its answers to be taken.

Who opens a connection and then says nothing, or a byte now and then (slowloris), holds a place that others need.
uvicorn ends only a connection that idles between two requests; the other limits are here. The body of a request is
timed where it is counted, in ``limits``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True)
class Patience:
    """What is waited for, and for how long.

    head_s: seconds from a connection's opening, or from the first byte after an answer, to the end of a request's head
    body_s: seconds that the server waits for a body in all, and one more for each ``body_rate`` bytes that came
    unread_s: seconds in which a client that has an answer waiting takes ``unread_rate`` bytes for each
    connections: open at once; further ones are closed unheard, so that files can still be opened here
    """

    head_s: float = 20.0
    body_s: float = 20.0
    body_rate: float = 4096.0
    unread_s: float = 30.0
    unread_rate: float = 1024.0
    connections: int = 400


PATIENCE = Patience()


class _PatientProtocol(H11Protocol):
    """One connection; all of it happens in the server's event loop."""

    patience = PATIENCE

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.patience.connections:
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_head()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
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
