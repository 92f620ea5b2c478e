# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""uvicorn in a thread of its own, with a start that says why it failed and a stop that ends."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType

import uvicorn
from fastapi import FastAPI

from flow_rag_vla.gateway.patience import patient_protocol

_START_S = 30.0
_STOP_S = 10.0


class ServerError(RuntimeError):
    """The server cannot start; the message says what to change."""


class Server:
    """Use as a context manager, or call ``start`` and ``stop`` from one thread.

    It listens on this machine only unless another ``host`` is named. Port 0 takes a free one. ``app`` is what
    ``make_app`` made: it says how long a client may keep the server waiting.
    """

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 8600) -> None:
        self._host, self._port = host, port
        configuration = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            http=patient_protocol(app.state.patience),
            server_header=False,
            # A browser that keeps its connection open does not keep the server from ending.
            timeout_graceful_shutdown=2,
            # A page sends small messages only; what it is sent is not bounded by this.
            ws_max_size=1 << 16,
            ws="websockets-sansio",
            lifespan="on",
        )
        self._server = uvicorn.Server(configuration)
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Address of its first page, for a browser on this machine if it listens on every address."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self._port}/"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def start(self) -> None:
        """Return once it answers.

        Raises:
            ServerError: if the address cannot be used.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
        except OSError as error:
            listening.close()
            raise ServerError(
                f"cannot listen on {self._host}:{self._port}: {error.strerror or error}; choose another host or port"
            ) from None
        self._port = int(listening.getsockname()[1])
        self._socket = listening
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="gateway", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"the server on {self._host}:{self._port} did not start; its log says why")
            time.sleep(0.005)

    def stop(self) -> None:
        """Close every connection and end the thread; does nothing the second time."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._server.should_exit = True
            thread.join(_STOP_S)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
