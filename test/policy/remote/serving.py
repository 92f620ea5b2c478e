# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A policy server of openpi's protocol on this machine, which can also misbehave."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from flow_rag_vla.policy.remote.wire import decode, encode

Infer = Callable[[dict[str, Any]], Any]
"""Request to answer: a map to be packed, raw bytes or text to be sent as they are, None to say nothing at all."""


class Server:
    """What was asked of it, and what it does next."""

    def __init__(self, infer: Infer, metadata: Mapping[str, Any] | bytes | str) -> None:
        self.infer, self.metadata = infer, metadata
        self.requests: list[dict[str, Any]] = []
        self.connections: list[ServerConnection] = []
        self.url = ""

    def handle(self, connection: ServerConnection) -> None:
        """One connection, as openpi's server treats it: a traceback as text and an end, if the policy raises."""
        self.connections.append(connection)
        greeting = self.metadata
        with contextlib.suppress(ConnectionClosed):
            connection.send(greeting if isinstance(greeting, (bytes, str)) else encode(dict(greeting)))
            while True:
                request = decode(connection.recv())
                self.requests.append(request)
                try:
                    answer = self.infer(request)
                except Exception:
                    connection.send(traceback.format_exc())
                    connection.close(1011)
                    return
                if answer is not None:
                    connection.send(answer if isinstance(answer, (bytes, str)) else encode(answer))

    def hang_up(self) -> None:
        """Cut every connection off, without a word."""
        for connection in self.connections:
            connection.socket.close()


@contextlib.contextmanager
def serving(infer: Infer, metadata: Mapping[str, Any] | bytes | str = (), port: int = 0) -> Iterator[Server]:
    """A server while the block runs; ``port`` 0 takes a free one."""
    server = Server(infer, metadata or {})
    with serve(server.handle, "127.0.0.1", port, compression=None, max_size=None) as listening:
        number = listening.socket.getsockname()[1]
        server.url = f"ws://127.0.0.1:{number}"
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield server
        server.hang_up()
        listening.shutdown()


def wait_for(predicate: Callable[[], Any], what: str = "", timeout: float = 60.0) -> Any:
    """What the predicate gives, once it is true."""
    end = time.monotonic() + timeout
    while not (found := predicate()):
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.005)
    return found
