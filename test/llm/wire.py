# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A local HTTP server that speaks the wire formats of the hosted providers, and can speak them badly."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SECRET = "sk-test-0123456789abcdef"
"""No real key: it must not turn up in any text."""


@dataclass
class Reply:
    """What the server does with one request.

    pieces: text of the answer, streamed
    stop: why it ended; None leaves the end out
    cut: close the connection after the pieces, without the end
    hang: after the pieces wait until the client goes away
    """

    pieces: tuple[str, ...] = ()
    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    stop: str | None = "end"
    cut: bool = False
    hang: bool = False
    raw: bytes | None = None
    refusal: str = ""
    usage: tuple[int, int] = (11, 7)


def claude_events(reply: Reply) -> Iterator[bytes]:
    def event(name: str, **fields: Any) -> bytes:
        return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()

    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "x", "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": reply.usage[0], "output_tokens": 1}}  # fmt: skip
    yield event("message_start", message=message)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in reply.pieces:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    if reply.cut or reply.hang:
        return
    yield event("content_block_stop", index=0)
    if reply.stop is not None:
        words = {"end": "end_turn", "length": "max_tokens", "refusal": "refusal"}
        yield event(
            "message_delta",
            delta={"stop_reason": words[reply.stop], "stop_sequence": None},
            usage={"output_tokens": reply.usage[1]},
        )
        yield event("message_stop")


def openai_events(reply: Reply) -> Iterator[bytes]:
    def chunk(choices: list[Any], usage: Any = None) -> bytes:
        body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": choices,
                "usage": usage}  # fmt: skip
        return f"data: {json.dumps(body)}\n\n".encode()

    for piece in reply.pieces:
        yield chunk([{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}])
    if reply.refusal:
        yield chunk([{"index": 0, "delta": {"refusal": reply.refusal}, "finish_reason": None}])
    if reply.cut or reply.hang:
        return
    if reply.stop is not None:
        words = {"end": "stop", "length": "length", "refusal": "content_filter"}
        yield chunk([{"index": 0, "delta": {}, "finish_reason": words[reply.stop]}])
    yield chunk([], {"prompt_tokens": reply.usage[0], "completion_tokens": reply.usage[1],
                     "total_tokens": sum(reply.usage)})  # fmt: skip
    yield b"data: [DONE]\n\n"


EVENTS: dict[str, Callable[[Reply], Iterator[bytes]]] = {"claude": claude_events, "openai": openai_events}


class WireServer:
    """Answers each request with the next reply; the last one stays. Runs on a thread of its own."""

    def __init__(self, dialect: str) -> None:
        self._events = EVENTS[dialect]
        self.replies: list[Reply] = [Reply(("hello",))]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = threading.Event()
        """Set when a client went away from a reply that hangs."""
        self.reached = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set_result, None)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopped = self._loop.create_future()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.splitlines()[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.headers.append(headers)
            self.requests.append(json.loads(body) if body else {})
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            await self._reply(reply, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return
        if reply.status != 200:
            extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
            body = reply.body.encode()
            writer.write(
                f"HTTP/1.1 {reply.status} X\r\ncontent-type: application/json\r\n{extra}"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        events = [reply.body.encode()] if reply.body else list(self._events(reply))
        for event in events:
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            await writer.drain()
        self.reached.set()
        if reply.hang:
            await reader.read()
            self.gone.set()
        elif not reply.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
