# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""ChromaDB: its graph (HNSW) proposes, the filter is applied to what it proposed.

Its own filter scans all metadata and is slower than the search, so it is not used: more is asked for the rarer the
filter is, and where that is too much, fewer come back and the planner compares everything instead. Filling it is slow
(hundreds of vectors a second): for up to some 100,000 objects. It is filled anew whenever a registry is opened.

Needs the extra ``chroma`` of this package.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.index.base import Allowed
from flow_rag_vla.labeling.registry.index.matrix import Positions, VectorMatrix, Vectors

MOST_ASKED = 2_000
"""Proposals asked of the graph at once."""
WIDTH = 200
"""Of the search in the graph (ef): 10 by default, which loses neighbours."""
BATCH = 2_000


class ChromaIndex:
    """A collection in a folder of its own, which is removed when it is closed."""

    kind = "chroma HNSW"

    def __init__(self, folder: Path, dimension: int) -> None:
        """Make an empty collection.

        Raises:
            InvalidInputError: chromadb is not installed.
        """
        try:
            import chromadb
            from chromadb.config import Settings
        except ImportError as error:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE, "the index 'chroma' needs chromadb", "pip install 'flow_rag_vla[chroma]'"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="chroma-", dir=folder))
        settings = Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(str(self._folder), settings=settings)
        options: Any = {"hnsw": {"space": "ip", "ef_search": WIDTH, "ef_construction": WIDTH}}
        self._collection = self._client.create_collection("objects", configuration=options, embedding_function=None)
        self.built_for = 0

    @classmethod
    def built(cls, matrix: VectorMatrix, folder: Path) -> ChromaIndex:
        """Fill a collection with everything in a matrix."""
        made = cls(folder, matrix.dimension)
        for start, vectors in matrix.chunks(BATCH):
            made.add(np.arange(start, start + len(vectors), dtype=np.int64), vectors)
        made.built_for = len(matrix)
        return made

    def add(self, positions: Positions, vectors: Vectors) -> None:
        """Take in vectors (N, D) under positions (N,)."""
        for start in range(0, len(positions), BATCH):
            part = slice(start, start + BATCH)
            ids = [str(position) for position in positions[part].tolist()]
            self._collection.upsert(ids=ids, embeddings=np.ascontiguousarray(vectors[part]))

    def candidates(self, query: Vectors, count: int, allowed: Allowed, matching: int) -> Positions:
        """The nearest that are allowed among those that the graph proposes; maybe fewer than ``count``."""
        share = matching / max(len(allowed), 1)
        asked = min(len(allowed), MOST_ASKED, int(2 * count / max(share, 1e-6)) + 1)
        found = self._collection.query(query_embeddings=query[np.newaxis], n_results=asked, include=[])
        positions = np.array([int(name) for name in found["ids"][0]], dtype=np.int64)
        return positions[allowed[positions]][:count]

    def save(self, folder: Path) -> bool:
        """It is made anew each time: two processes may not share its folder."""
        return False

    def close(self) -> None:
        """Close the collection and remove its folder."""
        self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)
