"""Passages of text with their vectors, in SQLite.

Text is the truth; vectors are made from it. Each generation of vectors has a table of its own, whose rows carry
embedder, revision and dimension, and a store answers only queries of the embedder that made its active generation.
Another embedder means a migration: every passage is embedded again into a new table while the old one goes on
answering, then one transaction swaps them. The generation before is kept, so that going back is one transaction too.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.llm.embedding.base import EmbedderStamp, TextEmbedder, Vectors
from flow_rag_vla.llm.errors import StoreError

_APPLICATION_ID = 0x46545831
_BATCH = 64

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
    """One database with one embedder. One thread uses it; other processes may use the same file."""

    def __init__(self, path: str | Path, embedder: TextEmbedder) -> None:
        """Open or create.

        Raises:
            StoreError: if the file cannot be used, is another program's, or holds another embedder's vectors (then
                :func:`migrate` it).
        """
        self._path = str(Path(path).expanduser()) if str(path) != ":memory:" else ":memory:"
        self._embedder = embedder
        self._database = _opened(self._path)
        self._matrix: tuple[tuple[int, ...], list[Passage], Vectors] | None = None
        try:
            active = self._generation("active")
            if active is None:
                with self._writing():
                    self._new_generation(embedder.stamp, "active")
            elif active.stamp != embedder.stamp:
                raise StoreError(
                    f"{self._path} holds vectors of {active.stamp}, but the embedder is {embedder.stamp}; "
                    "migrate the store, or choose the embedder that made it"
                )
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def stamp(self) -> EmbedderStamp:
        """Who made the vectors that are searched."""
        return self._active().stamp

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM passages").fetchone()[0])

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
                row = self._database.execute(
                    "INSERT INTO passages (collection, source, position, text) VALUES (?, ?, ?, ?)",
                    (collection, source, position, text),
                )
                assert row.lastrowid is not None
                self._put(active, row.lastrowid, vector)
        return len(kept)

    def remove(self, collection: str, source: str) -> None:
        """Forget a source."""
        with self._writing():
            self._forget(collection, source)

    def search(self, query: str, k: int = 5, collections: Sequence[str] = ()) -> list[Passage]:
        """The k passages nearest in meaning, nearest first, from these collections (none: all)."""
        active = self._active()
        self._check(active)
        passages, matrix = self._loaded(active)
        if not passages or k <= 0:
            return []
        scores = matrix @ self._embedder.embed([query])[0]
        if collections:
            wanted = np.array([passage.collection in collections for passage in passages])
            scores = np.where(wanted, scores, -np.inf)
        order = np.argsort(-scores, kind="stable")[:k]
        return [
            Passage(*_fields(passages[place]), float(scores[place])) for place in order if np.isfinite(scores[place])
        ]

    def _loaded(self, active: _Generation) -> tuple[list[Passage], Vectors]:
        # Other processes' writes change data_version, one's own change total_changes.
        version = int(self._database.execute("PRAGMA data_version").fetchone()[0])
        key = (active.number, version, self._database.total_changes)
        if self._matrix is None or self._matrix[0] != key:
            rows = self._database.execute(
                f"SELECT p.passage_id, p.collection, p.source, p.position, p.text, v.vector FROM {active.table} v "
                "JOIN passages p USING (passage_id) ORDER BY p.passage_id"
            ).fetchall()
            flat = np.frombuffer(b"".join(row[5] for row in rows), dtype="<f4")
            matrix = flat.reshape(len(rows), active.stamp.dimension).astype(np.float32)
            self._matrix = key, [Passage(*row[:5]) for row in rows], matrix
        return self._matrix[1], self._matrix[2]

    def _check(self, active: _Generation) -> None:
        if active.stamp != self._embedder.stamp:
            raise StoreError(f"{self._path} was migrated to {active.stamp} meanwhile; open it again with that embedder")

    def _active(self) -> _Generation:
        active = self._generation("active")
        if active is None:
            raise StoreError(f"{self._path} has no active vectors; it was damaged from outside")
        return active

    def _generation(self, state: str, stamp: EmbedderStamp | None = None) -> _Generation | None:
        rows = self._database.execute(
            "SELECT generation, embedder, revision, dimension FROM generations WHERE state = ? "
            "ORDER BY generation DESC",
            (state,),
        ).fetchall()
        for row in rows:
            found = _Generation(int(row[0]), EmbedderStamp(row[1], row[2], int(row[3])))
            if stamp is None or found.stamp == stamp:
                return found
        return None

    def _new_generation(self, stamp: EmbedderStamp, state: str) -> _Generation:
        row = self._database.execute(
            "INSERT INTO generations (embedder, revision, dimension, created_ns, state) VALUES (?, ?, ?, ?, ?)",
            (stamp.embedder, stamp.revision, stamp.dimension, time.time_ns(), state),
        )
        assert row.lastrowid is not None
        made = _Generation(row.lastrowid, stamp)
        self._database.execute(
            f"CREATE TABLE {made.table} ("
            "passage_id INTEGER PRIMARY KEY REFERENCES passages (passage_id) ON DELETE CASCADE, "
            "embedder TEXT NOT NULL, revision TEXT NOT NULL, dimension INTEGER NOT NULL, vector BLOB NOT NULL)"
        )
        return made

    def _drop(self, generation: _Generation) -> None:
        self._database.execute(f"DROP TABLE IF EXISTS {generation.table}")
        self._database.execute("DELETE FROM generations WHERE generation = ?", (generation.number,))

    def _put(self, generation: _Generation, passage_id: int, vector: Vectors) -> None:
        stamp = generation.stamp
        if vector.shape != (stamp.dimension,):
            raise StoreError(f"a vector of {vector.shape} does not fit {stamp}")
        self._database.execute(
            f"INSERT OR REPLACE INTO {generation.table} VALUES (?, ?, ?, ?, ?)",
            (passage_id, stamp.embedder, stamp.revision, stamp.dimension, vector.astype("<f4").tobytes()),
        )

    def _forget(self, collection: str, source: str) -> None:
        self._database.execute("DELETE FROM passages WHERE collection = ? AND source = ?", (collection, source))

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
                    found = self._database.execute("SELECT 1 FROM passages WHERE passage_id = ?", (passage_id,))
                    if found.fetchone():
                        self._put(generation, passage_id, vector)

    def _missing(self, generation: _Generation, limit: int) -> list[tuple[int, str]]:
        return self._database.execute(
            "SELECT passage_id, text FROM passages "
            f"WHERE passage_id NOT IN (SELECT passage_id FROM {generation.table}) ORDER BY passage_id LIMIT ?",
            (limit,),
        ).fetchall()

    def _count_missing(self, generation: _Generation) -> int:
        return int(
            self._database.execute(
                f"SELECT count(*) FROM passages WHERE passage_id NOT IN (SELECT passage_id FROM {generation.table})"
            ).fetchone()[0]
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
            self._database.execute("UPDATE generations SET state = 'previous' WHERE generation = ?", (active.number,))
            self._database.execute("UPDATE generations SET state = 'active' WHERE generation = ?", (to.number,))
        self._embedder = embedder
        return True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be written: {error}") from error
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self._path} cannot be written: {error}") from error
            raise


def migrate(
    path: str | Path,
    present: TextEmbedder,
    wanted: TextEmbedder,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> TextStore:
    """Embed every passage with another embedder and make its vectors the active ones; return the store with it.

    The old vectors answer until the swap, and are kept for :func:`roll_back`. Interrupted, it changes nothing that is
    in use, and goes on where it was when called again.

    Raises:
        StoreError: as when opening; also if both embedders are the same.
    """
    if present.stamp == wanted.stamp:
        raise StoreError(f"{path} is made by {present.stamp} already")
    store = TextStore(path, present)
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


def roll_back(path: str | Path, present: TextEmbedder, before: TextEmbedder) -> TextStore:
    """Make the generation before the active one again; return the store with its embedder.

    Passages added since are embedded with it first.

    Raises:
        StoreError: if there is none of that embedder.
    """
    store = TextStore(path, present)
    try:
        previous = store._generation("previous", before.stamp)
        if previous is None:
            raise StoreError(f"{path} has no earlier vectors of {before.stamp} to go back to")
        while True:
            store._fill(previous, before, lambda _done, _all: None)
            if store._swap(previous, before, lambda _done, _all: None):
                return store
    except BaseException:
        store.close()
        raise


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


def _fields(passage: Passage) -> tuple[int, str, str, int, str]:
    return passage.passage_id, passage.collection, passage.source, passage.position, passage.text
