# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a search must know of every vector of one embedder: where it is, and what filters ask of its object.

A cache of the database: it reads the history since the last change it has seen, so it notices what any process wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import chunks
from flow_rag_vla.labeling.registry.index.matrix import Positions, VectorMatrix, Vectors
from flow_rag_vla.labeling.registry.values import ChangeKind, ReviewState

READ_AT_ONCE = 4_096
STATES = tuple(state.value for state in ReviewState)
COLUMNS = {
    "rows": np.int64,
    "live": np.bool_,
    "project": np.int32,
    "category": np.int32,
    "source": np.int32,
    "state": np.int8,
    "score": np.float64,
}
"""Arrays (N,) by position, and their types; ``state`` counts along ``STATES``."""
_o = t.objects.c
_KEPT = (_o.row_id, _o.project_id, _o.category_id, _o.source_row, _o.state, _o.score, _o.deleted_ns, _o.embedder_id)


@dataclass(frozen=True, slots=True)
class Added:
    """New positions with their vectors."""

    positions: Positions
    vectors: Vectors


class Shelf:
    """The vectors and filter columns of one embedder. Not safe by itself: its owner holds a lock."""

    def __init__(self, embedder_id: int, dimension: int) -> None:
        """Begin empty, having seen no change."""
        self.embedder_id = embedder_id
        self.matrix = VectorMatrix(dimension)
        self.generation = 0
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(0, kind) for name, kind in COLUMNS.items()}
        self._position_of = np.empty(0, np.int64)

    @classmethod
    def restored(
        cls, embedder_id: int, matrix: VectorMatrix, columns: dict[str, NDArray[Any]], generation: int
    ) -> Shelf:
        """One that was saved, to catch up from its generation."""
        shelf = cls(embedder_id, matrix.dimension)
        shelf.matrix, shelf.generation = matrix, generation
        shelf._columns = {name: np.array(columns[name], dtype=kind) for name, kind in COLUMNS.items()}
        live = shelf._columns["live"]
        shelf._index_rows(shelf._columns["rows"][live], np.flatnonzero(live))
        return shelf

    def __len__(self) -> int:
        """Number of positions, dead ones too."""
        return len(self.matrix)

    def column(self, name: str) -> NDArray[Any]:
        """A column (N,) by position."""
        return self._columns[name][: len(self)]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Every column (N,), to be saved."""
        return {name: self.column(name).copy() for name in COLUMNS}

    def positions_of(self, row_ids: NDArray[np.int64]) -> Positions:
        """Positions of the rows that have one."""
        known = row_ids[row_ids < len(self._position_of)]
        found: Positions = self._position_of[known]
        return found[found >= 0]

    def behind(self, connection: sa.Connection) -> int:
        """Number of changes that it has not seen."""
        head = connection.execute(sa.select(sa.func.max(t.history.c.change_id))).scalar() or 0
        return int(head) - self.generation

    def catch_up(self, connection: sa.Connection) -> list[Added]:
        """Read what changed since its generation; give the vectors that are new to it, for an index."""
        head = self.generation + self.behind(connection)
        if head <= self.generation:
            # Another thread has seen more than this connection does.
            return []
        added = self._load(connection) if self.generation == 0 else self._follow(connection, head)
        self.generation = head
        return added

    def _load(self, connection: sa.Connection) -> list[Added]:
        joined = t.objects.join(t.vectors, t.vectors.c.row_id == _o.row_id)
        statement = sa.select(*_KEPT, t.vectors.c.value).select_from(joined).order_by(_o.row_id)
        where = _o.embedder_id == self.embedder_id, _o.deleted_ns.is_(None)
        streamed = connection.execution_options(yield_per=READ_AT_ONCE).execute(statement.where(*where))
        return [self._append(part) for part in streamed.partitions()]

    def _follow(self, connection: sa.Connection, head: int) -> list[Added]:
        h = t.history.c
        seen = sa.and_(h.change_id > self.generation, h.change_id <= head)
        changed: dict[int, bool] = {}
        for row_id, kind in connection.execute(sa.select(h.row_id, h.kind).where(seen).order_by(h.change_id)):
            changed[row_id] = changed.get(row_id, False) or kind == ChangeKind.EMBEDDED.value
        added = []
        for part in chunks(list(changed)):
            rows = connection.execute(sa.select(*_KEPT).where(_o.row_id.in_(part)).order_by(_o.row_id)).all()
            new = []
            for row in rows:
                (position,) = self.positions_of(np.array([row.row_id])) if self._has(row.row_id) else (-1,)
                ours = row.embedder_id == self.embedder_id
                if position >= 0 and (not ours or changed[row.row_id]):
                    self._columns["live"][position] = False
                    self._position_of[row.row_id] = position = -1
                if position >= 0:
                    self._put(slice(position, position + 1), [row])
                elif ours and row.deleted_ns is None:
                    new.append(row)
            if new:
                added.append(self._append(self._with_vectors(connection, new)))
        return added

    @staticmethod
    def _with_vectors(connection: sa.Connection, rows: Sequence[Any]) -> Sequence[Any]:
        joined = t.objects.join(t.vectors, t.vectors.c.row_id == _o.row_id)
        where = _o.row_id.in_([row.row_id for row in rows])
        statement = sa.select(*_KEPT, t.vectors.c.value).select_from(joined).where(where).order_by(_o.row_id)
        return connection.execute(statement).all()

    def _has(self, row_id: int) -> bool:
        return row_id < len(self._position_of) and bool(self._position_of[row_id] >= 0)

    def _append(self, rows: Sequence[Any]) -> Added:
        raw = b"".join(row.value for row in rows)
        vectors = np.frombuffer(raw, dtype="<f4").reshape(len(rows), self.matrix.dimension)
        positions = self.matrix.append(vectors)
        if len(self.matrix) > len(self._columns["rows"]):
            size = max(len(self.matrix), 2 * len(self._columns["rows"]))
            for name, values in self._columns.items():
                grown: NDArray[Any] = np.zeros(size, COLUMNS[name])
                grown[: len(values)] = values
                self._columns[name] = grown
        self._put(slice(int(positions[0]), int(positions[-1]) + 1), rows)
        self._index_rows(self._columns["rows"][positions], positions)
        return Added(positions, np.ascontiguousarray(vectors, dtype=np.float32))

    def _put(self, place: slice, rows: Sequence[Any]) -> None:
        self._columns["rows"][place] = [row.row_id for row in rows]
        self._columns["live"][place] = [row.deleted_ns is None for row in rows]
        self._columns["project"][place] = [row.project_id for row in rows]
        self._columns["category"][place] = [row.category_id for row in rows]
        self._columns["source"][place] = [row.source_row for row in rows]
        self._columns["state"][place] = [STATES.index(row.state) for row in rows]
        self._columns["score"][place] = [row.score for row in rows]

    def _index_rows(self, row_ids: NDArray[np.int64], positions: Positions) -> None:
        if len(row_ids) == 0:
            return
        highest = int(row_ids.max()) + 1
        if highest > len(self._position_of):
            grown = np.full(max(highest, 2 * len(self._position_of)), -1, np.int64)
            grown[: len(self._position_of)] = self._position_of
            self._position_of = grown
        self._position_of[row_ids] = positions
