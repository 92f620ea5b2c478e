# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Databases and exports of earlier versions are brought up to date with everything in them."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.memory.exchange import import_cases
from flow_rag_vla.memory.salvage import salvage
from flow_rag_vla.memory.schema import APPLICATION_ID, MIGRATIONS
from flow_rag_vla.memory.store import CaseFilter, FailureStore, StoreError

FIRST_COLUMNS = (
    "case_id, created_ns, failure_type, task, phase, encoder, encoder_revision, embedding, proprioception, "
    "failed_actions, correction, correction_source, note, uses, successes, retired, retired_reason, origin, checksum"
)


def old_database(path: Path, version: int, cases) -> None:
    """A file as an earlier version wrote it."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        stamp = cases[0].stamp
        for name, value in (
            ("encoder", stamp.encoder), ("encoder_revision", stamp.revision), ("dimension", str(stamp.dimension))
        ):  # fmt: skip
            connection.execute("INSERT INTO settings VALUES (?, ?)", (name, value))
        for case in cases:
            blobs = [
                None if item is None else item.astype("<f4").tobytes()
                for item in (case.embedding, case.proprioception, case.failed_actions, case.correction)
            ]
            checksum = 0
            for blob in blobs:
                checksum = zlib.crc32(blob or b"", checksum)
            connection.execute(
                f"INSERT INTO cases ({FIRST_COLUMNS}) VALUES ({', '.join('?' * 19)})",
                (None, case.created_ns, int(case.failure_type), case.task, case.phase, case.encoder,
                 case.encoder_revision, *blobs, case.correction_source, case.note, case.uses, case.successes,
                 int(case.retired), case.retired_reason, case.origin, checksum),
            )  # fmt: skip
            for place, item in enumerate(case.evidence):
                connection.execute(
                    "INSERT INTO evidence VALUES (last_insert_rowid(), ?, ?, ?, ?, ?)"
                    if place == 0
                    else "INSERT INTO evidence VALUES ((SELECT max(case_id) FROM cases), ?, ?, ?, ?, ?)",
                    (place, item.name, item.value, item.threshold, item.unit),
                )
    connection.close()


@pytest.fixture
def old_cases(make):
    return [
        make.case(1, origin="left", uses=3, successes=2, note="näh"),
        make.case(2, correction=make.motion(0.004), correction_source="expert", proprioception=np.arange(5.0)),
        make.case(3, retired=True, retired_reason="it hurt"),
    ]


@pytest.mark.parametrize("version", [1, 2, 3, 5])
def test_an_earlier_database_is_opened_with_every_case_and_its_credit(database, make, open_memory, old_cases, version):
    old_database(database, version, old_cases)
    memory = open_memory()
    found = memory.page(CaseFilter(include_retired=True))[1][::-1]
    assert [case.uid for case in found] == [case.uid for case in old_cases]
    for new, old in zip(found, old_cases, strict=True):
        assert (new.evidence, new.uses, new.successes, new.retired, new.note) == (
            old.evidence, old.uses, old.successes, old.retired, old.note
        )  # fmt: skip
        assert (new.calibration_id, new.credits, new.history, new.misreading) == ("", (), (), None)
    assert [(item.origin, item.uses) for item in found[0].shares] == [("left", 3)]
    memory.record_use([1], True)
    assert memory.get(1).uses == 4 and memory.ledger.uses(1)[0].chunks == 1
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)


def test_two_programs_may_open_an_earlier_database_at_the_same_moment(database, old_cases):
    old_database(database, 2, old_cases)
    problems, start = [], threading.Barrier(4)

    def open_it() -> None:
        start.wait()
        try:
            FailureStore(database).close()
        except StoreError as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_damaged_earlier_database_is_salvaged(database, old_cases):
    old_database(database, 2, old_cases)
    report = salvage(database)
    assert report.recovered == 3
    assert "3 intact cases" in str(report)
    store = FailureStore(database)
    assert store.page(CaseFilter(include_retired=True), 0, 9)[0] == 3
    store.close()


def test_what_a_newer_program_wrote_is_refused_and_left_alone(database, old_cases):
    old_database(database, 2, old_cases)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = database.read_bytes()
    with pytest.raises(StoreError, match="schema 99, this program knows up to"):
        FailureStore(database)
    assert database.read_bytes() == before


def test_an_export_of_the_first_format_is_still_read(open_memory, make, tmp_path):
    from flow_rag_vla.memory.exchange import export_cases

    source, target = open_memory(), open_memory(tmp_path / "other.db")
    source.add(make.case(1, origin="left", uses=2, successes=1))
    export_cases(source, tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as data:
        arrays = {
            name: data[name]
            for name in data.files
            if name != "calibration_id" and not name.startswith(("credit_", "history_", "image_"))
        }
    arrays["format"] = np.array("flow_rag_vla/failure_cases/1")
    np.savez(tmp_path / "old.npz", **arrays)
    assert import_cases(target, tmp_path / "old.npz").imported == 1
    assert [(item.origin, item.uses, item.successes) for item in target.get(1).shares] == [("left", 2, 1)]


def test_an_export_from_before_misreadings_is_still_read(open_memory, make, tmp_path):
    from flow_rag_vla.memory.exchange import export_cases

    source, target = open_memory(), open_memory(tmp_path / "other.db")
    source.add(make.case(1, misreading=np.array([0.01, 0.0, 0.0])))
    export_cases(source, tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as data:
        arrays = {name: data[name] for name in data.files if not name.endswith("misreading")}
    arrays["format"] = np.array("flow_rag_vla/failure_cases/2")
    np.savez(tmp_path / "old.npz", **arrays)
    assert import_cases(target, tmp_path / "old.npz").imported == 1
    assert target.get(1).misreading is None
    # The same case from a newer file brings what was lacking.
    assert import_cases(target, tmp_path / "new.npz").united == 1
    np.testing.assert_array_equal(target.get(1).misreading, np.array([0.01, 0.0, 0.0], dtype=np.float32))


def test_salvage_keeps_what_is_beside_the_cases(database, make, open_memory):
    from flow_rag_vla.memory.images import encoded
    from flow_rag_vla.memory.ledger import SuccessSituation

    memory = open_memory(origin="left")
    picture = encoded("front", np.zeros((8, 8, 3), np.uint8))
    case = make.case(1)
    memory.add(case, (picture,))
    memory.record_use([1], True)
    memory.ledger.record_baseline("push", ["reach"], True)
    memory.observe_done([SuccessSituation("push", "reach", case.stamp, make.unit(9), make.motion(0.01))])
    memory.retire(1, True, "it hurt")
    memory.close()
    assert salvage(database).recovered == 1
    after = open_memory()
    found = after.get(1)
    assert (found.uses, found.history[-1].detail, found.shares[0].origin) == (1, "it hurt", "left")
    assert after.ledger.images(1) == (picture,) and len(after.ledger.uses(1)) == 1
    assert after.ledger.baseline("push").episodes == 1 and after.ledger.success_count() == 1
