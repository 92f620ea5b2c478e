# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Answers similarity searches: plans each by how many vectors pass its filter, and says which way it took."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import project_row
from flow_rag_vla.labeling.registry.filtering import filter_clauses, matching_categories
from flow_rag_vla.labeling.registry.index import kept
from flow_rag_vla.labeling.registry.index.base import Allowed, CandidateIndex
from flow_rag_vla.labeling.registry.index.choice import make_index
from flow_rag_vla.labeling.registry.index.matrix import Positions, Vectors, most_similar
from flow_rag_vla.labeling.registry.index.shelf import STATES, Shelf
from flow_rag_vla.labeling.registry.queries import Answered, ObjectFilter, Way
from flow_rag_vla.labeling.registry.values import ReviewState
from flow_rag_vla.memory.locks import ReadWriteLock

LOGGER = logging.getLogger("flow_rag_vla.registry")

EXACT_LIMIT = 20_000
"""So many vectors are compared one by one in a few milliseconds: no index is needed, and none can be wrong."""
OVERFETCH = 8
LEAST_CANDIDATES = 100
"""Candidates compared exactly for each object asked for, and at least."""
GROWTH = 4
"""An index is built anew once there are so many times the vectors that it was laid out for."""


class Searcher:
    """The shelf of one embedder with an index, kept up with the database."""

    def __init__(self, embedder_id: int, dimension: int, registry_id: str, folder: Path, kind: str) -> None:
        """Begin with nothing loaded."""
        self._embedder_id, self._dimension = embedder_id, dimension
        self._registry_id, self._folder, self._kind = registry_id, folder, kind
        self._lock = ReadWriteLock()
        self._shelf: Shelf | None = None
        self._index: CandidateIndex | None = None
        self._builder: threading.Thread | None = None

    @property
    def generation(self) -> int:
        """The last change seen."""
        return 0 if self._shelf is None else self._shelf.generation

    @property
    def index(self) -> CandidateIndex | None:
        """The index, None where none was needed yet; for measurements."""
        return self._index

    def catch_up(self, connection: sa.Connection) -> Shelf:
        """Load what was saved, or everything, then what changed since."""
        shelf = self._shelf
        if shelf is not None and shelf.behind(connection) <= 0:
            return shelf
        with self._lock.write():
            if self._shelf is None:
                head = int(connection.execute(sa.select(sa.func.max(t.history.c.change_id))).scalar() or 0)
                loaded = kept.load(
                    self._folder, self._registry_id, self._embedder_id, self._dimension, self._kind, head
                )
                self._shelf, self._index = loaded or (Shelf(self._embedder_id, self._dimension), None)
            for added in self._shelf.catch_up(connection):
                if self._index is not None:
                    self._index.add(added.positions, added.vectors)
            return self._shelf

    def search(
        self, connection: sa.Connection, query: Vectors, k: int, where: ObjectFilter
    ) -> tuple[Vectors, list[int], Answered]:
        """Similarities, row ids and how they were found, most similar first.

        Raises:
            InvalidInputError, UnknownError: the filter makes no sense.
        """
        shelf = self.catch_up(connection)
        with self._lock.read():
            allowed = _allowed(connection, shelf, where)
            matching = int(np.count_nonzero(allowed))
            similarities, positions, answered = self._answer(shelf, query, k, allowed, matching)
            return similarities, shelf.column("rows")[positions].tolist(), answered

    def _answer(
        self, shelf: Shelf, query: Vectors, k: int, allowed: Allowed, matching: int
    ) -> tuple[Vectors, Positions, Answered]:
        index, kind = self._index, "none" if self._index is None else self._index.kind

        def exact(reason: str) -> tuple[Vectors, Positions, Answered]:
            positions = np.flatnonzero(allowed)
            complete = matching == len(shelf)
            similarities = shelf.matrix.similarities(query, None if complete else positions)
            way = Way.NOTHING if matching == 0 else Way.EXACT_ALL if complete else Way.EXACT_FILTERED
            return *most_similar(similarities, positions, k), Answered(
                way, kind, matching, matching, shelf.generation, reason
            )

        if matching <= max(EXACT_LIMIT, k):
            return exact(f"{matching} vectors pass the filter: few enough to compare each")
        if self._kind == "exact":
            return exact("the registry was opened with the exact index")
        if index is None or GROWTH * index.built_for < len(shelf):
            self._build_aside()
        if index is None:
            return exact("the index is being built")
        count = min(matching, max(LEAST_CANDIDATES, OVERFETCH * k))
        candidates = index.candidates(query, count, allowed, matching)
        if len(candidates) < min(count, matching):
            return exact("the index proposed too few that pass the filter")
        similarities, positions = most_similar(shelf.matrix.similarities(query, candidates), candidates, k)
        reason = f"{matching} vectors pass the filter: the index proposed {len(candidates)}"
        return (
            similarities,
            positions,
            Answered(Way.APPROXIMATE, kind, matching, len(candidates), shelf.generation, reason),
        )

    def build(self, connection: sa.Connection) -> None:
        """Build the index now and save it; searches wait meanwhile.

        Raises:
            DiskFullError, StorageError: it could not be saved; it serves this process all the same.
        """
        shelf = self.catch_up(connection)
        with self._lock.write():
            if len(shelf) and self._kind != "exact":
                old, self._index = self._index, make_index(self._kind, shelf.matrix, self._folder)
                if old is not None:
                    old.close()
            kept.save(self._folder, self._registry_id, shelf, self._kind, self._index)

    def _build_aside(self) -> None:
        """Build the index in a thread, beside searches that compare everything; save nothing."""
        if self._builder is not None and self._builder.is_alive():
            return
        self._builder = threading.Thread(target=self._build, name="registry index", daemon=True)
        self._builder.start()

    def _build(self) -> None:
        shelf = self._shelf
        assert shelf is not None
        with self._lock.read():
            still = shelf.matrix.snapshot()
        try:
            built = make_index(self._kind, still, self._folder)
        except Exception:
            LOGGER.exception("the index could not be built; searches compare everything")
            return
        with self._lock.write():
            late = np.arange(len(still), len(shelf), dtype=np.int64)
            if len(late):
                built.add(late, shelf.matrix.gather(late))
            old, self._index = self._index, built
            if old is not None:
                old.close()

    def close(self) -> None:
        """Wait for a build, and give back what the index holds."""
        if self._builder is not None:
            self._builder.join()
        with self._lock.write():
            if self._index is not None:
                self._index.close()
            self._index = self._shelf = None


