# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure cases on disk: one SQLite file, the truth that every index and cache is rebuilt from.

Write-ahead log with ``synchronous=FULL``: a call that writes returns after the data is on disk, or raises and nothing
was stored. One thread writes at a time (a lock holds it); any number of threads read, each on its own connection,
and never wait for the writer.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import Array, EncoderStamp, FailureCase, GroupKey
from flow_rag_vla.memory.images import CaseImage, put_images
from flow_rag_vla.memory.inspection import is_checked_at_opening, suspicion
from flow_rag_vla.memory.rows import COLUMNS, RowError, check_row, insert_case, load_cases, update_case
from flow_rag_vla.memory.schema import APPLICATION_ID, MIGRATIONS

BATCH = 512
"""Rows read at once: a million cases must not be in memory twice."""

BUSY_TIMEOUT_S = 5.0

CACHE_KIB = 512
"""Pages of the file that each connection keeps, a quarter of SQLite's default: every thread has one, and behind them
the system keeps the same pages once for all."""

SUMMARY_COLUMNS = (
    "case_id, task, phase, failure_type, correction IS NOT NULL, uses, successes, retired, created_ns, embedding"
)


class StoreError(RuntimeError):
    """The store cannot do what was asked; the text names the file and the remedy."""


class StoreUnavailableError(StoreError):
    """The file cannot be used now: its disk is full, another program holds it, or it may not be written.

    Nothing was changed, and the same may succeed later.
    """


class CorruptStoreError(StoreError):
    """The database file is damaged."""


class EncoderMismatchError(StoreError):
    """The embeddings of two encoders would be mixed."""


class UnknownCaseError(LookupError):
    """No case has this id."""

    def __init__(self, case_id: int) -> None:
        super().__init__(f"no failure case has id {case_id}; list the cases to see which ids there are")


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """What a search and a pruning must know of a case without reading its arrays."""

    case_id: int
    group: GroupKey
    has_correction: bool
    uses: int
    successes: int
    retired: bool
    created_ns: int


