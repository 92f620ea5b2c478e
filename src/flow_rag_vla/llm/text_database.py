# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where a text store keeps passages and vectors: what it asks of a database, and SQLite.

Both databases speak the same statements; what differs is behind this protocol: how a writer keeps others out, how a
vector is kept, and how the nearest are found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flow_rag_vla.llm.embedding.base import EmbedderStamp, Vectors
from flow_rag_vla.llm.errors import StoreError

_APPLICATION_ID = 0x46545831

_SCHEMA = """
CREATE TABLE IF NOT EXISTS passages (
    passage_id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    source TEXT NOT NULL,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (collection, source, position)
);
CREATE TABLE IF NOT EXISTS generations (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    embedder TEXT NOT NULL,
    revision TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('building', 'active', 'previous'))
);
"""

Row = tuple[Any, ...]


class TextDatabase(Protocol):
    """One open database. One thread uses it."""

    @property
    def name(self) -> str:
        """How it is called in errors; holds no password."""
        ...

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """What a statement gives; ``?`` stands for a value.

        Raises:
            StoreError: if the database cannot do it.
        """
        ...

    def writing(self) -> AbstractContextManager[None]:
        """A transaction during which nobody else writes: all of it, or nothing if the block raises.

        Raises:
            StoreError: if it cannot be begun or ended.
        """
        ...

    def make_vectors(self, table: str, dimension: int) -> None:
        """An empty table of vectors that belong to passages."""
        ...

    def put(self, table: str, passage_id: int, stamp: EmbedderStamp, vector: Vectors) -> None:
        """Keep a passage's vector, in place of one that is there."""
        ...

    def nearest(
        self, table: str, dimension: int, query: Vectors, k: int, collections: Sequence[str]
    ) -> list[tuple[Row, float]]:
        """The k passages with the highest cosine: (passage_id, collection, source, position, text) and that cosine."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class SqliteTexts:
    """A file; other processes may use it too. Searches compare the query with every vector, kept in memory."""

    def __init__(self, path: str | Path) -> None:
        """Open or create.

        Raises:
            StoreError: if the file cannot be used, or is another program's.
        """
        self.name = str(Path(path).expanduser()) if str(path) != ":memory:" else ":memory:"
        self._database = _opened(self.name)
        self._matrix: tuple[tuple[str, int, int], list[Row], Vectors] | None = None

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """See :class:`TextDatabase`."""
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.name} cannot be used: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See :class:`TextDatabase`."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreError(f"{self.name} cannot be written: {error}") from error
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.name} cannot be written: {error}") from error
            raise

    def make_vectors(self, table: str, dimension: int) -> None:
        """See :class:`TextDatabase`; the dimension is that of each row."""
        self.rows(
            f"CREATE TABLE {table} ("
            "passage_id INTEGER PRIMARY KEY REFERENCES passages (passage_id) ON DELETE CASCADE, "
            "embedder TEXT NOT NULL, revision TEXT NOT NULL, dimension INTEGER NOT NULL, vector BLOB NOT NULL)"
        )

    def put(self, table: str, passage_id: int, stamp: EmbedderStamp, vector: Vectors) -> None:
        """See :class:`TextDatabase`."""
        self.rows(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)",
            (passage_id, stamp.embedder, stamp.revision, stamp.dimension, vector.astype("<f4").tobytes()),
        )

    def nearest(
        self, table: str, dimension: int, query: Vectors, k: int, collections: Sequence[str]
    ) -> list[tuple[Row, float]]:
        """See :class:`TextDatabase`."""
        passages, matrix = self._loaded(table, dimension)
        if not passages:
            return []
        scores = matrix @ query
        if collections:
            wanted = np.array([passage[1] in collections for passage in passages])
            scores = np.where(wanted, scores, -np.inf)
        order = np.argsort(-scores, kind="stable")[:k]
        return [(passages[place], float(scores[place])) for place in order if np.isfinite(scores[place])]

    def close(self) -> None:
        """See :class:`TextDatabase`."""
        self._database.close()

    def _loaded(self, table: str, dimension: int) -> tuple[list[Row], Vectors]:
        # Other processes' writes change data_version, one's own change total_changes.
        version = int(self.rows("PRAGMA data_version")[0][0])
        key = (table, version, self._database.total_changes)
        if self._matrix is None or self._matrix[0] != key:
            rows = self.rows(
                f"SELECT p.passage_id, p.collection, p.source, p.position, p.text, v.vector FROM {table} v "
                "JOIN passages p USING (passage_id) ORDER BY p.passage_id"
            )
            flat = np.frombuffer(b"".join(row[5] for row in rows), dtype="<f4")
            matrix = flat.reshape(len(rows), dimension).astype(np.float32)
            self._matrix = key, [row[:5] for row in rows], matrix
        return self._matrix[1], self._matrix[2]


def _opened(path: str) -> sqlite3.Connection:
    try:
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    try:
        found = int(database.execute("PRAGMA application_id").fetchone()[0])
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and found != _APPLICATION_ID:
            raise StoreError(f"{path} is a database of another program; name another file")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.executescript(_SCHEMA)
    except sqlite3.Error as error:
        database.close()
        raise StoreError(f"{path} cannot be used as a text store: {error}") from error
    except BaseException:
        database.close()
        raise
    return database
