# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Looks for damage in a large database while the memory works with it.

A file of a few hundred megabytes is checked in full before it is used. One of gigabytes would keep the robot waiting
for a minute at every start, so a thread checks it meanwhile: every array against its checksum, then every page. A case
is in any case compared with its checksum when it is read. What is found is told, and a mark beside the file makes the
next opening check all of it first, which is when what is intact is saved.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.memory.rows import COLUMNS, RowError, check_row

CHECKED_AT_OPENING = 256 * 2**20
"""Bytes up to which a file is checked before it is used: about a second."""

NICENESS = 15

_ROWS = 256
_STEPS = 10_000
"""Instructions of SQLite between two looks at whether to stop: a few milliseconds."""


def suspicion(database: Path) -> Path:
    """The mark beside a file in which damage was found."""
    return database.with_name(database.name + ".suspect")


def is_checked_at_opening(database: Path) -> bool:
    """Whether a database is to be checked in full before it is used."""
    return database.stat().st_size <= CHECKED_AT_OPENING or suspicion(database).is_file()


class Inspection:
    """One look through a file, in a thread of its own."""

    def __init__(self, database: Path) -> None:
        """Start it."""
        self.problem = ""
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database inspection", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, finished or not."""
        self._stop.set()
        self._thread.join()

    def wait(self) -> None:
        """Return when it is finished."""
        self._thread.join()

    def _run(self) -> None:
        # On Linux a thread has a niceness of its own.
        with suppress(AttributeError, OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                connection.set_progress_handler(self._stop.is_set, _STEPS)
                found = self._look(connection)
        except (RowError, sqlite3.DatabaseError) as error:
            if self._stop.is_set() or isinstance(error, sqlite3.OperationalError):
                return
            found = str(error)
        if found:
            self.problem = (
                f"{self._database} is damaged ({found}); restart the failure memory: it saves what is intact into a "
                "fresh file first, the damaged one is kept"
            )
            with suppress(OSError):
                write_text(suspicion(self._database), self.problem + "\n")

    def _look(self, connection: sqlite3.Connection) -> str:
        last = -1
        while not self._stop.is_set():
            # In pieces, so that no reader holds up the log for minutes.
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM cases WHERE case_id > ? ORDER BY case_id LIMIT {_ROWS}", (last,)
            ).fetchall()
            if not rows:
                answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
                return "" if answer == "ok" else answer.replace("\n", " ")
            for row in rows:
                check_row(row)
            last = int(rows[-1]["case_id"])
        return ""
