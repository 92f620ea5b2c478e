# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a text embedder is.

The protocol is synchronous, unlike that of language models: a batch is one short computation or one short request, and
whoever must not wait runs it on a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.llm.errors import BadRequestError, ProtocolError
from flow_rag_vla.llm.holding import KeepAll, ModelHolder
from flow_rag_vla.llm.translation import detect_language

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbedderStamp:
    """Which embedder made a vector. Vectors of different stamps are never compared."""

    embedder: str
    revision: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.embedder} ({self.revision}, {self.dimension} numbers)"


@runtime_checkable
class TextEmbedder(Protocol):
    """One embedder. Not safe between threads: one thread uses it."""

    @property
    def stamp(self) -> EmbedderStamp:
        """Who it is. May load the model."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimension) float32, rows of length 1.

        Raises:
            LlmError: of the kind that fits.
        """
        ...


@dataclass(frozen=True, slots=True)
class EmbedderSettings:
    """How an embedder is set up; see the modules for what each uses.

    model: folder, hub id or name; empty takes the embedder's default
    dimension: of openai; 0 takes the default
    pooling: of local folders that do not say how: auto, cls or mean
    holder: who keeps the weights of a model that runs here
    """

    model: str = ""
    base_url: str = ""
    key_variable: str = ""
    dimension: int = 0
    pooling: str = "auto"
    device: str = "cpu"
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    holder: ModelHolder = field(default_factory=KeepAll, repr=False, compare=False)


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list.

    Raises:
        BadRequestError: if one is empty: it would get a vector that means nothing.
    """
    for number, text in enumerate(texts):
        if not text.strip():
            raise BadRequestError(f"text {number} of {len(texts)} is empty")
    return list(texts)


def unread(embedder: TextEmbedder, texts: Sequence[str]) -> str:
    """What to tell of Korean texts, where the embedder understands English alone; empty if there is nothing to tell.

    An embedder declares that by an attribute ``english_only``. It gives such texts vectors all the same.
    """
    if not getattr(embedder, "english_only", False):
        return ""
    count = sum(detect_language(text) == "ko" for text in texts)
    if not count:
        return ""
    return (
        f"{count} of {len(texts)} texts are Korean, and embedder {embedder.stamp.embedder!r} understands English "
        "alone: what is found for them means little; choose embedder 'local' (by default a Korean model), and where a "
        "store is there already: flow_rag_vla knowledge migrate --to local"
    )


def unit_rows(vectors: NDArray[np.floating], count: int, name: str) -> Vectors:
    """The rows scaled to length 1.

    Raises:
        ProtocolError: if they are not ``count`` finite rows above length 0.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != count:
        raise ProtocolError(f"{name}: {rows.shape} came back for {count} texts")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths <= 0.0).any():
        raise ProtocolError(f"{name}: a vector is zero or not finite")
    scaled: Vectors = rows / lengths
    return scaled
