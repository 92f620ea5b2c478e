# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Saves what is intact of a damaged failure database; the damaged file is kept."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.rows import COLUMNS, RowError, case_of, load_cases
from flow_rag_vla.memory.schema import MIGRATIONS
from flow_rag_vla.memory.store import BATCH, CorruptStoreError, FailureStore, StoreError

MOST_IDS_TRIED = 2_000_000
"""Single look-ups after which a damaged file is given up: its counter may be damaged too."""


BESIDE = {
    "images": "case_id, name, format, data, checksum",
    "uses": "use_id, case_id, episode_id, origin, stamp_ns, mode, strength, chunks, result, share",
    "shares": "case_id, result, share",
    "baselines": "task, phase, episodes, successes",
    "successes": "success_id, task, phase, encoder, encoder_revision, embedding, actions, episode_id, origin",
    "reservoirs": "task, phase, seen",
    "situations": "situation_id, task, phase, embedding",
}
"""Tables beside the cases, and their columns: what can be read of them is worth having, what cannot is no case lost."""


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What became of a damaged database."""

    path: Path
    kept: Path
    recovered: int
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.path} was damaged ({self.reason}): {self.recovered} intact cases are in a fresh file of that name, "
            f"the damaged one is {self.kept}; import missing cases from an export or a copy"
        )


def open_or_salvage(path: str | Path) -> tuple[FailureStore, SalvageReport | None]:
    """Open a database; if it is damaged, save what is intact and open that.

    Raises:
        StoreError: if it cannot be opened for another reason, or the disk has no room for the fresh file.
    """
    try:
        return FailureStore(path), None
    except CorruptStoreError as error:
        report = salvage(path, str(error))
    return FailureStore(path), report


def salvage(path: str | Path, reason: str = "salvage was asked for") -> SalvageReport:
    """Copy every intact case into a fresh database that takes the place of the damaged one.

    The damaged file stays beside it under a new name, byte for byte. At no moment is there no file at all.

    Raises:
        StoreError: if the file is missing or the fresh one cannot be written; the damaged one is as it was then.
    """
    target = Path(path).expanduser()
    if not target.is_file():
        raise StoreError(f"{target}: there is no such database; check the path")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            # Reading may roll the log in, which would change the evidence: read a copy.
            copy = Path(folder) / "damaged.db"
            for suffix in ("", "-wal"):
                if _beside(target, suffix).is_file():
                    shutil.copyfile(_beside(target, suffix), _beside(copy, suffix))
            fresh = Path(folder) / "fresh.db"
            recovered = _rescue(copy, fresh)
            kept = _free_name(target)
            os.link(target, kept)
            for suffix in ("-wal", "-shm"):
                if _beside(target, suffix).is_file():
                    _beside(target, suffix).replace(_beside(kept, suffix))
            fresh.replace(target)
    except OSError as error:
        raise StoreError(f"{target}: what is intact could not be saved ({error}); free space and try again") from error
    return SalvageReport(target, kept, recovered, reason)


def _rescue(copy: Path, fresh: Path) -> int:
    recovered = 0
    with closing(FailureStore(fresh)) as store:
        stamp = None
        batch: list[FailureCase] = []
        for case in _intact(copy):
            stamp = stamp or case.stamp
            if case.stamp == stamp:
                batch.append(case)
                recovered += 1
            if len(batch) == BATCH:
                store.restore(batch)
                batch.clear()
        store.restore(batch)
        _rescue_beside(copy, store)
        store.checkpoint()
    return recovered


def _rescue_beside(copy: Path, store: FailureStore) -> None:
    with closing(sqlite3.connect(str(copy), isolation_level=None)) as connection:
        for table, columns in BESIDE.items():
            rows: list[tuple[object, ...]] = []
            with suppress(sqlite3.Error):
                for row in connection.execute(f"SELECT {columns} FROM {table}"):
                    rows.append(tuple(row))
            marks = ", ".join("?" * len(columns.split(", ")))
            for start in range(0, len(rows), BATCH):
                with suppress(StoreError), store.transaction() as fresh:
                    present = (
                        {int(row[0]) for row in fresh.execute("SELECT case_id FROM cases")}
                        if "case_id" in columns
                        else set()
                    )
                    place = columns.split(", ").index("case_id") if "case_id" in columns else None
                    fresh.executemany(
                        f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",
                        [row for row in rows[start : start + BATCH] if place is None or row[place] in present],
                    )


def _intact(path: Path) -> Iterator[FailureCase]:
    with closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        _bring_up_to_date(connection)
        for case_id in _ids(connection):
            try:
                yield load_cases(connection, [case_id])[case_id]
            except (sqlite3.Error, RowError, KeyError):
                # The evidence may be lost where the case is not.
                with suppress(sqlite3.Error, RowError):
                    row = connection.execute(f"SELECT {COLUMNS} FROM cases WHERE case_id = ?", (case_id,)).fetchone()
                    if row is not None:
                        yield case_of(row)


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Add the tables and columns that a copy of an earlier version lacks, as far as its damage allows."""
    version = len(MIGRATIONS)
    with suppress(sqlite3.Error):
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            with suppress(sqlite3.Error):
                connection.execute(statement)


def _ids(connection: sqlite3.Connection) -> Iterator[int]:
    """Ids as far as the table can be read, then every other number up to the table's counter; each once.

    A page that was overwritten with another's content says that page's ids again, and not in their order.
    """
    found: set[int] = set()
    with suppress(sqlite3.Error):
        for row in connection.execute("SELECT case_id FROM cases NOT INDEXED ORDER BY case_id"):
            case_id = int(row[0])
            if case_id not in found:
                found.add(case_id)
                yield case_id
        return
    last = 0
    with suppress(sqlite3.Error):
        last = int(connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'cases'").fetchone()[0])
    yield from (case_id for case_id in range(1, min(last, len(found) + MOST_IDS_TRIED) + 1) if case_id not in found)


def _free_name(path: Path) -> Path:
    stem = f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"
    candidates = (path.with_name(stem if number == 0 else f"{stem}-{number}") for number in range(1_000))
    return next(name for name in candidates if not name.exists())


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
