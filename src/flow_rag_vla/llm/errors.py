# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a question and a validated answer, as types.

See :mod:`flow_rag_vla.core.errors` for what all have in common.
A text never holds a secret: what a server or a library says passes through :mod:`flow_rag_vla.llm.redaction` first.
"""

from __future__ import annotations

from flow_rag_vla.core.errors import TypedError


class LlmError(TypedError):
    """A question has no answer. The robot holds."""


class BadRequestError(LlmError):
    """The request itself is wrong: empty, too long, no messages, a schema that is none."""

    kind = "bad_request"


class UnknownProviderError(LlmError):
    """No provider, or no embedder, of that name."""

    kind = "unknown_provider"


class UnknownModelError(LlmError):
    """The provider does not have that model."""

    kind = "unknown_model"


class MissingPackageError(LlmError):
    """The provider needs a package that is not installed; the text names the extra."""

    kind = "missing_package"


class MissingKeyError(LlmError):
    """The key is not there, or is refused; the text names the variable, never the key."""

    kind = "missing_key"


class UnsupportedSchemaError(LlmError):
    """The provider cannot fill this schema."""

    kind = "unsupported_schema"


class RefusedError(LlmError):
    """The provider understood that it must not, or cannot, answer; the text says why."""

    kind = "refused"


class DeadlineError(LlmError):
    """The deadline passed before there was a valid answer."""

    kind = "deadline"


class CanceledError(LlmError):
    """The caller withdrew the request."""

    kind = "canceled"


class StructureError(LlmError):
    """Every attempt gave something that is no instance of the schema; the text has the last complaint."""

    kind = "structure"


class TruncatedError(LlmError):
    """The answer reached its limit of tokens before it was whole."""

    kind = "truncated"


class ProviderDownError(LlmError):
    """The provider cannot be reached or failed inside."""

    kind = "provider_down"
    retryable = True


class CutOffError(LlmError):
    """A streamed answer ended before its end."""

    kind = "cut_off"
    retryable = True


class ProtocolError(LlmError):
    """The provider spoke, but not its own wire format."""

    kind = "protocol"
    retryable = True


class RateLimitedError(LlmError):
    """Too many requests; ``retry_after_s`` is what the provider asked to wait, None if it did not say."""

    kind = "rate_limited"
    retryable = True

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class StoreError(LlmError):
    """The text store cannot be used, or holds vectors of another embedder."""

    kind = "store"
