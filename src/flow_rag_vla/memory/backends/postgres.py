# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Vectors in PostgreSQL with pgvector, for a memory whose index lives on another machine.

The database of cases stays the truth: the tables here can be dropped and are filled again. Every statement has a time
limit, so that a server that hangs costs a search an error and not the node its life. Exact: no approximate index is
made, so that the answer is that of a full scan on the server (``CREATE INDEX ... USING hnsw`` by hand is welcome, at
the price of its recall).

Needs the extra ``postgres`` of this package, and on the server the extension ``vector``.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np

from flow_rag_vla.memory.backends.base import Ids, IndexState, IndexUnavailableError, Vectors
from flow_rag_vla.memory.case import EncoderStamp, GroupKey

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 5
STATEMENT_MS = 5_000
"""Longest that the server may be asked to work, and be waited for."""

BATCH = 1_000
"""Vectors read at once."""

TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS flow_rag_spaces (
    space_id bigserial PRIMARY KEY,
    name text NOT NULL UNIQUE,
    encoder text NOT NULL,
    revision text NOT NULL,
    dimension integer NOT NULL
);
CREATE TABLE IF NOT EXISTS flow_rag_vectors (
    space_id bigint NOT NULL REFERENCES flow_rag_spaces ON DELETE CASCADE,
    task text NOT NULL,
    phase text NOT NULL,
    failure_type integer NOT NULL,
    case_id bigint NOT NULL,
    embedding vector NOT NULL,
    PRIMARY KEY (space_id, task, phase, failure_type, case_id)
);
"""


class PostgresBackend:
    """One connection for all groups; statements of several threads take turns."""

    def __init__(self, url: str) -> None:
        """Connect and make what is missing.

        Args:
            url: ``postgresql://user:password@host:port/database?namespace=robot_7``. The namespace keeps the memories
                of several robots in one database apart: each robot needs its own. Without one it is the host's name.

        Raises:
            IndexUnavailableError: if the server cannot be reached, or lacks the extension.
            ValueError: if psycopg is not installed.
        """
        try:
            import psycopg
        except ImportError as error:
            raise ValueError("a postgresql:// index needs psycopg: pip install 'flow_rag_vla[postgres]'") from error
        self._psycopg = psycopg
        parts = urlsplit(url)
        options = parse_qsl(parts.query)
        self._url = urlunsplit(parts._replace(query=urlencode([item for item in options if item[0] != "namespace"])))
        self._namespace = dict(options).get("namespace") or socket.gethostname()
        # A password must not reach a log.
        self._name = f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}"
        self._turn = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None
        with self.statements() as cursor:
            cursor.execute(TABLES)

    def make(self, stamp: EncoderStamp, space: str, group: GroupKey) -> PostgresIndex:
        """The index of a group, as the server has it.

        Raises:
            IndexUnavailableError: if the server cannot be reached, or holds vectors of another encoder under this
                namespace.
        """
        return PostgresIndex(self, self._space(stamp, space), stamp.dimension, group)

    def clear(self, stamp: EncoderStamp, space: str) -> None:
        """Drop what a space holds: it is filled anew from the database of cases.

        Raises:
            IndexUnavailableError: if the server cannot be reached, or holds vectors of another encoder under this
                namespace, which may be another robot's.
        """
        space_id = self._space(stamp, space)
        with self.statements() as cursor:
            cursor.execute("DELETE FROM flow_rag_vectors WHERE space_id = %s", (space_id,))

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def statements(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor in a transaction of its own; a connection that was lost is made again first.

        Raises:
            IndexUnavailableError: if the server cannot be reached or refuses.
        """
        with self._turn:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._psycopg.connect(
                        self._url, connect_timeout=CONNECT_S, options=f"-c statement_timeout={STATEMENT_MS}"
                    )
                with self._connection.transaction(), self._connection.cursor() as cursor:
                    yield cursor
            except self._psycopg.Error as error:
                text = " ".join(str(error).split())
                raise IndexUnavailableError(
                    f"the index at {self._name} does not answer: {text}; check the server, its extension vector and "
                    "the parameter index"
                ) from error

    def _space(self, stamp: EncoderStamp, space: str) -> int:
        name = f"{self._namespace}/{space}"
        with self.statements() as cursor:
            cursor.execute(
                "INSERT INTO flow_rag_spaces (name, encoder, revision, dimension) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (name) DO NOTHING",
                (name, stamp.encoder, stamp.revision, stamp.dimension),
            )
            cursor.execute(
                "SELECT space_id, encoder, revision, dimension FROM flow_rag_spaces WHERE name = %s", (name,)
            )
            row = cursor.fetchone()
        assert row is not None
        held = EncoderStamp(*row[1:])
        if held != stamp:
            raise IndexUnavailableError(
                f"{self._name} holds vectors of {held} as {name}, but these are of {stamp}; use that encoder, or "
                "another namespace, as in ?namespace=robot_7"
            )
        return int(row[0])


