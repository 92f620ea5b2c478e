# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of OpenAI, and of servers that speak its format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from flow_rag_vla.llm.embedding.base import EmbedderSettings, EmbedderStamp, Vectors, check_texts, unit_rows
from flow_rag_vla.llm.errors import LlmError, MissingKeyError, MissingPackageError, ProtocolError, ProviderDownError
from flow_rag_vla.llm.providers.http_errors import error_of_status, error_of_stream
from flow_rag_vla.llm.redaction import read_key, redact

DEFAULT_MODEL = "text-embedding-3-small"
DEFAULT_DIMENSION = 512
KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"

_BATCH = 128
_TIMEOUT_S = 30.0
_RETRIES = 2


class OpenAiEmbedder:
    """One model at one dimension."""

    def __init__(self, settings: EmbedderSettings) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingPackageError(
                "embedder 'openai' needs the openai package: pip install 'flow_rag_vla[llm]'"
            ) from error
        self._variable = settings.key_variable or KEY_VARIABLE
        key = read_key(self._variable, settings.environment)
        environment = os.environ if settings.environment is None else settings.environment
        base_url = settings.base_url or environment.get(ADDRESS_VARIABLE, "").strip()
        # As the provider: OpenAI's own variable is not sent to another server unless it was named for it.
        if base_url and not settings.key_variable:
            key = "none" if settings.base_url else key or "none"
        if not key:
            raise MissingKeyError(
                f"embedder 'openai' needs a key in the environment variable {self._variable}, which is not set"
            )
        self._model = settings.model or DEFAULT_MODEL
        # A model of another server has the size that it has; most of those servers take no wish.
        known = not (base_url and settings.model)
        self._wanted = settings.dimension or (DEFAULT_DIMENSION if known else 0)
        self._dimension = self._wanted
        self._client = openai.OpenAI(api_key=key, base_url=base_url or None, max_retries=_RETRIES, timeout=_TIMEOUT_S)

    @property
    def stamp(self) -> EmbedderStamp:
        """Hosted models have no revision but their name. May ask the server for the size of its vectors."""
        if not self._dimension:
            self._dimension = len(self._batch(["-"])[0])
        return EmbedderStamp("openai", self._model, self._dimension)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See :class:`flow_rag_vla.llm.embedding.base.TextEmbedder`."""
        wanted = check_texts(texts)
        rows = [row for start in range(0, len(wanted), _BATCH) for row in self._batch(wanted[start : start + _BATCH])]
        dimension = self.stamp.dimension
        vectors = np.array(rows, dtype=np.float32).reshape(len(rows), -1 if rows else dimension)
        if vectors.shape[1] != dimension:
            raise ProtocolError(f"openai: vectors of {vectors.shape[1]} numbers came back, expected {dimension}")
        return unit_rows(vectors, len(wanted), "openai")

    def _batch(self, texts: list[str]) -> list[list[float]]:
        import openai

        try:
            size: dict[str, Any] = {"dimensions": self._wanted} if self._wanted else {}
            reply = self._client.embeddings.create(model=self._model, input=texts, encoding_format="float", **size)
            return [item.embedding for item in sorted(reply.data, key=lambda item: item.index)]
        except openai.APIStatusError as error:
            raise error_of_status(
                "openai", self._model, error.status_code, error.message, error.response.headers, self._variable
            ) from None
        except openai.APIConnectionError as error:
            why = redact(str(error.__cause__ or error))
            raise ProviderDownError(
                f"openai: not reached: {why}; see whether the server runs, and {ADDRESS_VARIABLE} and the network are "
                "right"
            ) from None
        except LlmError:
            raise
        except Exception as error:
            raise error_of_stream("openai", error) from None
