# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One open database: connections, transactions, and what its errors mean.

SQLite: write-ahead log with ``synchronous=FULL``, so that a write that returned is on disk. Every writing transaction
starts with ``BEGIN IMMEDIATE``: a transaction that reads first and then wants to write gets "database is locked" at
once when another wrote meanwhile, whatever the timeout. PostgreSQL: one advisory lock a writing transaction, so that
the numbers of changes rise in the order of commits there too.
"""

from __future__ import annotations

import os
import threading
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

BUSY_TIMEOUT_S = 30.0
"""How long a write waits for others before it is refused as busy."""
CACHE_KIB = 65_536
CHECKPOINT_PAGES = 32_768
"""Pages of the write-ahead log (128 MB) before they are copied into the database. Batches touch the same pages of the
indexes over again: copied seldom, a page is copied once for many batches. What returned is in the log, on disk."""
ADVISORY_LOCK = 0x4F424A52
"""Number of the lock that writers of one PostgreSQL database take in turn."""
_WRITES = "registry_writes"


class Database:
    """An engine whose connections are set up for the registry; safe to use from threads, and after a fork."""

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Make the engine; nothing is opened yet.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user:password@host/database``.
            busy_timeout_s: how long a write waits for others.

        Raises:
            InvalidInputError: a URL of another kind, or psycopg is not installed.
        """
        self._busy_timeout_s = busy_timeout_s
        self._turn = threading.Lock()
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

    def _begin(self, connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        if self.kind == "sqlite":
            connection.exec_driver_sql(self.begin_writing if writes else "BEGIN")
        elif writes:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")

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
            RegistryError: the database cannot be written; see :meth:`translated`.
        """
        self._after_fork()
        # Threads of one process take turns fairly here; SQLite's own waiting is a lottery.
        with self._turn, self.translated(), self.engine.connect() as connection:
            writing = connection.execution_options(**{_WRITES: True})
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

    def close(self) -> None:
        """Close every connection; a later call opens new ones."""
        self.engine.dispose()

    def _after_fork(self) -> None:
        # A connection of the parent must not be used, nor closed, by the child.
        if os.getpid() != self._pid:
            self.engine.dispose(close=False)
            self._turn = threading.Lock()
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
            "send the request again; look for a program that holds a transaction open",
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