@dataclass(frozen=True, slots=True)
class Change:
    """A place in the log of changes. The mark is random: the same number in another file is another change."""

    change_id: int
    mark: str


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases a listing shows; empty fields mean any."""

    task: str = ""
    phase: str = ""
    failure_types: tuple[FailureType, ...] = ()
    include_retired: bool = False

    def clause(self) -> tuple[str, list[Any]]:
        """The WHERE clause and its values."""
        terms, values = ["1"], list[Any]()
        if self.task:
            terms.append("task = ?")
            values.append(self.task)
        if self.phase:
            terms.append("phase = ?")
            values.append(self.phase)
        if self.failure_types:
            terms.append(f"failure_type IN ({', '.join('?' * len(self.failure_types))})")
            values.extend(int(item) for item in self.failure_types)
        if not self.include_retired:
            terms.append("retired = 0")
        return " AND ".join(terms), values


class FailureStore:
    """An open database of failure cases."""

    def __init__(self, path: str | Path, *, create: bool = True, verify: bool = True) -> None:
        """Open a database, bring it to the present schema, and check it.

        Args:
            path: the SQLite file; ``~`` is the home folder.
            create: make it, and its folder, if it is not there.
            verify: look for damage in every page and every array; a large file is then only marked ``unverified``,
                see ``inspection``.

        Raises:
            CorruptStoreError: if it is damaged (``salvage`` rescues what is intact).
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
        self._stamp: EncoderStamp | None = None
        try:
            with self._translated("opened"):
                self._writer = self._connect()
                self._prepare()
                self.unverified = verify and not is_checked_at_opening(self.path)
                if verify and not self.unverified:
                    self._verify()
            self._stamp = self._read_stamp()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection."""
        with self._lock, self._connections_lock:
            while self._connections:
                self._connections.pop().close()

    @property
    def stamp(self) -> EncoderStamp | None:
        """Whose embeddings the cases hold; None while there is no case."""
        return self._stamp

    def reload_stamp(self) -> None:
        """Look again whose embeddings the cases hold: another program may have added the first or dropped the last."""
        self._stamp = self._read_stamp()

    def check_stamp(self, stamp: EncoderStamp) -> None:
        """Refuse embeddings of another encoder, revision or dimension.

        Raises:
            EncoderMismatchError: naming both.
        """
        if self._stamp is not None and self._stamp != stamp:
            raise EncoderMismatchError(
                f"{self.path} holds embeddings of {self._stamp}, but these are of {stamp}; use that encoder, or give "
                "the new one a database of its own"
            )

    def add(
        self,
        cases: Sequence[FailureCase],
        remove: Iterable[int] = (),
        change: Sequence[FailureCase] = (),
        images: Mapping[int, tuple[CaseImage, ...]] | None = None,
    ) -> list[int]:
        """Store cases, drop others and change others in one transaction; give the ids of the new ones.

        Everything is durable on return. ``change``: stored cases as they are to be, found by their ids; ``images``:
        pictures of new cases, by place in ``cases``.

        Raises:
            EncoderMismatchError: if a case was made by another encoder than those stored.
            UnknownCaseError: if one that is to be changed is not there; nothing was stored then.
            StoreError: if the disk is full or cannot be written; nothing was stored then.
        """
        self._check_stamps([*cases, *change])
        ids = []
        with self._lock, self.transaction() as connection:
            if cases and self._stamp is None:
                _write_stamp(connection, cases[0].stamp)
            for case in cases:
                ids.append(insert_case(connection, case, case.created_ns or time.time_ns()))
            for place, some in (images or {}).items():
                put_images(connection, ids[place], some)
            for case in change:
                _update(connection, case)
            connection.executemany("DELETE FROM cases WHERE case_id = ?", [(case_id,) for case_id in remove])
        if cases:
            self._stamp = cases[0].stamp
        return ids

    def restore(self, cases: Sequence[FailureCase]) -> None:
        """Store cases under the ids that they had, as a copy of another database is made.

        Raises:
            EncoderMismatchError: if a case was made by another encoder than those stored.
            StoreError: if an id is taken or it cannot be written; nothing was stored then.
        """
        self._check_stamps(cases)
        with self._lock, self.transaction() as connection:
            if cases and self._stamp is None:
                _write_stamp(connection, cases[0].stamp)
            for case in cases:
                insert_case(connection, case, case.created_ns, case.case_id)
        if cases:
            self._stamp = cases[0].stamp

    def checkpoint(self) -> None:
        """Bring everything from the log into the one file."""
        with self._lock, self._translated("written"):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def get(self, ids: Iterable[int]) -> dict[int, FailureCase]:
        """Read whole cases; ids that are not there are left out.

        Raises:
            CorruptStoreError: if a row was damaged after the file was opened.
        """
        with self._translated("read"):
            return load_cases(self._reader(), list(ids))

    def page(self, which: CaseFilter, offset: int, limit: int) -> tuple[int, list[FailureCase]]:
        """Give the number of cases that a filter lets through, and one page of them, newest first."""
        clause, values = which.clause()
        with self._translated("read"):
            reader = self._reader()
            total = int(reader.execute(f"SELECT count(*) FROM cases WHERE {clause}", values).fetchone()[0])
            rows = reader.execute(
                f"SELECT case_id FROM cases WHERE {clause} ORDER BY created_ns DESC, case_id DESC LIMIT ? OFFSET ?",
                [*values, limit, offset],
            ).fetchall()
            found = load_cases(reader, [int(row[0]) for row in rows])
        return total, list(found.values())

    def summaries(self) -> Iterator[tuple[list[CaseSummary], Array]]:
        """Every case, retired ones too, in batches: summaries and their embeddings (N, D) float32."""
        query = f"SELECT {SUMMARY_COLUMNS} FROM cases WHERE case_id > ? ORDER BY case_id LIMIT ?"
        last = -1
        while True:
            with self._translated("read"):
                rows = self._reader().execute(query, (last, BATCH)).fetchall()
            if not rows:
                return
            last = int(rows[-1][0])
            yield _summaries(rows)

    def summaries_of(self, ids: Sequence[int]) -> Iterator[tuple[list[CaseSummary], Array]]:
        """Those of :meth:`summaries` with these ids; ids that are not there are left out."""
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            query = f"SELECT {SUMMARY_COLUMNS} FROM cases WHERE case_id IN ({', '.join('?' * len(some))})"
            with self._translated("read"):
                rows = self._reader().execute(query, list(some)).fetchall()
            if rows:
                yield _summaries(rows)

    def last_change(self) -> Change:
        """The newest entry in the log of changes."""
        with self._translated("read"):
            row = self._reader().execute("SELECT change_id, mark FROM changes ORDER BY change_id DESC LIMIT 1")
            return Change(*row.fetchone())

    def changed_since(self, change: Change) -> list[int] | None:
        """Ids of the cases that came, went or changed after a change; None if the log does not know that change."""
        with self._translated("read"):
            reader = self._reader()
            known = reader.execute("SELECT mark FROM changes WHERE change_id = ?", (change.change_id,)).fetchone()
            if known is None or known[0] != change.mark:
                return None
            rows = reader.execute("SELECT DISTINCT case_id FROM changes WHERE change_id > ?", (change.change_id,))
            return [int(row[0]) for row in rows]

    def forget_changes(self, before: Change) -> None:
        """Drop the log up to a change; that one stays."""
        with self._lock, self.transaction() as connection:
            connection.execute("DELETE FROM changes WHERE change_id < ?", (before.change_id,))

    def update(self, case: FailureCase) -> None:
        """Replace what may change of a stored case (everything but its id and its creation).

        Raises:
            UnknownCaseError: if no case has its id.
            StoreError: if it cannot be written; the case is as it was then.
        """
        self.check_stamp(case.stamp)
        with self._lock, self.transaction() as connection:
            _update(connection, case)

    def record_use(self, ids: Iterable[int], success: bool) -> None:
        """Count one use of each case, and one success if it was one; unknown ids are ignored."""
        with self._lock, self.transaction() as connection:
            connection.executemany(
                "UPDATE cases SET uses = uses + 1, successes = successes + ? WHERE case_id = ?",
                [(int(success), case_id) for case_id in ids],
            )

    def settings(self) -> dict[str, str]:
        """What is kept beside the cases, by name."""
        with self._translated("read"):
            return {str(name): str(value) for name, value in self._reader().execute("SELECT name, value FROM settings")}

    def write_settings(self, values: Mapping[str, str]) -> None:
        """Replace settings by name."""
        with self._lock, self.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", list(values.items()))

    def add_situations(self, situations: Sequence[tuple[str, str, Array]], keep: int) -> None:
        """Remember embeddings (task, phase, (D,) float32) in which nothing failed; the newest ``keep`` stay."""
        with self._lock, self.transaction() as connection:
            connection.executemany(
                "INSERT INTO situations (task, phase, embedding) VALUES (?, ?, ?)",
                [(task, phase, vector.astype("<f4").tobytes()) for task, phase, vector in situations],
            )
            connection.execute(
                "DELETE FROM situations WHERE situation_id NOT IN "
                "(SELECT situation_id FROM situations ORDER BY situation_id DESC LIMIT ?)",
                (keep,),
            )

    def situations(self, dimension: int) -> list[tuple[str, str, Array]]:
        """Situations of a dimension in which nothing failed, oldest first."""
        with self._translated("read"):
            rows = self._reader().execute("SELECT task, phase, embedding FROM situations ORDER BY situation_id")
            return [
                (task, phase, np.frombuffer(blob, dtype="<f4"))
                for task, phase, blob in rows
                if len(blob) == 4 * dimension
            ]

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

    def _check_stamps(self, cases: Sequence[FailureCase]) -> None:
        for case in cases:
            self.check_stamp(case.stamp)
            if case.stamp != cases[0].stamp:
                raise EncoderMismatchError(f"cases of {cases[0].stamp} and {case.stamp} cannot be stored together")

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

    def _verify(self) -> None:
        answer = str(self._writer.execute("PRAGMA quick_check(1)").fetchone()[0])
        if answer != "ok":
            raise CorruptStoreError(self._corrupt(answer.replace("\n", " ")))
        for row in self._writer.execute(f"SELECT {COLUMNS} FROM cases"):
            check_row(row)
        suspicion(self.path).unlink(missing_ok=True)

    def _read_stamp(self) -> EncoderStamp | None:
        values = self.settings()
        with self._translated("read"):
            some = self._reader().execute("SELECT 1 FROM cases LIMIT 1").fetchone()
        if some is None or "encoder" not in values:
            return None
        return EncoderStamp(values["encoder"], values["encoder_revision"], int(values["dimension"]))

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


def _update(connection: sqlite3.Connection, case: FailureCase) -> None:
    known = connection.execute("SELECT created_ns FROM cases WHERE case_id = ?", (case.case_id,)).fetchone()
    if known is None:
        raise UnknownCaseError(case.case_id)
    update_case(connection, case, int(known[0]))


def _write_stamp(connection: sqlite3.Connection, stamp: EncoderStamp) -> None:
    values = {"encoder": stamp.encoder, "encoder_revision": stamp.revision, "dimension": str(stamp.dimension)}
    connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", list(values.items()))
    # A threshold calibrated for another encoder's similarities means nothing for this one's.
    connection.execute("DELETE FROM settings WHERE name LIKE 'calibration.%'")


def _summaries(rows: Sequence[sqlite3.Row]) -> tuple[list[CaseSummary], Array]:
    batch = [
        CaseSummary(
            row[0], GroupKey(row[1], row[2], FailureType(row[3])), bool(row[4]), row[5], row[6], bool(row[7]), row[8]
        )
        for row in rows
    ]
    return batch, np.frombuffer(b"".join(row[9] for row in rows), dtype="<f4").reshape(len(rows), -1)
