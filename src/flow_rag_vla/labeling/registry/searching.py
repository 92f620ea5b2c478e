# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Similarity search over the vectors of one embedder: checks, the searcher of that embedder, the objects found."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import project_row
from flow_rag_vla.labeling.registry.checks import checked_embedder, checked_vector
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.filtering import filter_clauses
from flow_rag_vla.labeling.registry.index.searcher import Searcher
from flow_rag_vla.labeling.registry.queries import Answered, ObjectFilter, SearchAnswer, Similar, Way
from flow_rag_vla.labeling.registry.registering import unit_vector
from flow_rag_vla.labeling.registry.rows import objects_by_row
from flow_rag_vla.labeling.registry.values import Embedder, Vector

MOST_HITS = 1_000
INDEX_KINDS = ("exact", "faiss", "chroma")


class Searching:
    """The searchers of a registry, one an embedder, made when they are first needed."""

    def __init__(self, database: Database, registry_id: str, folder: Path, kind: str) -> None:
        """Refer to an open database; nothing is loaded yet.

        Raises:
            InvalidInputError: an unknown kind of index.
        """
        if kind not in INDEX_KINDS:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE, f"there is no index {kind!r}", f"choose one of {', '.join(INDEX_KINDS)}"
            )
        self._database, self._registry_id, self._folder, self._kind = database, registry_id, folder, kind
        self._searchers: dict[int, Searcher] = {}
        self._turn = threading.Lock()

    def search(self, vector: Vector, embedder: Embedder, k: int, where: ObjectFilter) -> SearchAnswer:
        """See ``Registry.search``."""
        embedder = checked_embedder(embedder)
        query = unit_vector(checked_vector(vector, embedder, "the query"))
        if not 1 <= k <= MOST_HITS:
            raise InvalidInputError(ErrorCode.INVALID_VALUE, f"k is {k}", f"give 1 to {MOST_HITS}")
        with self._database.read() as connection:
            own = check_one_embedder(connection, embedder, where.project)
            if own is None:
                filter_clauses(connection, where)
                return SearchAnswer((), Answered(Way.NOTHING, "none", 0, 0, 0, f"there is no vector of {embedder}"))
            searcher = self.searcher(own, embedder.dimension)
            similarities, rows, answered = searcher.search(connection, query, k, where)
            found = objects_by_row(connection, rows)
        # A row that the shelf has seen newer than this connection's view of the database is left out.
        pairs = zip(similarities.tolist(), rows, strict=True)
        return SearchAnswer(tuple(Similar(value, found[row]) for value, row in pairs if row in found), answered)

    def build(self) -> None:
        """See ``Registry.build_index``."""
        with self._database.read() as connection:
            for row in connection.execute(sa.select(t.embedders)).all():
                self.searcher(row.embedder_id, row.dimension).build(connection)

    def searcher(self, embedder_id: int, dimension: int) -> Searcher:
        """The searcher of an embedder, made if there is none yet."""
        with self._turn:
            if embedder_id not in self._searchers:
                self._searchers[embedder_id] = Searcher(
                    embedder_id, dimension, self._registry_id, self._folder, self._kind
                )
            return self._searchers[embedder_id]

    def close(self) -> None:
        """Give back what the indexes hold."""
        with self._turn:
            for searcher in self._searchers.values():
                searcher.close()
            self._searchers.clear()


def check_one_embedder(connection: sa.Connection, embedder: Embedder, project: str) -> int | None:
    """Refuse a search whose scope holds vectors of others; give the embedder's id, None where nothing has a vector.

    Raises:
        ConflictError: with the code ``embedder_mismatch``.
        UnknownError: there is no such project.
    """
    o = t.objects.c
    scope = [o.deleted_ns.is_(None)]
    if project:
        scope.append(o.project_id == project_row(connection, project).project_id)
    own = None
    for row in connection.execute(sa.select(t.embedders)).all():
        held = Embedder(row.name, row.revision, row.dimension)
        present = sa.select(o.row_id).where(o.embedder_id == row.embedder_id, *scope)
        if held == embedder:
            own = row.embedder_id
        elif connection.execute(present.limit(1)).first() is not None:
            raise ConflictError(
                ErrorCode.EMBEDDER_MISMATCH,
                f"{project or 'the registry'} holds vectors of {held}, which {embedder} cannot be compared with",
                "embed all its objects with one embedder (set_embeddings), or search in one project",
            )
    return None if own is None else int(own)
