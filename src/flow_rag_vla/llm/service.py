# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Asks one provider so that the caller gets a checked answer or one typed error, in time.

What every provider would otherwise do for itself is here once: deadline, cancellation, rate limit, retries, cache,
accounting, and the check of structures.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from flow_rag_vla.llm.accounting import Ledger
from flow_rag_vla.llm.cache import ResponseCache, cacheable, request_key
from flow_rag_vla.llm.errors import (
    CanceledError,
    DeadlineError,
    LlmError,
    ProtocolError,
    RateLimitedError,
    StructureError,
)
from flow_rag_vla.llm.limits import RetryPolicy, TokenBucket
from flow_rag_vla.llm.provider import Provider, address, waits_for
from flow_rag_vla.llm.redaction import redact
from flow_rag_vla.llm.request import MAX_CHARACTERS, Answer, Message, Piece, RawAnswer, Request, Usage
from flow_rag_vla.llm.structured import complaint, parse

_log = logging.getLogger(__name__)

OnPiece = Callable[[Piece], None]

T = TypeVar("T")

_KEPT = 2000
"""Characters of a wrong answer that the model is shown again."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How one provider is asked.

    requests: limits calls; None for none
    tokens: limits tokens, settled after each answer; None for none
    structure_attempts: answers that may miss the schema before it is given up
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    structure_attempts: int = 3
    requests: TokenBucket | None = None
    tokens: TokenBucket | None = None
    cache: ResponseCache | None = None
    ledger: Ledger = field(default_factory=Ledger)


class LanguageModel:
    """One provider behind everything that surrounds a call. Belongs to one event loop."""

    def __init__(
        self, provider: Provider, settings: ServiceSettings | None = None, rng: random.Random | None = None
    ) -> None:
        self.provider = provider
        self._settings = settings or ServiceSettings()
        self._rng = rng or random.Random()

    async def ask(self, request: Request, on_piece: OnPiece | None = None) -> Answer:
        """The checked answer to one request; ``on_piece`` gets its parts as they come.

        Raises:
            LlmError: of the kind that fits, at the deadline at the latest, even if the provider ignores it.
        """
        started = time.monotonic()
        if request.cancel.canceled:
            raise CanceledError("the request was canceled before it was made")
        if request.deadline <= started:
            raise DeadlineError("the deadline had passed before the request was made")
        provider, cache = self.provider, self._settings.cache
        key = ""
        if cache is not None and cacheable(request):
            key = request_key(provider.name, provider.model, request, address(provider))
            known = cache.get(key)
            if known is not None:
                if on_piece is not None:
                    on_piece(Piece(known, 0))
                return self._answer(request, known, _checked(known, request), Usage(), 0, started)
        try:
            answer = await within(self._attempts(request, on_piece, started), request)
        except DeadlineError:
            why = waits_for(provider)
            if why:
                raise DeadlineError(f"no answer before the deadline: {why}") from None
            raise
        if cache is not None and key:
            cache.put(key, answer.text)
        return answer

    async def close(self) -> None:
        """Close the provider."""
        await self.provider.close()

    async def _attempts(self, request: Request, on_piece: OnPiece | None, started: float) -> Answer:
        settings = self._settings
        calls = failures = misses = 0
        usage = Usage()
        present = request
        while True:
            await self._throttle(request)
            calls += 1
            try:
                raw = await self._call(present, on_piece, calls)
            except LlmError as error:
                failures += 1
                if not error.retryable or failures >= settings.retry.attempts:
                    raise
                await self._wait(error, failures - 1, request)
                continue
            usage += raw.usage
            try:
                value = _checked(raw.text, request)
            except StructureError as miss:
                misses += 1
                _log.info("%s: answer %d is no %s: %s", self.provider.name, calls, _name(request), miss)
                if self.provider.deterministic or misses >= settings.structure_attempts:
                    raise StructureError(f"{miss} (after {misses} answers)") from None
                present = _with_complaint(request, raw.text, miss)
                continue
            return self._answer(request, raw.text, value, usage, calls, started)

    async def _call(self, request: Request, on_piece: OnPiece | None, attempt: int) -> RawAnswer:
        provider, settings = self.provider, self._settings
        emit = None if on_piece is None else lambda text: on_piece(Piece(text, attempt))
        try:
            raw = await provider.answer(request, emit)
        except LlmError:
            settings.ledger.record(provider.name, provider.model, Usage(), failed=True)
            raise
        except Exception as error:
            settings.ledger.record(provider.name, provider.model, Usage(), failed=True)
            raise ProtocolError(f"{provider.name}: {type(error).__name__}: {redact(str(error))}") from None
        settings.ledger.record(provider.name, provider.model, raw.usage, failed=False)
        if settings.tokens is not None:
            settings.tokens.take(raw.usage.input_tokens + raw.usage.output_tokens)
        return raw

    async def _throttle(self, request: Request) -> None:
        for bucket, amount in ((self._settings.requests, 1.0), (self._settings.tokens, 0.0)):
            if bucket is None:
                continue
            wait = bucket.take(amount)
            if wait >= request.remaining_s:
                bucket.give_back(amount)
                raise RateLimitedError(
                    f"the own rate limit lets the request through in {wait:.1f} s, after its deadline; "
                    "raise requests_per_minute or tokens_per_minute, or ask less often",
                    wait,
                )
            if wait > 0.0:
                try:
                    await asyncio.sleep(wait)
                except asyncio.CancelledError:
                    bucket.give_back(amount)
                    raise

    async def _wait(self, error: LlmError, retry: int, request: Request) -> None:
        asked = error.retry_after_s if isinstance(error, RateLimitedError) else None
        wait = self._settings.retry.wait_s(retry, asked, self._rng)
        if wait >= request.remaining_s:
            raise error
        _log.info("%s: %s; again in %.2f s", self.provider.name, error, wait)
        await asyncio.sleep(wait)

    def _answer(
        self, request: Request, text: str, value: BaseModel | None, usage: Usage, attempts: int, started: float
    ) -> Answer:
        provider = self.provider
        cost = self._settings.ledger.cost(provider.model, usage)
        seconds = time.monotonic() - started
        return Answer(text, value, provider.name, provider.model, usage, cost, attempts, seconds)


async def within(work: Coroutine[Any, Any, T], request: Request) -> T:
    """The work's result; it is left behind, canceled, when the deadline passes or the request is withdrawn.

    Not ``asyncio.wait_for``: that waits until the canceled work has ended, which a provider can put off for ever.
    """
    loop = asyncio.get_running_loop()
    task: asyncio.Task[T] = loop.create_task(work)
    withdrawn: asyncio.Future[None] = loop.create_future()
    waited: set[asyncio.Future[Any]] = {task, withdrawn}

    def withdraw() -> None:
        if not withdrawn.done():
            withdrawn.set_result(None)

    def withdraw_from_thread() -> None:
        # The loop may have ended between the token's look and this call.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(withdraw)

    forget = request.cancel.on_cancel(withdraw_from_thread)
    try:
        await asyncio.wait(waited, timeout=request.remaining_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if withdrawn.done():
            raise CanceledError("the request was canceled")
        raise DeadlineError("no valid answer before the deadline; allow more time or ask a quicker model")
    finally:
        forget()
        if not task.done():
            task.add_done_callback(_forget_result)
            task.cancel()


def _forget_result(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _checked(text: str, request: Request) -> BaseModel | None:
    if request.schema is None:
        return None
    value = parse(text, request.schema)
    if request.check is not None:
        request.check(value)
    return value


def _with_complaint(request: Request, text: str, miss: StructureError) -> Request:
    # The original question with the newest miss only: every miss kept would make each attempt dearer than the last.
    assert request.schema is not None
    said, told = Message("assistant", text[:_KEPT] or "(nothing)"), Message("user", complaint(miss, request.schema))
    room = MAX_CHARACTERS - sum(len(message.text) for message in (*request.messages, said, told))
    return replace(request, messages=(*request.messages, said, told)) if room >= 0 else request


def _name(request: Request) -> str:
    return "text" if request.schema is None else request.schema.__name__
