# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Passages of text with their vectors, in SQLite or in PostgreSQL with pgvector.

Text is the truth; vectors are made from it. Each generation of vectors has a table of its own, whose rows carry
embedder, revision and dimension, and a store answers only queries of the embedder that made its active generation.
Another embedder means a migration: every passage is embedded again into a new table while the old one goes on
answering, then one transaction swaps them. The generation before is kept, so that going back is one transaction too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.llm.embedding.base import EmbedderStamp, TextEmbedder, Vectors, unread
from flow_rag_vla.llm.errors import StoreError
from flow_rag_vla.llm.text_database import SqliteTexts, TextDatabase
from flow_rag_vla.llm.text_postgres import PostgresTexts

URL_PREFIXES = ("postgresql://", "postgres://")
"""How the URL of a server begins."""

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text. ``score``: cosine to the query."""

    passage_id: int
    collection: str
    source: str
    position: int
    text: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class _Generation:
    number: int
    stamp: EmbedderStamp

    @property
    def table(self) -> str:
        return f"vectors_{self.number}"


class TextStore:
    """One database with one embedder. One thread uses it; other processes may use the same database."""

    def __init__(self, where: str | Path, embedder: TextEmbedder) -> None:
        """Open or create.

        Args:
            where: a file, or ``postgresql://user@host/database?namespace=lab``; see ``text_postgres``.
            embedder: makes the vectors.

        Raises:
            StoreError: if the database cannot be used, is another program's, or holds another embedder's vectors (then
                :func:`migrate` it).
            MissingPackageError: for a URL without psycopg.
        """
        self._embedder = embedder
        self._database: TextDatabase = open_database(where)
        try:
            active = self._generation("active")
            if active is None:
                with self._writing():
                    # Another process may have been quicker.
                    active = self._generation("active") or self._new_generation(embedder.stamp, "active")
            if active.stamp != embedder.stamp:
                raise StoreError(
                    f"{self._database.name} holds vectors of {active.stamp}, but the embedder is {embedder.stamp}; "
                    "migrate the store, or choose the embedder that made it"
                )
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @property
    def name(self) -> str:
        """How the database is called; holds no password."""
        return self._database.name

    @property
    def stamp(self) -> EmbedderStamp:
        """Who made the vectors that are searched."""
        return self._active().stamp

    @property
    def previous(self) -> EmbedderStamp | None:
        """Who made the vectors that :func:`roll_back` would go back to."""
        kept = self._generation("previous")
        return None if kept is None else kept.stamp

    def __len__(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM passages")[0][0])

    def sources(self) -> list[tuple[str, str, int]]:
        """(collection, source, number of passages), in order of their names."""
        return [
            (str(collection), str(source), int(count))
            for collection, source, count in self._database.rows(
                "SELECT collection, source, count(*) FROM passages GROUP BY collection, source "
                "ORDER BY collection, source"
            )
        ]

    def unread(self, texts: Sequence[str]) -> str:
        """What to tell of texts in a language that the embedder does not understand; empty if there is nothing."""
        return unread(self._embedder, texts)

    def add(self, collection: str, source: str, texts: Sequence[str]) -> int:
        """Replace everything of a source by these passages, in this order; return how many.

        The text is durable, with its vectors, when this returns.
        """
        kept = [text.strip() for text in texts if text.strip()]
        vectors = self._embedder.embed(kept)
        with self._writing():
            active = self._active()
            self._check(active)
            self._forget(collection, source)
            for position, (text, vector) in enumerate(zip(kept, vectors, strict=True)):
                ((passage_id,),) = self._database.rows(
                    "INSERT INTO passages (collection, source, position, text) VALUES (?, ?, ?, ?) "
                    "RETURNING passage_id",
                    (collection, source, position, text),
                )
                self._put(active, int(passage_id), vector)
        return len(kept)

    def remove(self, collection: str, source: str) -> None:
        """Forget a source."""
        with self._writing():
            self._forget(collection, source)

    def search(self, query: str, k: int = 5, collections: Sequence[str] = ()) -> list[Passage]:
        """The k passages nearest in meaning, nearest first, from these collections (none: all)."""
        active = self._active()
        self._check(active)
        if k <= 0 or not len(self):
            return []
        vector = self._embedder.embed([query])[0]
        found = self._database.nearest(active.table, active.stamp.dimension, vector, k, collections)
        return [Passage(int(row[0]), str(row[1]), str(row[2]), int(row[3]), str(row[4]), score) for row, score in found]

    def _check(self, active: _Generation) -> None:
        if active.stamp != self._embedder.stamp:
            raise StoreError(
                f"{self._database.name} was migrated to {active.stamp} meanwhile; open it again with that embedder"
            )

    def _active(self) -> _Generation:
        active = self._generation("active")
        if active is None:
            raise StoreError(f"{self._database.name} has no active vectors; it was damaged from outside")
        return active

    def _generation(self, state: str, stamp: EmbedderStamp | None = None) -> _Generation | None:
        rows = self._database.rows(
            "SELECT generation, embedder, revision, dimension FROM generations WHERE state = ? "
            "ORDER BY generation DESC",
            (state,),
        )
        for row in rows:
            found = _Generation(int(row[0]), EmbedderStamp(row[1], row[2], int(row[3])))
            if stamp is None or found.stamp == stamp:
                return found
        return None

    def _new_generation(self, stamp: EmbedderStamp, state: str) -> _Generation:
        ((number,),) = self._database.rows(
            "INSERT INTO generations (embedder, revision, dimension, created_ns, state) VALUES (?, ?, ?, ?, ?) "
            "RETURNING generation",
            (stamp.embedder, stamp.revision, stamp.dimension, time.time_ns(), state),
        )
        made = _Generation(int(number), stamp)
        self._database.make_vectors(made.table, stamp.dimension)
        return made

    def _drop(self, generation: _Generation) -> None:
        self._database.rows(f"DROP TABLE IF EXISTS {generation.table}")
        self._database.rows("DELETE FROM generations WHERE generation = ?", (generation.number,))

    def _put(self, generation: _Generation, passage_id: int, vector: Vectors) -> None:
        if vector.shape != (generation.stamp.dimension,):
            raise StoreError(f"a vector of {vector.shape} does not fit {generation.stamp}")
        self._database.put(generation.table, passage_id, generation.stamp, vector)

    def _forget(self, collection: str, source: str) -> None:
        self._database.rows("DELETE FROM passages WHERE collection = ? AND source = ?", (collection, source))

    def _fill(self, generation: _Generation, embedder: TextEmbedder, progress: Callable[[int, int], None]) -> None:
        """Embed what has no vector yet, in batches, each durable: an interrupted migration goes on where it was."""
        while True:
            total = len(self)
            rows = self._missing(generation, _BATCH)
            progress(total - self._count_missing(generation), total)
            if not rows:
                return
            vectors = embedder.embed([text for _, text in rows])
            with self._writing():
                for (passage_id, _), vector in zip(rows, vectors, strict=True):
                    # It may have been removed while it was embedded.
                    if self._database.rows("SELECT 1 FROM passages WHERE passage_id = ?", (passage_id,)):
                        self._put(generation, passage_id, vector)

    def _missing(self, generation: _Generation, limit: int) -> list[tuple[int, str]]:
        return [
            (int(row[0]), str(row[1]))
            for row in self._database.rows(
                "SELECT passage_id, text FROM passages "
                f"WHERE passage_id NOT IN (SELECT passage_id FROM {generation.table}) ORDER BY passage_id LIMIT ?",
                (limit,),
            )
        ]

    def _count_missing(self, generation: _Generation) -> int:
        return int(
            self._database.rows(
                f"SELECT count(*) FROM passages WHERE passage_id NOT IN (SELECT passage_id FROM {generation.table})"
            )[0][0]
        )

    def _swap(self, to: _Generation, embedder: TextEmbedder, progress: Callable[[int, int], None]) -> bool:
        """Make a generation the active one if it is complete; the active one becomes the previous."""
        with self._writing():
            if self._missing(to, 1):
                return False
            active = self._active()
            previous = self._generation("previous")
            while previous is not None:
                if previous.number != to.number:
                    self._drop(previous)
                else:
                    break
                previous = self._generation("previous")
            self._database.rows("UPDATE generations SET state = 'previous' WHERE generation = ?", (active.number,))
            self._database.rows("UPDATE generations SET state = 'active' WHERE generation = ?", (to.number,))
        self._embedder = embedder
        return True

    def _writing(self) -> AbstractContextManager[None]:
        return self._database.writing()


@dataclass(frozen=True, slots=True)
class _Known:
    """An embedder of which only the stamp is known: enough to open what it made, and to leave it."""

    stamp: EmbedderStamp

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Nothing can be embedded."""
        raise StoreError(f"{self.stamp} was not set up; name the embedder")