_IN_COLUMNS = ("project", "categories", "source_ids", "states", "validated", "min_score", "max_score")


def _allowed(connection: sa.Connection, shelf: Shelf, where: ObjectFilter) -> Allowed:
    """Which positions pass a filter: from the columns in memory where they suffice, else from the database."""
    live: Allowed = shelf.column("live")
    asked = {name for name in where.__dataclass_fields__ if getattr(where, name) != getattr(ObjectFilter(), name)}
    if not asked:
        return live
    # The database checks the filter also where the columns answer it, so that both refuse the same.
    clauses = filter_clauses(connection, where)
    if not asked <= set(_IN_COLUMNS):
        statement = sa.select(t.objects.c.row_id).where(*clauses, t.objects.c.embedder_id == shelf.embedder_id)
        rows = np.fromiter(connection.execute(statement).scalars(), np.int64)
        passed = np.zeros(len(shelf), np.bool_)
        passed[shelf.positions_of(rows)] = True
        return passed & live
    allowed = live.copy()
    project_id = project_row(connection, where.project).project_id if where.project else None
    if project_id is not None:
        allowed &= shelf.column("project") == project_id
    if where.categories:
        allowed &= _any_of(shelf.column("category"), matching_categories(connection, where.categories, project_id))
    if where.source_ids:
        s = t.sources.c
        sources = connection.execute(sa.select(s.source_row).where(s.source_id.in_(where.source_ids))).scalars()
        allowed &= _any_of(shelf.column("source"), list(sources))
    if where.states:
        allowed &= _any_of(shelf.column("state"), [STATES.index(state.value) for state in where.states])
    if where.validated is not None:
        states = [STATES.index(state.value) for state in ReviewState if state.validated is where.validated]
        allowed &= _any_of(shelf.column("state"), states)
    if where.min_score is not None:
        allowed &= shelf.column("score") >= where.min_score
    if where.max_score is not None:
        allowed &= shelf.column("score") <= where.max_score
    return allowed


def _any_of(column: np.ndarray[tuple[int], np.dtype[np.int32]], values: list[int]) -> Allowed:
    if len(values) > 16:
        return np.isin(column, values)
    passed = np.zeros(len(column), np.bool_)
    for value in values:
        passed |= column == value
    return passed
