# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A large database is used at once and inspected meanwhile; what is found is told and mended at the next opening."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from flow_rag_vla.memory import inspection
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.inspection import suspicion
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import FailureStore


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(inspection, "CHECKED_AT_OPENING", 0)


@pytest.fixture
def damaged(make, database):
    """A database of 40 cases, one of which has a flipped bit."""
    with closing(FailureStore(database)) as store:
        store.add([make.case(seed) for seed in range(40)])
        store.checkpoint()
    with closing(sqlite3.connect(database)) as connection:
        blob = bytearray(connection.execute("SELECT embedding FROM cases WHERE case_id = 7").fetchone()[0])
        blob[5] ^= 1
        connection.execute("UPDATE cases SET embedding = ? WHERE case_id = 7", (bytes(blob),))
        connection.commit()
    return database


def test_damage_is_told_while_the_memory_works_and_saved_at_the_next_start(make, damaged):
    memory, report = FailureMemory.open(damaged, None, NumpyIndex)
    assert report is None
    memory._inspection.wait()
    assert "case 7 does not match its checksum" in memory.statistics().damage
    assert len(memory.search(make.unit(3), k=1, threshold=0.99).cases) == 1
    memory.close()
    assert suspicion(damaged).is_file()
    memory, report = FailureMemory.open(damaged, None, NumpyIndex)
    assert report is not None
    assert report.recovered == 39
    assert not suspicion(damaged).exists()
    memory.close()


def test_a_sound_database_is_inspected_without_a_word(make, database):
    with closing(FailureStore(database)) as store:
        store.add([make.case(seed) for seed in range(40)])
    memory, _ = FailureMemory.open(database, None, NumpyIndex)
    memory._inspection.wait()
    assert memory.statistics().damage == ""
    memory.close()
    assert not suspicion(database).exists()


def test_closing_does_not_wait_for_the_inspection(make, database, monkeypatch):
    with closing(FailureStore(database)) as store:
        store.add([make.case(seed) for seed in range(40)])
    look = inspection.Inspection._look
    ended = []

    def endless(self, connection):
        assert self._stop.wait(60)
        ended.append(look(self, connection))
        return ended[0]

    monkeypatch.setattr(inspection.Inspection, "_look", endless)
    memory, _ = FailureMemory.open(database, None, NumpyIndex)
    memory.close()
    assert ended == [""]
