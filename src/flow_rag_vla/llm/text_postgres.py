# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A text store in PostgreSQL with pgvector, for passages that several machines share.

Each namespace is a schema of the server's, so that the tables are called as in SQLite. Every statement has a time
limit, so that a server that hangs costs a request an error. Searches are a full scan on the server.

Needs the extra ``postgres`` of this package, and on the server the extension ``vector``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flow_rag_vla.llm.embedding.base import EmbedderStamp, Vectors
from flow_rag_vla.llm.errors import MissingPackageError, StoreError
from flow_rag_vla.llm.redaction import redact
from flow_rag_vla.llm.text_database import Row

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 5
STATEMENT_MS = 10_000
"""Longest that the server may be asked to work, and be waited for; a writer waits as long for the one before."""

DEFAULT_NAMESPACE = "flow_rag_vla_texts"

_TABLES = """
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS passages (
    passage_id bigserial PRIMARY KEY,
    collection text NOT NULL,
    source text NOT NULL,
    position integer NOT NULL,
    text text NOT NULL,
    UNIQUE (collection, source, position)
);
CREATE TABLE IF NOT EXISTS generations (
    generation bigserial PRIMARY KEY,
    embedder text NOT NULL,
    revision text NOT NULL,
    dimension integer NOT NULL,
    created_ns bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'active', 'previous'))
);
"""


class PostgresTexts:
    """One connection; one that was lost is made again by the next statement."""

    def __init__(self, url: str) -> None:
        """Connect, and make what is missing.

        Args:
            url: ``postgresql://user:password@host:port/database?namespace=lab``. Without a namespace it is
                ``flow_rag_vla_texts``.

        Raises:
            StoreError: if the server cannot be reached, lacks the extension, or the namespace is no name.
            MissingPackageError: without psycopg.
        """
        try:
            import psycopg
        except ImportError as error:
            raise MissingPackageError(
                "a text store by URL needs psycopg: pip install 'flow_rag_vla[postgres]'"
            ) from error
        self._psycopg = psycopg
        parts = urlsplit(url)
        options = parse_qsl(parts.query)
        self._url = urlunsplit(parts._replace(query=urlencode([item for item in options if item[0] != "namespace"])))
        self._namespace = dict(options).get("namespace") or DEFAULT_NAMESPACE
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", self._namespace):
            raise StoreError(
                f"namespace {self._namespace!r} is no name: small letters, digits and underscores, as in ?namespace=lab"
            )
        # A password must not reach a log.
        self.name = f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}?namespace={self._namespace}"
        self._connection: psycopg.Connection[Any] | None = None
        with self.writing():
            # Who may only use what an administrator made need not be allowed to make it.
            ((there,),) = self._run("SELECT to_regclass(%s)", (f"{self._namespace}.generations",))
            if there is None:
                self._run(_TABLES.format(schema=self._namespace), ())

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """See :class:`flow_rag_vla.llm.text_database.TextDatabase`."""
        try:
            return self._run(statement.replace("?", "%s"), values)
        except self._psycopg.Error as error:
            raise self._problem(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See :class:`flow_rag_vla.llm.text_database.TextDatabase`."""
        try:
            with self._connected().transaction():
                self._run("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"text store {self._namespace}",))
                yield
        except self._psycopg.Error as error:
            raise self._problem(error) from error

    def make_vectors(self, table: str, dimension: int) -> None:
        """See :class:`flow_rag_vla.llm.text_database.TextDatabase`."""
        self.rows(
            f"CREATE TABLE {table} ("
            "passage_id bigint PRIMARY KEY REFERENCES passages (passage_id) ON DELETE CASCADE, "
            f"embedder text NOT NULL, revision text NOT NULL, dimension integer NOT NULL, vector vector({dimension}) "
            "NOT NULL)"
        )

    def put(self, table: str, passage_id: int, stamp: EmbedderStamp, vector: Vectors) -> None:
        """See :class:`flow_rag_vla.llm.text_database.TextDatabase`."""
        self.rows(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (passage_id) DO UPDATE SET vector = excluded.vector",
            (passage_id, stamp.embedder, stamp.revision, stamp.dimension, _text(vector)),
        )

    def nearest(
        self, table: str, dimension: int, query: Vectors, k: int, collections: Sequence[str]
    ) -> list[tuple[Row, float]]:
        """See :class:`flow_rag_vla.llm.text_database.TextDatabase`."""
        where = "WHERE p.collection = ANY(?) " if collections else ""
        given = (text := _text(query), *([list(collections)] if collections else []), text, k)
        found = self.rows(
            "SELECT p.passage_id, p.collection, p.source, p.position, p.text, -(v.vector <#> ?::vector) "
            f"FROM {table} v JOIN passages p USING (passage_id) {where}"
            "ORDER BY v.vector <#> ?::vector, p.passage_id LIMIT ?",
            given,
        )
        return [(row[:5], float(row[5])) for row in found]

    def close(self) -> None:
        """See :class:`flow_rag_vla.llm.text_database.TextDatabase`."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _run(self, statement: str, values: Sequence[object]) -> list[Row]:
        with self._connected().cursor() as cursor:
            # Without values psycopg sends several statements at once, as the schema needs.
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=CONNECT_S,
                    options=f"-c statement_timeout={STATEMENT_MS} -c search_path={self._namespace},public",
                )
            except self._psycopg.Error as error:
                raise self._problem(error) from error
        return self._connection

    def _problem(self, error: Exception) -> StoreError:
        said = redact(" ".join(str(error).split()))
        return StoreError(
            f"the text store at {self.name} does not answer: {said}; check the server and its extension vector"
        )


def _text(vector: Vectors) -> str:
    """A vector as pgvector reads it; nine digits bring every float32 back as it was."""
    return "[" + ",".join(f"{value:.9g}" for value in vector.tolist()) + "]"