def held_by(where: str | Path) -> EmbedderStamp:
    """Who made the vectors of a store that is there already. A file that is not there is not made.

    Raises:
        StoreError: if there is no store, or it holds no vectors.
    """
    if not str(where).startswith(URL_PREFIXES) and not Path(where).expanduser().is_file():
        raise StoreError(f"there is no text store at {where}; add documents first")
    database = open_database(where)
    try:
        rows = database.rows("SELECT embedder, revision, dimension FROM generations WHERE state = 'active'")
    finally:
        database.close()
    if not rows:
        raise StoreError(f"{database.name} holds no vectors; add documents first")
    return EmbedderStamp(str(rows[0][0]), str(rows[0][1]), int(rows[0][2]))


def opened_to_look(where: str | Path) -> TextStore:
    """A store that is there already, whoever made its vectors; it cannot be searched or added to.

    Raises:
        StoreError: as :func:`held_by`.
    """
    return TextStore(where, _Known(held_by(where)))


def migrate(
    where: str | Path,
    present: TextEmbedder | None,
    wanted: TextEmbedder,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> TextStore:
    """Embed every passage with another embedder and make its vectors the active ones; return the store with it.

    The old vectors answer until the swap, and are kept for :func:`roll_back`. Interrupted, it changes nothing that is
    in use, and goes on where it was when called again. ``present`` is who made them; None: whoever the store names,
    which need not be at hand.

    Raises:
        StoreError: as when opening; also if both embedders are the same.
    """
    present = present or _Known(held_by(where))
    if present.stamp == wanted.stamp:
        raise StoreError(f"the store is made by {present.stamp} already")
    store = TextStore(where, present)
    try:
        with store._writing():
            building = store._generation("building", wanted.stamp)
            if building is None:
                stale = store._generation("building")
                if stale is not None:
                    store._drop(stale)
                building = store._new_generation(wanted.stamp, "building")
        while True:
            store._fill(building, wanted, progress)
            # Passages added between the last look and the swap send it round once more.
            if store._swap(building, wanted, progress):
                return store
    except BaseException:
        store.close()
        raise


def roll_back(where: str | Path, present: TextEmbedder | None, before: TextEmbedder) -> TextStore:
    """Make the generation before the active one again; return the store with its embedder.

    Passages added since are embedded with it first. ``present`` as in :func:`migrate`.

    Raises:
        StoreError: if there is none of that embedder.
    """
    store = TextStore(where, present or _Known(held_by(where)))
    try:
        previous = store._generation("previous", before.stamp)
        if previous is None:
            raise StoreError(f"{store.name} has no earlier vectors of {before.stamp} to go back to")
        while True:
            store._fill(previous, before, lambda _done, _all: None)
            if store._swap(previous, before, lambda _done, _all: None):
                return store
    except BaseException:
        store.close()
        raise


def open_database(where: str | Path) -> TextDatabase:
    """A file, ``:memory:``, or a server's URL (``postgresql://user@host/database?namespace=lab``).

    Raises:
        StoreError: if it cannot be used.
        MissingPackageError: for a URL without psycopg.
    """
    if str(where).startswith(URL_PREFIXES):
        return PostgresTexts(str(where))
    return SqliteTexts(where)
