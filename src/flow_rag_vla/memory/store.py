# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure cases on disk: one SQLite file, the truth that every index and cache is rebuilt from.

Write-ahead log with ``synchronous=FULL``: a call that writes returns after the data is on disk, or raises and nothing
was stored. One thread writes at a time (a lock holds it); any number of threads read, each on its own connection,
and never wait for the writer.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import Array, EncoderStamp, FailureCase, GroupKey
from flow_rag_vla.memory.database import CorruptStoreError, Database, StoreError, StoreUnavailableError
from flow_rag_vla.memory.images import CaseImage, put_images
from flow_rag_vla.memory.inspection import is_checked_at_opening, suspicion
from flow_rag_vla.memory.rows import COLUMNS, check_row, insert_case, load_cases, update_case

__all__ = [
    "CaseFilter",
    "CaseSummary",
    "Change",
    "CorruptStoreError",
    "EncoderMismatchError",
    "FailureStore",
    "StoreError",
    "StoreUnavailableError",
    "UnknownCaseError",
]

BATCH = 512
"""Rows read at once: a million cases must not be in memory twice."""

SUMMARY_COLUMNS = (
    "case_id, task, phase, failure_type, correction IS NOT NULL, uses, successes, retired, created_ns, embedding"
)


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


class FailureStore(Database):
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
        super().__init__(path, create=create)
        self._stamp: EncoderStamp | None = None
        try:
            with self._translated("opened"):
                self.unverified = verify and not is_checked_at_opening(self.path)
                if verify and not self.unverified:
                    self._verify()
            self._stamp = self._read_stamp()
        except BaseException:
            self.close()
            raise

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

        Everything is durable on return.

        Args:
            cases: new ones.
            remove: ids; those that are not there are ignored.
            change: stored cases as they are to be, found by their ids; id and moment of creation stay.
            images: pictures of new cases, by place in ``cases``.

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

    def _check_stamps(self, cases: Sequence[FailureCase]) -> None:
        for case in cases:
            self.check_stamp(case.stamp)
            if case.stamp != cases[0].stamp:
                raise EncoderMismatchError(f"cases of {cases[0].stamp} and {case.stamp} cannot be stored together")

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
