# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""OpenAI, and every server that speaks its chat completions (vLLM, llama.cpp, Ollama), through the openai package."""

from __future__ import annotations

import base64
import os
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
from flow_rag_vla.llm.structured import hosted_schema, json_schema

if TYPE_CHECKING:
    import openai

DEFAULT_MODEL = "gpt-4o-mini"
KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"
"""Read by the openai package too: whoever sets both variables means the key for that server."""


class OpenAiProvider:
    """Chat completions, always streamed; structures in the server's JSON schema mode."""

    name = "openai"
    deterministic = False
    sees = True

    def __init__(self, client: openai.AsyncOpenAI, model: str, key_variable: str, compatible: bool) -> None:
        self._client = client
        self.address = str(client.base_url)
        self.model = model
        self._key_variable = key_variable
        self._compatible = compatible

    async def answer(self, request: Request, emit: Emit | None = None) -> RawAnswer:
        """One call; see :class:`flow_rag_vla.llm.provider.Provider`."""
        import openai

        parts: list[str] = []
        refusal: list[str] = []
        usage, stop, begun = Usage(), "", False
        try:
            async with await self._client.chat.completions.create(**self._arguments(request)) as stream:
                begun = True
                async for chunk in stream:
                    if chunk.usage is not None:
                        usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                    for choice in chunk.choices:
                        stop = choice.finish_reason or stop
                        if choice.delta.refusal:
                            refusal.append(choice.delta.refusal)
                        if choice.delta.content:
                            parts.append(choice.delta.content)
                            if emit is not None:
                                emit(choice.delta.content)
        except openai.APIStatusError as error:
            raise error_of_status(
                self.name, self.model, error.status_code, error.message, error.response.headers, self._key_variable
            ) from None
        except openai.APIConnectionError as error:
            if begun:
                raise CutOffError("openai: the answer was cut off") from None
            why = redact(str(error.__cause__ or error))
            raise ProviderDownError(
                f"openai: not reached: {why}; see whether the server runs, and base_url and the network are right"
            ) from None
        except LlmError:
            raise
        except Exception as error:
            raise error_of_stream(self.name, error) from None
        if refusal:
            raise RefusedError(f"openai: the model declined: {redact(''.join(refusal))[:200]}")
        return RawAnswer(_finished("".join(parts), stop, request), usage)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _arguments(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        system = system_text(request.messages)
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages += [{"role": turn.role, "content": _content(turn)} for turn in pictured_turns(request.messages)]
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timeout": max(request.remaining_s, 0.001),
            # OpenAI's newer models refuse the old name; other servers know only that.
            "max_tokens" if self._compatible else "max_completion_tokens": sampling.max_tokens,
        }
        for name, value in (
            ("temperature", sampling.temperature), ("top_p", sampling.top_p), ("seed", sampling.seed),
        ):  # fmt: skip
            if value is not None:
                arguments[name] = value
        if request.schema is not None:
            # Servers of one's own decode with the whole schema, bounds included; OpenAI's strict mode takes no bounds.
            shape = json_schema(request.schema) if self._compatible else hosted_schema(request.schema)
            arguments["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": request.schema.__name__, "strict": True, "schema": shape},
            }
        return arguments


def _content(turn: Turned) -> Any:
    """Text alone, or parts with the pictures before the words that name them."""
    if not turn.pictures:
        return turn.text
    shown = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode('ascii')}"},
        }
        for picture in turn.pictures
    ]
    return [*shown, {"type": "text", "text": turn.text}]


def _finished(text: str, stop: str, request: Request) -> str:
    if not stop:
        raise CutOffError("openai: the stream ended before the answer did")
    if stop == "content_filter":
        raise RefusedError("openai: the answer was withheld by the server's filter")
    if stop == "length":
        raise TruncatedError(
            f"openai: the answer is longer than {request.sampling.max_tokens} tokens; raise max_tokens or ask for less"
        )
    return text


def make(settings: ProviderSettings) -> OpenAiProvider:
    """The provider; no request is made. With a ``base_url``, or one in OPENAI_BASE_URL, no key is asked for.

    Raises:
        MissingPackageError: without the openai package.
        MissingKeyError: naming the variable.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingPackageError(
            "provider 'openai' needs the openai package: pip install 'flow_rag_vla[llm]'"
        ) from error
    variable = settings.key_variable or KEY_VARIABLE
    key = read_key(variable, settings.environment)
    environment = os.environ if settings.environment is None else settings.environment
    base_url = settings.base_url or environment.get(ADDRESS_VARIABLE, "").strip()
    # OpenAI's own variable must not be sent to another server unless it was named for it.
    if base_url and not settings.key_variable:
        key = "none" if settings.base_url else key or "none"
    if not key:
        raise MissingKeyError(f"provider 'openai' needs a key in the environment variable {variable}, which is not set")
    client = openai.AsyncOpenAI(api_key=key, base_url=base_url or None, max_retries=0)
    return OpenAiProvider(client, settings.model or DEFAULT_MODEL, variable, bool(base_url))
