# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failure cases to database rows and back."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from sys import intern
from typing import Any

import numpy as np

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import Array, CaseError, FailureCase, OriginCredit, Revision

COLUMNS = (
    "case_id, created_ns, failure_type, task, phase, encoder, encoder_revision, embedding, proprioception, "
    "failed_actions, correction, correction_source, note, uses, successes, retired, retired_reason, origin, checksum, "
    "calibration_id, misreading"
)
"""Of the table of cases, in the order of ``_values``."""

IDS_AT_ONCE = 500
"""SQLite takes at least 999 values in one statement."""

GREATEST_ID = 2**63 - 1
"""SQLite's integers have a sign."""


class RowError(ValueError):
    """A row that is not what was written."""


def insert_case(connection: sqlite3.Connection, case: FailureCase, created_ns: int, case_id: int | None = None) -> int:
    """Insert a case with all that hangs on it; give its id (a new one for None)."""
    names = f"case_id, {COLUMNS.partition(', ')[2]}"
    values = (case_id, *_values(case, created_ns))
    cursor = connection.execute(f"INSERT INTO cases ({names}) VALUES ({', '.join('?' * len(values))})", values)
    new_id = int(cursor.lastrowid or 0)
    _insert_details(connection, case, new_id)
    return new_id


def update_case(connection: sqlite3.Connection, case: FailureCase, created_ns: int) -> None:
    """Replace a case in place, so that the log of its uses and its images stay."""
    names = COLUMNS.split(", ")[1:]
    connection.execute(
        f"UPDATE cases SET {', '.join(f'{name} = ?' for name in names)} WHERE case_id = ?",
        (*_values(case, created_ns), case.case_id),
    )
    for table in ("evidence", "credits", "revisions"):
        connection.execute(f"DELETE FROM {table} WHERE case_id = ?", (case.case_id,))
    _insert_details(connection, case, case.case_id)


def load_cases(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, FailureCase]:
    """Cases by id, in the order asked for; ids that are not there are left out.

    Raises:
        RowError: if a row is not what was written.
    """
    found: dict[int, FailureCase] = {}
    # sqlite3 raises at a number that no row can have; messages have room for twice as many.
    possible = [case_id for case_id in ids if case_id <= GREATEST_ID]
    for start in range(0, len(possible), IDS_AT_ONCE):
        some = possible[start : start + IDS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        evidence: dict[int, list[Evidence]] = {}
        for row in connection.execute(
            f"SELECT case_id, name, value, threshold, unit FROM evidence WHERE case_id IN ({marks}) "
            "ORDER BY case_id, position",
            some,
        ):
            evidence.setdefault(row[0], []).append(Evidence(intern(row[1]), row[2], row[3], intern(row[4])))
        credits: dict[int, list[OriginCredit]] = {}
        for row in connection.execute(
            f"SELECT case_id, origin, uses, successes FROM credits WHERE case_id IN ({marks}) ORDER BY case_id, origin",
            some,
        ):
            credits.setdefault(row[0], []).append(OriginCredit(row[1], row[2], row[3]))
        history: dict[int, list[Revision]] = {}
        for row in connection.execute(
            f"SELECT case_id, stamp_ns, change, origin, detail, after_use FROM revisions WHERE case_id IN ({marks}) "
            "ORDER BY case_id, revision",
            some,
        ):
            history.setdefault(row[0], []).append(Revision(row[1], row[2], row[3], row[4], row[5]))
        for row in connection.execute(f"SELECT {COLUMNS} FROM cases WHERE case_id IN ({marks})", some):
            number = row["case_id"]
            found[number] = case_of(row, evidence.get(number, ()), credits.get(number, ()), history.get(number, ()))
    return {case_id: found[case_id] for case_id in ids if case_id in found}


def case_of(
    row: sqlite3.Row,
    evidence: Sequence[Evidence] = (),
    credits: Sequence[OriginCredit] = (),
    history: Sequence[Revision] = (),
) -> FailureCase:
    """The case of a row of ``COLUMNS``. Names that thousands of cases share are held once.

    Raises:
        RowError: if the row is not what was written.
    """
    check_row(row)
    try:
        return FailureCase(
            failure_type=FailureType(row["failure_type"]),
            task=intern(row["task"]),
            phase=intern(row["phase"]),
            encoder=intern(row["encoder"]),
            encoder_revision=intern(row["encoder_revision"]),
            embedding=_array(row["embedding"]),
            failed_actions=_array(row["failed_actions"]).reshape(-1, ACTION_DIM),
            correction=None if row["correction"] is None else _array(row["correction"]).reshape(-1, ACTION_DIM),
            correction_source=intern(row["correction_source"]),
            proprioception=_array(row["proprioception"]),
            evidence=tuple(evidence),
            note=row["note"],
            uses=row["uses"],
            successes=row["successes"],
            retired=bool(row["retired"]),
            retired_reason=row["retired_reason"],
            origin=intern(row["origin"]),
            created_ns=row["created_ns"],
            case_id=row["case_id"],
            calibration_id=intern(row["calibration_id"]),
            credits=tuple(credits),
            history=tuple(history),
            misreading=None if row["misreading"] is None else _array(row["misreading"]),
        )
    except (CaseError, ValueError, TypeError) as error:
        raise RowError(f"case {row['case_id']}: {error}") from error


def check_row(row: sqlite3.Row) -> None:
    """Compare the arrays of a row with their checksum.

    Raises:
        RowError: if they differ.
    """
    blobs = (row["embedding"], row["proprioception"], row["failed_actions"], row["correction"], row["misreading"])
    if not all(isinstance(blob, bytes) for blob in blobs[:3]) or _checksum(blobs) != row["checksum"]:
        raise RowError(f"case {row['case_id']} does not match its checksum")


def _values(case: FailureCase, created_ns: int) -> tuple[Any, ...]:
    """What ``COLUMNS`` name, but for the id."""
    correction = None if case.correction is None else _blob(case.correction)
    blobs = (_blob(case.embedding), _blob(case.proprioception), _blob(case.failed_actions), correction)
    misreading = None if case.misreading is None else _blob(case.misreading)
    return (
        created_ns,
        int(case.failure_type),
        case.task,
        case.phase,
        case.encoder,
        case.encoder_revision,
        *blobs,
        case.correction_source,
        case.note,
        case.uses,
        case.successes,
        int(case.retired),
        case.retired_reason,
        case.origin,
        _checksum((*blobs, misreading)),
        case.calibration_id,
        misreading,
    )


def _insert_details(connection: sqlite3.Connection, case: FailureCase, case_id: int) -> None:
    connection.executemany(
        "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
        [
            (case_id, position, item.name, item.value, item.threshold, item.unit)
            for position, item in enumerate(case.evidence)
        ],
    )
    connection.executemany(
        "INSERT INTO credits VALUES (?, ?, ?, ?)",
        [(case_id, item.origin, item.uses, item.successes) for item in case.credits],
    )
    connection.executemany(
        "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (case_id, number, item.stamp_ns, item.change, item.origin, item.detail, item.after_use)
            for number, item in enumerate(case.history, start=1)
        ],
    )


def _checksum(blobs: Sequence[Any]) -> int:
    total = 0
    for blob in blobs:
        total = zlib.crc32(blob or b"", total)
    return total


def _blob(values: Array) -> bytes:
    return values.astype("<f4").tobytes()


def _array(blob: bytes) -> Array:
    # Not copied here: a case copies what it is given.
    return np.frombuffer(blob, dtype="<f4")
