# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One open database: connections, transactions, and what its errors mean.

SQLite: write-ahead log with ``synchronous=FULL``, so that a write that returned is on disk. Every writing transaction
starts with ``BEGIN IMMEDIATE``: a transaction that reads first and then wants to write gets "database is locked" at
once when another wrote meanwhile, whatever the timeout. Writers take turns in the order in which they asked; see
``turn``. PostgreSQL: one advisory lock a writing transaction, so that the numbers of changes rise in the order of
commits there too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry.errors import (
    BusyError,
    DiskFullError,
    ErrorCode,
    InvalidInputError,
    RegistryError,
    StorageError,
    files_checked,
)
from flow_rag_vla.labeling.registry.turn import WritingTurn

BUSY_TIMEOUT_S = 30.0
"""How long a write waits for others, in all, before it is refused as busy."""
QUEUEING = 0.5
"""Share of that in which a turn is waited for; in the rest the database's own lock is, with or without one."""
CACHE_KIB = 65_536
CHECKPOINT_PAGES = 32_768
"""Pages of the write-ahead log (128 MB) before they are copied into the database. Batches touch the same pages of the
indexes over again: copied seldom, a page is copied once for many batches. What returned is in the log, on disk."""
ADVISORY_LOCK = 0x4F424A52
"""Number of the lock that writers of one PostgreSQL database take in turn."""
_WRITES_UNTIL = "registry_writes_until"
"""Option of a connection whose transactions write: until when (monotonic clock) it waits for others."""


class Database:
    """An engine whose connections are set up for the registry; safe to use from threads, and after a fork."""

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Make the engine; nothing is opened yet.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user:password@host/database``.
            busy_timeout_s: how long a write waits for others in all.

        Raises:
            InvalidInputError: a URL of another kind, or psycopg is not installed.
        """
        self._busy_timeout_s = busy_timeout_s
        self._pid = os.getpid()
        self.begin_writing = "BEGIN IMMEDIATE"
        """Only the benchmark changes it, to show what "BEGIN" alone loses."""
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.kind = parsed.get_backend_name()
        self.name = parsed.render_as_string(hide_password=True)
        if self.kind not in ("sqlite", "postgresql"):
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE,
                f"{self.name} is no database of the registry",
                "give a folder, or postgresql://user:password@host/database",
            )
        self.path = Path(parsed.database or "") if self.kind == "sqlite" else None
        self._turn = self._new_turn()
        try:
            self.engine = sa.create_engine(parsed, connect_args=self._arguments())
        except ImportError as error:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE, f"{self.name} needs psycopg", "pip install 'flow_rag_vla[postgres]'"
            ) from error
        if self.kind == "sqlite":
            sa.event.listen(self.engine, "connect", self._set_up)
        sa.event.listen(self.engine, "begin", self._begin)

    def _arguments(self) -> dict[str, Any]:
        if self.kind == "sqlite":
            return {"timeout": self._busy_timeout_s, "check_same_thread": False}
        milliseconds = int(self._busy_timeout_s * 1000)
        return {"connect_timeout": 5, "options": f"-c lock_timeout={milliseconds}"}

    def _set_up(self, connection: Any, _record: object) -> None:
        # Transactions are begun by _begin alone; the driver's own are deferred.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        cursor.close()

    def _new_turn(self) -> WritingTurn:
        # PostgreSQL queues those who wait for its lock itself; threads wait here, where they hold no connection.
        return WritingTurn(None if self.path is None else self.path.parent)

    def _begin(self, connection: sa.Connection) -> None:
        until = connection.get_execution_options().get(_WRITES_UNTIL)
        if until is None:
            if self.kind == "sqlite":
                connection.exec_driver_sql("BEGIN")
            return
        left_ms = max(1, int(1000 * (until - time.monotonic())))
        if self.kind == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {left_ms}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {left_ms}")
        try:
            connection.exec_driver_sql(self.begin_writing)
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(1000 * self._busy_timeout_s)}")

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database throughout.

        Raises:
            RegistryError: the database cannot be read; see :meth:`translated`.
        """
        self._after_fork()
        with self.translated(), self.engine.connect() as connection:
            if self.kind == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that alone writes; on return everything is durable, on an error nothing is.

        Raises:
            BusyError: others wrote for longer than the limit, wherever in the queue that was.
            RegistryError: the database cannot be written; see :meth:`translated`.
        """
        self._after_fork()
        until = time.monotonic() + self._busy_timeout_s
        with (
            self._turn.taken(QUEUEING * self._busy_timeout_s),
            self.translated(),
            self.engine.connect() as connection,
        ):
            writing = connection.execution_options(**{_WRITES_UNTIL: until})
            with writing.begin():
                yield writing

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the driver raises into typed errors.

        Raises:
            DiskFullError, BusyError, StorageError: with the file or server and the remedy.
        """
        try:
            with files_checked(self.name):
                yield
        except sa.exc.DBAPIError as error:
            raise _meaning(error, self.name, self._busy_timeout_s) from error
        except sa.exc.TimeoutError as error:
            message = f"{self.name}: every connection of this program is in use ({error})"
            raise BusyError(ErrorCode.BUSY, message, "send the request again in a moment") from error

    def close(self) -> None:
        """Close every connection; a later call opens new ones."""
        self.engine.dispose()

    def _after_fork(self) -> None:
        # A connection of the parent must not be used, nor closed, by the child.
        if os.getpid() != self._pid:
            self.engine.dispose(close=False)
            self._turn = self._new_turn()
            self._pid = os.getpid()


def _meaning(error: sa.exc.DBAPIError, name: str, timeout_s: float) -> RegistryError:
    text = str(error.orig)
    low = text.lower()
    if "disk is full" in low or "no space left" in low:
        remedy = "free space or raise the quota, then send the same batch again"
        return DiskFullError(ErrorCode.DISK_FULL, f"{name}: no space is left ({text})", remedy)
    if "locked" in low or "lock timeout" in low or "busy" in low:
        return BusyError(
            ErrorCode.BUSY,
            f"{name}: others wrote for more than {timeout_s:g} s ({text})",
            "send the request again in a moment; if it stays so, end the program that holds a transaction open",
        )
    if "malformed" in low or "not a database" in low:
        remedy = "restore a backup, or rescue what is intact with the sqlite3 command '.recover'"
        return StorageError(ErrorCode.CORRUPT, f"{name}: the database is damaged ({text})", remedy)
    if isinstance(error, sa.exc.OperationalError) and "connect" in low:
        return BusyError(ErrorCode.UNAVAILABLE, f"{name}: the server does not answer ({text})", "check the server")
    if "readonly database" in low:
        remedy = "check the permissions of the file and of its folder"
        return StorageError(ErrorCode.STORAGE_FAILED, f"{name}: it cannot be written ({text})", remedy)
    return StorageError(ErrorCode.STORAGE_FAILED, f"{name}: {text}", "see the text; 'registry doctor' looks for damage")
