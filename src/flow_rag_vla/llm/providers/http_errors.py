# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a server's status means, the same for every hosted provider."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping

from flow_rag_vla.llm.errors import (
    BadRequestError,
    CutOffError,
    LlmError,
    MissingKeyError,
    ProtocolError,
    ProviderDownError,
    RateLimitedError,
    UnknownModelError,
)
from flow_rag_vla.llm.redaction import redact

_LONGEST = 300
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "anyio")
"""Packages whose errors mean that the connection broke; which of them a client uses depends on its version."""


def error_of_status(
    provider: str, model: str, status: int, text: str, headers: Mapping[str, str], key_variable: str
) -> LlmError:
    """The typed error for an HTTP status and what the server said."""
    said = redact(text)[:_LONGEST]
    if status in (401, 403):
        return MissingKeyError(f"{provider}: the key in {key_variable} is refused ({status}); set a valid one")
    if status == 404:
        return UnknownModelError(f"{provider}: model {model!r} or the address is unknown to the server: {said}")
    if status == 429:
        return RateLimitedError(f"{provider}: too many requests: {said}", retry_after(headers))
    if status == 408 or status >= 500:
        # 529 is Anthropic's "overloaded"; it and 503 may say when to come back.
        wait = retry_after(headers)
        if wait is not None:
            return RateLimitedError(f"{provider}: the server is overloaded ({status}): {said}", wait)
        return ProviderDownError(f"{provider}: the server failed ({status}): {said}")
    return BadRequestError(f"{provider}: the server refused the request ({status}): {said}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (RFC 9110, 10.2.3: seconds or a date); None if it does not say."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def error_of_stream(provider: str, error: Exception) -> LlmError:
    """The typed error for what went wrong while an answer was read."""
    if any(kind.__module__.split(".")[0] in _TRANSPORTS for kind in type(error).__mro__):
        return CutOffError(f"{provider}: the answer was cut off: {type(error).__name__}")
    said = redact(str(error))[:200]
    return ProtocolError(f"{provider}: the server sent something unreadable: {type(error).__name__}: {said}")
