# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which backend searches: by name or by URL."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from flow_rag_vla.memory.backends.base import IndexFactory, VectorIndex
from flow_rag_vla.memory.backends.builder import Builder
from flow_rag_vla.memory.backends.exact import NumpyIndex
from flow_rag_vla.memory.backends.flat import FaissIndex, gpu_count
from flow_rag_vla.memory.backends.layered import LayeredIndex, Layers
from flow_rag_vla.memory.case import EncoderStamp, GroupKey

BACKENDS = ("faiss", "numpy")
"""Names of those inside the process; a postgresql:// URL names the other."""


@runtime_checkable
class IndexBackend(Protocol):
    """Makes the index of each group, and what these share."""

    def make(self, stamp: EncoderStamp, space: str, group: GroupKey) -> VectorIndex:
        """An empty index for a group of cases of an encoder; ``space`` keeps several collections apart."""
        ...

    def clear(self, stamp: EncoderStamp, space: str) -> None:
        """Forget what an earlier process left under this name."""
        ...

    def close(self) -> None:
        """End what works in the background, and connections."""
        ...


class FactoryBackend:
    """A plain factory as a backend."""

    def __init__(self, factory: IndexFactory) -> None:
        self._factory = factory

    def make(self, stamp: EncoderStamp, space: str, group: GroupKey) -> VectorIndex:
        """An empty index for a group of cases of an encoder."""
        return self._factory(stamp.dimension)

    def clear(self, stamp: EncoderStamp, space: str) -> None:
        """Nothing is left by earlier processes."""

    def close(self) -> None:
        """Nothing to end."""


class LayeredBackend:
    """FAISS inside the process, with one builder for all groups."""

    def __init__(self, layers: Layers | None = None) -> None:
        self.layers = layers or Layers()
        self.builder = Builder()

    def make(self, stamp: EncoderStamp, space: str, group: GroupKey) -> VectorIndex:
        """An empty index for a group of cases of an encoder."""
        return LayeredIndex(stamp.dimension, self.builder, self.layers)

    def clear(self, stamp: EncoderStamp, space: str) -> None:
        """Nothing is left by earlier processes but files, which are of whole memories."""

    def close(self) -> None:
        """End the builder."""
        self.builder.close()


def faiss_factory(device: str = "auto") -> IndexBackend:
    """FAISS on a device: "cpu", "cuda", or "auto", which takes a GPU if there is one and FAISS can use it.

    Raises:
        ValueError: for "cuda" where FAISS has no GPU.
    """
    if device == "cuda" or (device == "auto" and gpu_count() > 0):
        # Fails now rather than with the first case.
        FaissIndex(1, device)
        return FactoryBackend(lambda dimension: FaissIndex(dimension, device))
    return LayeredBackend()


def as_backend(choice: IndexFactory | IndexBackend) -> IndexBackend:
    """A factory or a backend as a backend."""
    return choice if isinstance(choice, IndexBackend) else FactoryBackend(choice)


def make_backend(name: str, device: str = "auto") -> IndexBackend:
    """A backend by name ("faiss", "numpy") or by the URL of a PostgreSQL database with pgvector.

    Raises:
        ValueError: for another name, or a device that is not there.
        IndexUnavailableError: if the database cannot be reached or lacks the extension.
    """
    if name == "faiss":
        return faiss_factory(device)
    if name == "numpy":
        return FactoryBackend(NumpyIndex)
    if name.startswith(("postgresql://", "postgres://")):
        from flow_rag_vla.memory.backends.postgres import PostgresBackend

        return PostgresBackend(name)
    raise ValueError(f"index is {name!r}, expected faiss, numpy or postgresql://user@host/database")
