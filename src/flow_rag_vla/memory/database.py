# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One SQLite file under one writer and any number of readers: connections, transactions, and errors in words.

What is in the file is told in :mod:`schema` (the tables) and :mod:`store` (the cases).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow_rag_vla.memory.rows import RowError
from flow_rag_vla.memory.schema import APPLICATION_ID, MIGRATIONS

BUSY_TIMEOUT_S = 5.0

CACHE_KIB = 512
"""Pages of the file that each connection keeps, a quarter of SQLite's default: every thread has one, and behind them
the system keeps the same pages once for all."""


class StoreError(RuntimeError):
    """The store cannot do what was asked; the text names the file and the remedy."""


class StoreUnavailableError(StoreError):
    """The file cannot be used now: its disk is full, another program holds it, or it may not be written.

    Nothing was changed, and the same may succeed later.
    """


class CorruptStoreError(StoreError):
    """The database file is damaged."""


class Database:
    """The open file. A writing call returns after its data is on disk, or raises and nothing was changed."""

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        """Open the file, and bring it to the present schema.

        Args:
            path: the SQLite file; ``~`` is the home folder.
            create: make it, and its folder, if it is not there.

        Raises:
            CorruptStoreError: if it is damaged.
            StoreError: if it is missing, of another program or a newer version, or cannot be opened.
        """
        self.path = Path(path).expanduser()
        if not create and not self.path.is_file():
            raise StoreError(f"{self.path}: there is no such database; check the path")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: its folder cannot be made ({error}); choose another path") from error
        self._lock = threading.RLock()
        # Not the lock above: a thread's first read must not wait for a change that is being written.
        self._connections_lock = threading.Lock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            with self._translated("opened"):
                self._writer = self._connect()
                self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection."""
        with self._lock, self._connections_lock:
            while self._connections:
                self._connections.pop().close()

    def checkpoint(self) -> None:
        """Bring everything from the log into the one file."""
        with self._lock, self._translated("written"):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection for reading.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._translated("read"):
            yield self._reader()

    def data_version(self) -> int:
        """A number that changes when another connection, such as the console command's, has written."""
        with self._lock, self._translated("read"):
            return int(self._writer.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock of the file; on leaving everything is durable, on an exception nothing happened.

        Raises:
            StoreError: if it cannot be written.
        """
        with self._lock, self._translated("written"):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            str(self.path), timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        with self._connections_lock:
            self._connections.append(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    def _prepare(self) -> None:
        application = int(self._writer.execute("PRAGMA application_id").fetchone()[0])
        tables = int(self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        version = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self.path} is a SQLite database of another program; choose another path")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} has schema {version}, this program knows up to {len(MIGRATIONS)}; update the program"
            )
        # Only now: it changes the file, which might have been another program's.
        self._writer.execute("PRAGMA journal_mode = WAL")
        for number in range(version, len(MIGRATIONS)):
            with self.transaction() as connection:
                if int(connection.execute("PRAGMA user_version").fetchone()[0]) > number:
                    # Another program opened the file at the same moment and was first.
                    continue
                for statement in MIGRATIONS[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number + 1}")

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except RowError as error:
            raise CorruptStoreError(self._corrupt(str(error))) from error
        except sqlite3.Error as error:
            raise self._store_error(error, doing) from error

    def _store_error(self, error: sqlite3.Error, doing: str) -> StoreError:
        if isinstance(error, sqlite3.OperationalError):
            text = str(error)
            if "full" in text or "I/O" in text:
                return StoreUnavailableError(
                    f"{self.path} could not be {doing}: {text}; nothing was changed; free space on its disk, try again"
                )
            if "locked" in text or "busy" in text:
                return StoreUnavailableError(
                    f"{self.path} could not be {doing}: another program holds it for {BUSY_TIMEOUT_S:g} s; end that one"
                )
            if "decode to UTF-8" in text:
                # Bytes of another place where words were; what stands there belongs in no sentence.
                return CorruptStoreError(self._corrupt(text.partition(" with text ")[0]))
            return StoreUnavailableError(
                f"{self.path} could not be {doing}: {text}; check the path and its permissions"
            )
        if type(error) is sqlite3.DatabaseError:
            return CorruptStoreError(self._corrupt(str(error)))
        return StoreError(f"{self.path} could not be {doing}: {error}")

    def _corrupt(self, what: str) -> str:
        return (
            f"{self.path} is damaged ({what}); restart the failure memory or run the console command `memory salvage` "
            "to save what is intact into a fresh file, the damaged one is kept"
        )
