# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Claude through the anthropic package; structures in the API's JSON schema mode."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from flow_rag_vla.llm.errors import (
    CutOffError,
    LlmError,
    MissingKeyError,
    MissingPackageError,
    ProviderDownError,
    RefusedError,
    TruncatedError,
)
from flow_rag_vla.llm.prompts import Turned, pictured_turns, system_text
from flow_rag_vla.llm.provider import Emit, ProviderSettings
from flow_rag_vla.llm.providers.http_errors import error_of_status, error_of_stream
from flow_rag_vla.llm.redaction import read_key, redact
from flow_rag_vla.llm.request import RawAnswer, Request, Usage
from flow_rag_vla.llm.structured import hosted_schema

if TYPE_CHECKING:
    import anthropic

DEFAULT_MODEL = "claude-haiku-4-5"
KEY_VARIABLE = "ANTHROPIC_API_KEY"


class ClaudeProvider:
    """The Messages API, always streamed: a cut is noticed, and the first words come early."""

    name = "claude"
    deterministic = False
    sees = True

    def __init__(self, client: anthropic.AsyncAnthropic, model: str, key_variable: str) -> None:
        self._client = client
        self.address = str(client.base_url)
        self.model = model
        self._key_variable = key_variable

    async def answer(self, request: Request, emit: Emit | None = None) -> RawAnswer:
        """One call; see :class:`flow_rag_vla.llm.provider.Provider`."""
        import anthropic

        parts: list[str] = []
        usage, stop, begun = Usage(), "", False
        try:
            async with await self._client.messages.create(**self._arguments(request)) as stream:
                begun = True
                async for event in stream:
                    if event.type == "message_start":
                        usage = Usage(event.message.usage.input_tokens, event.message.usage.output_tokens)
                    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                        parts.append(event.delta.text)
                        if emit is not None:
                            emit(event.delta.text)
                    elif event.type == "message_delta":
                        usage = Usage(usage.input_tokens, event.usage.output_tokens)
                        stop = event.delta.stop_reason or stop
        except anthropic.APIStatusError as error:
            raise error_of_status(
                self.name, self.model, _status(error), error.message, error.response.headers, self._key_variable
            ) from None
        except anthropic.APIConnectionError as error:
            if begun:
                raise CutOffError("claude: the answer was cut off") from None
            why = redact(str(error.__cause__ or error))
            raise ProviderDownError(
                f"claude: not reached: {why}; see whether base_url and the network are right"
            ) from None
        except LlmError:
            raise
        except Exception as error:
            raise error_of_stream(self.name, error) from None
        return RawAnswer(_finished("".join(parts), stop, request), usage)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _arguments(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        arguments: dict[str, Any] = {
            "model": self.model,
            "max_tokens": sampling.max_tokens,
            "messages": [{"role": turn.role, "content": _content(turn)} for turn in pictured_turns(request.messages)],
            "stream": True,
            "timeout": max(request.remaining_s, 0.001),
        }
        system = system_text(request.messages)
        if system:
            arguments["system"] = system
        # In the body, because the package dropped these two: its newest models take neither, older ones still do.
        told = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        extra = {name: min(value, 1.0) for name, value in told.items() if value is not None}
        if extra:
            arguments["extra_body"] = extra
        if request.schema is not None:
            arguments["output_config"] = {"format": {"type": "json_schema", "schema": hosted_schema(request.schema)}}
        return arguments


def _content(turn: Turned) -> Any:
    """Text alone, or blocks with the pictures before the words that name them."""
    if not turn.pictures:
        return turn.text
    shown = [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": picture.media_type,
                "data": base64.b64encode(picture.data).decode("ascii"),
            },
        }
        for picture in turn.pictures
    ]
    return [*shown, {"type": "text", "text": turn.text}]


def _status(error: anthropic.APIStatusError) -> int:
    """An error event inside a stream comes with status 200; its type tells the status that it would have had."""
    if error.status_code != 200:
        return error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error") if isinstance(body.get("error"), dict) else body
    kinds = {"rate_limit_error": 429, "overloaded_error": 529, "authentication_error": 401, "not_found_error": 404,
             "invalid_request_error": 400}  # fmt: skip
    return kinds.get(str(inner.get("type", "")) if isinstance(inner, dict) else "", 500)


def _finished(text: str, stop: str, request: Request) -> str:
    if not stop:
        raise CutOffError("claude: the stream ended before the answer did")
    if stop == "refusal":
        raise RefusedError("claude: the model declined to answer")
    if stop in ("max_tokens", "model_context_window_exceeded"):
        raise TruncatedError(
            f"claude: the answer is longer than {request.sampling.max_tokens} tokens; raise max_tokens or ask for less"
        )
    return text


def make(settings: ProviderSettings) -> ClaudeProvider:
    """The provider; no request is made.

    Raises:
        MissingPackageError: without the anthropic package.
        MissingKeyError: naming the variable.
    """
    try:
        import anthropic
    except ImportError as error:
        raise MissingPackageError(
            "provider 'claude' needs the anthropic package: pip install 'flow_rag_vla[llm]'"
        ) from error
    variable = settings.key_variable or KEY_VARIABLE
    key = read_key(variable, settings.environment)
    if not key:
        raise MissingKeyError(f"provider 'claude' needs a key in the environment variable {variable}, which is not set")
    client = anthropic.AsyncAnthropic(api_key=key, base_url=settings.base_url or None, max_retries=0)
    return ClaudeProvider(client, settings.model or DEFAULT_MODEL, variable)
