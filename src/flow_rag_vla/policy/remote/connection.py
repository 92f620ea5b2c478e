# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A connection to openpi's policy server that never makes its caller wait.

The protocol: on connection the server sends its metadata; each request is one binary frame, each answer another; an
error comes as a text frame with the traceback, and the server closes. All of it happens on a thread of its own, with a
deadline for every step. One request is under way at a time. After any fault the connection is closed, so that a late
answer can never be taken for that of the next request, and made again after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flow_rag_vla.policy.remote.errors import ContractError, RemotePolicyError, WireError, missing_library
from flow_rag_vla.policy.remote.wire import decode, encode

API_KEY = "FLOW_RAG_VLA_POLICY_API_KEY"
"""Environment variable of the key that a server may ask for. Not a parameter: those are written into bags."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
_CLOSING_S = 1.0
_METADATA_BYTES = 1_000_000
_SHOWN = 300
"""Characters of a server's own words that are passed on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines, in seconds, and how large an answer may be.

    first_answer_s: of the first answer on a connection, which a server that compiles then takes long for
    """

    connect_s: float = 5.0
    answer_s: float = 2.0
    first_answer_s: float = 120.0
    answer_bytes: int = 16_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: what the server answered, or why there is nothing.

    asked: what ``ask`` was given with it; seconds: from asking to here
    """

    asked: Any
    values: Any
    problem: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a connection stands.

    connected: metadata has come; problem: what ended the last one, empty since an answer came
    asking_s: seconds that the present request has been under way, 0 without one
    revision: first 12 hex digits of the SHA-256 of the metadata's bytes
    """

    connected: bool = False
    asking: bool = False
    asking_s: float = 0.0
    problem: str = ""
    attempts: int = 0
    answers: int = 0
    metadata: Mapping[str, Any] | None = None
    revision: str = ""


class PolicyConnection:
    """Use: ``start``, then ``ask`` and ``take``, at last ``close``, all on one thread.

    They return at once, but for ``close``, which waits for the connection's thread for a few seconds at most.
    """

    def __init__(self, url: str, limits: Limits, changed: Callable[[], None]) -> None:
        """Do not connect yet.

        Args:
            url: as ``checked_url`` gives it.
            limits: deadlines and sizes.
            changed: called from the connection's thread when there is an answer to take or it stands differently.

        Raises:
            MissingLibraryError: if websockets or msgpack is not installed.
        """
        try:
            import msgpack  # noqa: F401  (asked for here: before a robot moves)
            from websockets.asyncio.client import connect
        except ImportError as error:
            raise missing_library(error) from None
        self.url = url
        self._limits, self._changed = limits, changed
        self._connect = connect
        self._lock = threading.Lock()
        self._standing = Standing()
        self._answers: list[Answer] = []
        self._asked: tuple[Any, Callable[[], Any], float] | None = None
        self._asked_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._connected = self._asking = False
        self._problem = ""
        self._attempts = self._answered = 0
        self._metadata: Mapping[str, Any] | None = None
        self._revision = ""
        # Only spreads attempts in time: many robots that lost one server must not come back in step.
        self._random = random.Random()

    # The caller's side.

    def start(self) -> None:
        """Begin to connect; also again after ``close``."""
        self._ready.clear()
        with self._lock:
            self._answers, self._asked, self._asked_at, self._problem, self._asking = [], None, None, "", False
        self._thread = threading.Thread(target=self._run, name="policy connection", daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End it, whatever is under way; nothing is called afterwards."""
        thread, loop, task = self._thread, self._loop, self._task
        if thread is None or loop is None or task is None:
            return
        # It may have ended by itself.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)
        thread.join(2.0 * _CLOSING_S + 1.0)
        self._thread = None

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        with self._lock:
            return Standing(
                self._connected,
                self._asked is not None or self._asking,
                0.0 if self._asked_at is None else time.monotonic() - self._asked_at,
                self._problem,
                self._attempts,
                self._answered,
                self._metadata,
                self._revision,
            )

    def ask(self, asked: Any, build: Callable[[], Any]) -> bool:
        """Ask the server, unless it is not connected or another request is under way; give whether it was asked.

        Args:
            asked: comes back with the answer.
            build: makes the request; it is called on the connection's thread, and may raise RemotePolicyError.
        """
        with self._lock:
            if not self._connected or self._asking or self._asked is not None:
                return False
            self._asked_at = time.monotonic()
            self._asked = asked, build, self._asked_at
            loop, wanted = self._loop, self._wanted
        if loop is not None and wanted is not None:
            loop.call_soon_threadsafe(wanted.set)
        return True

    def take(self) -> list[Answer]:
        """The answers that have come since the last call."""
        with self._lock:
            answers, self._answers = self._answers, []
        return answers

    # The connection's thread.

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._task, self._wanted = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
        self._ready.set()
        pause = FIRST_PAUSE_S
        try:
            while True:
                before = self._answered
                problem = await self._connection()
                self._lost(problem)
                pause = FIRST_PAUSE_S if self._answered > before else min(2.0 * pause, LONGEST_PAUSE_S)
                await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))
        except asyncio.CancelledError:
            with self._lock:
                self._connected = False

    async def _connection(self) -> str:
        """One connection from its beginning to its end; what ended it."""
        with self._lock:
            self._attempts += 1
        key = os.environ.get(API_KEY)
        try:
            async with self._connect(
                self.url,
                additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
                compression=None,
                max_size=max(self._limits.answer_bytes, _METADATA_BYTES),
                open_timeout=self._limits.connect_s,
                close_timeout=_CLOSING_S,
                # The server answers no ping while it infers; the deadlines of the requests are what counts.
                ping_interval=None,
                proxy=None,
            ) as socket:
                await asyncio.wait_for(self._greeted(socket), self._limits.connect_s)
                self._changed()
                return await self._served(socket)
        except (asyncio.TimeoutError, TimeoutError):
            return f"no greeting within {self._limits.connect_s:g} s; is it a policy server of openpi?"
        except Exception as error:
            # Whatever a server or a network does: the thread goes on trying, and says why.
            return _said(error)

    async def _greeted(self, socket: Any) -> None:
        greeting = await socket.recv()
        if isinstance(greeting, str):
            raise WireError(f"the server greets with a text: {_last_line(greeting)}")
        metadata = decode(greeting, _METADATA_BYTES)
        if not isinstance(metadata, dict):
            raise WireError(f"the server greets with a {type(metadata).__name__}, expected its metadata as a map")
        with self._lock:
            self._connected, self._metadata = True, metadata
            self._revision = hashlib.sha256(greeting).hexdigest()[:12]

    async def _served(self, socket: Any) -> str:
        wanted = self._wanted
        assert wanted is not None
        first = True
        # What comes is read before anything is asked too: so is noticed at once that the server went away.
        coming = asyncio.ensure_future(socket.recv())
        waiting: asyncio.Future[Any] = asyncio.ensure_future(wanted.wait())
        try:
            while True:
                await asyncio.wait({coming, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    return _unasked(coming.result())
                wanted.clear()
                waiting = asyncio.ensure_future(wanted.wait())
                problem = await self._exchange(socket, coming, first)
                if problem:
                    return problem
                # Still waiting if nothing was sent: the request could not be made.
                if coming.done():
                    first, coming = False, asyncio.ensure_future(socket.recv())
        finally:
            waiting.cancel()
            coming.cancel()

    async def _exchange(self, socket: Any, coming: asyncio.Future[Any], first: bool) -> str:
        """One request and its answer; what ends the connection, or nothing."""
        with self._lock:
            item, self._asked = self._asked, None
            self._asking = item is not None
        if item is None:
            return ""
        asked, build, started = item
        values, problem, fatal = None, "", True
        limit = self._limits.first_answer_s if first else self._limits.answer_s
        try:
            try:
                data = encode(build())
            except RemotePolicyError as error:
                problem, fatal = str(error), False
                return ""
            values = decode(await asyncio.wait_for(_answered(socket, coming, data), limit), self._limits.answer_bytes)
        except (asyncio.TimeoutError, TimeoutError):
            problem = f"no answer within {limit:g} s"
        except RemotePolicyError as error:
            problem = str(error)
        except asyncio.CancelledError:
            problem = "closed"
            raise
        except Exception as error:
            problem = _said(error)
        finally:
            self._finished(Answer(asked, values, problem, time.monotonic() - started), bool(problem) and fatal)
        return problem if fatal else ""

    def _finished(self, answer: Answer, broken: bool) -> None:
        with self._lock:
            self._asking, self._asked_at = False, None
            if broken:
                # Who takes this answer may ask at once: not on a connection that is about to end.
                self._connected, self._problem = False, answer.problem
            self._answers.append(answer)
            if not answer.problem:
                self._answered += 1
                self._problem = ""
        self._changed()

    def _lost(self, problem: str) -> None:
        with self._lock:
            self._connected, self._problem = False, problem
            left, self._asked = self._asked, None
            if left is not None:
                self._asked_at = None
                self._answers.append(Answer(left[0], None, problem, time.monotonic() - left[2]))
        self._changed()


def checked_url(url: str) -> str:
    """The address of a server, ``ws://`` or ``wss://``.

    Raises:
        ContractError: if it is none.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine:
        raise ContractError(f"policy server {url!r} is no address; expected ws://host:port, such as ws://10.0.0.5:8000")
    if "@" in urlsplit(url).netloc:
        # Addresses are shown and recorded.
        raise ContractError(f"the policy server's address holds a password; give its key in {API_KEY} instead")
    return url


async def _answered(socket: Any, coming: asyncio.Future[Any], data: bytes) -> bytes:
    await socket.send(data)
    answer = await coming
    if isinstance(answer, str):
        raise WireError(f"the server failed: {_last_line(answer)}")
    return bytes(answer)


def _unasked(message: Any) -> str:
    if isinstance(message, str):
        return f"the server failed: {_last_line(message)}"
    return f"the server sent {len(message):,} bytes that nobody asked for"


def _last_line(text: str) -> str:
    """Of a traceback the line that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no word")[:_SHOWN]


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:_SHOWN]
