"""Failure cases to database rows and back."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import Array, CaseError, FailureCase

COLUMNS = (
    "case_id, created_ns, failure_type, task, phase, encoder, encoder_revision, embedding, proprioception, "
    "failed_actions, correction, correction_source, note, uses, successes, retired, retired_reason, origin, checksum"
)

IDS_AT_ONCE = 500
"""SQLite takes at least 999 values in one statement."""


class RowError(ValueError):
    """A row that is not what was written."""


def insert_case(connection: sqlite3.Connection, case: FailureCase, created_ns: int, case_id: int | None = None) -> int:
    """Insert a case and its evidence; give its id (a new one for None)."""
    correction = None if case.correction is None else _blob(case.correction)
    blobs = (_blob(case.embedding), _blob(case.proprioception), _blob(case.failed_actions), correction)
    cursor = connection.execute(
        f"INSERT INTO cases ({COLUMNS}) VALUES ({', '.join('?' * 19)})",
        (
            case_id,
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
            _checksum(blobs),
        ),
    )
    new_id = int(cursor.lastrowid or 0)
    connection.executemany(
        "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
        [
            (new_id, position, item.name, item.value, item.threshold, item.unit)
            for position, item in enumerate(case.evidence)
        ],
    )
    return new_id


def load_cases(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, FailureCase]:
    """Cases by id, in the order asked for; ids that are not there are left out.

    Raises:
        RowError: if a row is not what was written.
    """
    found: dict[int, FailureCase] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = ids[start : start + IDS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        evidence: dict[int, list[Evidence]] = {}
        for row in connection.execute(
            f"SELECT case_id, name, value, threshold, unit FROM evidence WHERE case_id IN ({marks}) "
            "ORDER BY case_id, position",
            some,
        ):
            evidence.setdefault(row[0], []).append(Evidence(row[1], row[2], row[3], row[4]))
        for row in connection.execute(f"SELECT {COLUMNS} FROM cases WHERE case_id IN ({marks})", some):
            found[row["case_id"]] = case_of(row, evidence.get(row["case_id"], ()))
    return {case_id: found[case_id] for case_id in ids if case_id in found}


def case_of(row: sqlite3.Row, evidence: Sequence[Evidence] = ()) -> FailureCase:
    """The case of a row of ``COLUMNS``.

    Raises:
        RowError: if the row is not what was written.
    """
    check_row(row)
    try:
        return FailureCase(
            failure_type=FailureType(row["failure_type"]),
            task=row["task"],
            phase=row["phase"],
            encoder=row["encoder"],
            encoder_revision=row["encoder_revision"],
            embedding=_array(row["embedding"]),
            failed_actions=_array(row["failed_actions"]).reshape(-1, ACTION_DIM),
            correction=None if row["correction"] is None else _array(row["correction"]).reshape(-1, ACTION_DIM),
            correction_source=row["correction_source"],
            proprioception=_array(row["proprioception"]),
            evidence=tuple(evidence),
            note=row["note"],
            uses=row["uses"],
            successes=row["successes"],
            retired=bool(row["retired"]),
            retired_reason=row["retired_reason"],
            origin=row["origin"],
            created_ns=row["created_ns"],
            case_id=row["case_id"],
        )
    except (CaseError, ValueError, TypeError) as error:
        raise RowError(f"case {row['case_id']}: {error}") from error


def check_row(row: sqlite3.Row) -> None:
    """Compare the arrays of a row with their checksum.

    Raises:
        RowError: if they differ.
    """
    blobs = (row["embedding"], row["proprioception"], row["failed_actions"], row["correction"])
    if not all(isinstance(blob, bytes) for blob in blobs[:3]) or _checksum(blobs) != row["checksum"]:
        raise RowError(f"case {row['case_id']} does not match its checksum")


def _checksum(blobs: Sequence[Any]) -> int:
    total = 0
    for blob in blobs:
        total = zlib.crc32(blob or b"", total)
    return total


def _blob(values: Array) -> bytes:
    return values.astype("<f4").tobytes()


def _array(blob: bytes) -> Array:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)
