# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What manuals say of a failure: passages of a text store, found with vectors of the language model's node."""

from __future__ import annotations

from collections.abc import Sequence

from flow_rag_vla.deliberation.diagnosis import FailureSeen, in_words
from flow_rag_vla.deliberation.likeness import LikenessError
from flow_rag_vla.llm.embedding.base import EmbedderStamp, Vectors
from flow_rag_vla.llm.errors import StoreError
from flow_rag_vla.llm.knowledge import MANUALS
from flow_rag_vla.llm.text_store import Passage, TextStore, held_by
from flow_rag_vla.nodes.deliberation_present import TextVectors

MOST = 3
"""Passages that a failure is explained with."""

WAIT_S = 10.0
"""For the vector of a failure in words; the first one loads the embedder."""


class Manuals:
    """Looks into one store. Calls belong to any thread but the executor's."""

    def __init__(self, where: str, vectors: TextVectors) -> None:
        self._where, self._vectors = where, vectors

    def __call__(self, seen: FailureSeen) -> tuple[Passage, ...]:
        """The passages that are nearest in meaning to a failure.

        Raises:
            StoreError: if there is no such store, or another embedder than the language model's node has made it.
            LikenessError: if that node gives no vector.
        """
        made_by = held_by(self._where)
        words = in_words(seen)
        asked = _Asked(words, *self._vectors.stamped([words], WAIT_S))
        if asked.stamp != made_by:
            raise StoreError(
                f"the store is embedded by {made_by}, the node llm embeds by {asked.stamp}; set its parameters "
                "embedder and embedder_model, or flow_rag_vla knowledge migrate the store"
            )
        store = TextStore(self._where, asked)
        try:
            return tuple(store.search(words, MOST, [MANUALS]))
        finally:
            store.close()


class _Asked:
    """An embedder that knows the vector of one text, since another process has made it."""

    def __init__(self, text: str, stamp: EmbedderStamp, vectors: Vectors) -> None:
        self._text, self.stamp, self._vectors = text, stamp, vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vector of that text."""
        if list(texts) != [self._text]:
            raise LikenessError(f"a vector of {texts!r:.80} is not known")
        return self._vectors