class PostgresIndex:
    """The vectors of one group in one space."""

    concurrent = True

    def __init__(self, backend: PostgresBackend, space_id: int, dimension: int, group: GroupKey) -> None:
        """Refer to a group of a space that exists."""
        self._backend = backend
        self._dimension = dimension
        self._key = (space_id, group.task, group.phase, int(group.failure_type))
        self._count = 0
        with self._statements() as cursor:
            cursor.execute(f"SELECT count(*) FROM flow_rag_vectors WHERE {_GROUP}", self._key)
            row = cursor.fetchone()
            self._count = 0 if row is None else int(row[0])

    def __len__(self) -> int:
        """Number of vectors."""
        return self._count

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Take vectors (N, D) in under new ids (N,)."""
        if len(ids) == 0:
            return
        with self._statements() as cursor:
            columns = "(space_id, task, phase, failure_type, case_id, embedding)"
            with cursor.copy(f"COPY flow_rag_vectors {columns} FROM STDIN") as copy:
                for case_id, vector in zip(ids.tolist(), vectors, strict=True):
                    copy.write_row((*self._key, case_id, _text(vector)))
        self._count += len(ids)

    def remove(self, ids: Ids) -> None:
        """Forget ids; unknown ones are ignored."""
        with self._statements() as cursor:
            cursor.execute(
                f"DELETE FROM flow_rag_vectors WHERE {_GROUP} AND case_id = ANY(%s)", (*self._key, ids.tolist())
            )
            self._count -= cursor.rowcount

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) for queries (Q, D), most similar first."""
        found: list[list[tuple[float, int]]] = []
        with self._statements() as cursor:
            for query in queries:
                cursor.execute(
                    f"SELECT -(embedding <#> %s::vector), case_id FROM flow_rag_vectors WHERE {_GROUP} "
                    "ORDER BY embedding <#> %s::vector, case_id LIMIT %s",
                    (text := _text(query), *self._key, text, k),
                )
                found.append(cursor.fetchall())
        width = min((len(rows) for rows in found), default=0)
        similarities = np.array([[row[0] for row in rows[:width]] for rows in found], dtype=np.float32)
        ids = np.array([[row[1] for row in rows[:width]] for rows in found], dtype=np.int64)
        return similarities.reshape(len(queries), width), ids.reshape(len(queries), width)

    def ids(self) -> Ids:
        """Every id (N,)."""
        with self._statements() as cursor:
            cursor.execute(f"SELECT case_id FROM flow_rag_vectors WHERE {_GROUP} ORDER BY case_id", self._key)
            return np.array([row[0] for row in cursor.fetchall()], dtype=np.int64)

    def vectors(self, ids: Ids) -> Vectors:
        """Give the vectors (N, D) of ids that are in the index."""
        found: dict[int, Vectors] = {}
        with self._statements() as cursor:
            for start in range(0, len(ids), BATCH):
                cursor.execute(
                    f"SELECT case_id, embedding::real[] FROM flow_rag_vectors WHERE {_GROUP} AND case_id = ANY(%s)",
                    (*self._key, ids[start : start + BATCH].tolist()),
                )
                found.update((row[0], np.array(row[1], dtype=np.float32)) for row in cursor.fetchall())
        return np.array([found[case_id] for case_id in ids.tolist()], dtype=np.float32).reshape(-1, self._dimension)

    def state(self) -> IndexState:
        """How it answers at the moment."""
        return IndexState("exact scan by PostgreSQL", self._count)

    def _statements(self) -> Any:
        return self._backend.statements()


_GROUP = "space_id = %s AND task = %s AND phase = %s AND failure_type = %s"


def _text(vector: Vectors) -> str:
    """A vector as pgvector reads it; nine digits bring every float32 back as it was."""
    return "[" + ",".join(f"{value:.9g}" for value in vector.tolist()) + "]"
