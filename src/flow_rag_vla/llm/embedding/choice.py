# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which text embedder: by name. What an embedder is made of is imported when it is chosen."""

from __future__ import annotations

import os

from flow_rag_vla.llm.embedding.base import EmbedderSettings, TextEmbedder
from flow_rag_vla.llm.errors import UnknownProviderError

VARIABLE = "EMBEDDING_PROVIDER"
DEFAULT = "minilm"


def embedder_names() -> tuple[str, ...]:
    """Every name that can be chosen."""
    return ("minilm", "local", "openai")


def make_embedder(name: str = "", settings: EmbedderSettings | None = None) -> TextEmbedder:
    """The embedder of that name, else that of EMBEDDING_PROVIDER, else ``minilm``. Nothing is loaded yet.

    Raises:
        UnknownProviderError: with the known ones.
        MissingPackageError: with how to get what is missing.
        MissingKeyError: naming the variable.
    """
    settings = settings or EmbedderSettings()
    environment = os.environ if settings.environment is None else settings.environment
    chosen = name.strip() or environment.get(VARIABLE, "").strip() or DEFAULT
    if chosen == "openai":
        from flow_rag_vla.llm.embedding.openai import OpenAiEmbedder

        return OpenAiEmbedder(settings)
    if chosen in ("minilm", "local"):
        from flow_rag_vla.llm.embedding.sentence import local_embedder, minilm

        return minilm(settings) if chosen == "minilm" else local_embedder(settings)
    raise UnknownProviderError(f"unknown embedder {chosen!r}; known: {', '.join(embedder_names())}")
