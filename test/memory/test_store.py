# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is on disk stays, is what was written, and is never mixed."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory import database as database_module
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.schema import APPLICATION_ID, MIGRATIONS
from flow_rag_vla.memory.store import (
    CaseFilter,
    CorruptStoreError,
    EncoderMismatchError,
    FailureStore,
    StoreError,
    UnknownCaseError,
)


def assert_same(first: FailureCase, second: FailureCase) -> None:
    for field in dataclasses.fields(FailureCase):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    seed=st.integers(0, 1000),
    horizon=st.integers(1, 12),
    corrected=st.booleans(),
    text=TEXT,
    felt=st.integers(0, 9),
    evidence=st.lists(
        st.builds(
            Evidence,
            TEXT,
            st.floats(allow_nan=False, allow_infinity=False),
            st.floats(allow_nan=False, allow_infinity=False),
            TEXT,
        ),
        max_size=3,
    ),
    uses=st.integers(0, 100),
    kind=st.sampled_from(FailureType),
    retired=st.booleans(),
)
def test_every_field_comes_back_as_it_was_written(
    make, tmp_path_factory, seed, horizon, corrected, text, felt, evidence, uses, kind, retired
):
    generator = np.random.default_rng(seed)
    case = make.case(
        seed,
        failure_type=kind,
        note=text,
        task=text,
        origin=text,
        evidence=tuple(evidence),
        uses=uses,
        successes=uses // 2,
        retired=retired,
        retired_reason=text,
        failed_actions=generator.normal(size=(horizon, 7)),
        correction=generator.normal(size=(horizon, 7)) if corrected else None,
        correction_source="expert" if corrected else "",
        proprioception=generator.normal(size=felt),
    )
    with closing(FailureStore(tmp_path_factory.mktemp("store") / "m.db", verify=False)) as store:
        case_id = store.add([case])[0]
        assert_same(store.get([case_id])[case_id], dataclasses.replace(case, case_id=case_id))


def test_a_reopened_store_has_the_cases_the_encoder_and_the_settings(make, database):
    with closing(FailureStore(database)) as store:
        assert store.stamp is None
        ids = store.add([make.case(seed) for seed in range(700)])
        store.write_settings({"colour": "red"})
    with closing(FailureStore(database, create=False)) as store:
        assert store.stamp == make.case().stamp
        assert store.settings()["colour"] == "red"
        batches = list(store.summaries())
        assert [item.case_id for batch, _ in batches for item in batch] == ids
        vectors = np.concatenate([rows for _, rows in batches])
        np.testing.assert_array_equal(vectors[650], make.unit(650))
        assert list(store.get([ids[5], 10_000, ids[2]])) == [ids[5], ids[2]]


def test_a_page_is_newest_first_and_filtered(make, database):
    with closing(FailureStore(database)) as store:
        ids = store.add(
            [
                make.case(1),
                make.case(2, task="stack"),
                make.case(3, phase="grasp"),
                make.case(4, failure_type=FailureType.DROP),
                make.case(5, retired=True),
            ]
        )

        def listed(offset: int = 0, limit: int = 10, **fields: object) -> tuple[int, list[int]]:
            total, cases = store.page(CaseFilter(**fields), offset, limit)  # type: ignore[arg-type]
            return total, [ids.index(case.case_id) for case in cases]

        assert listed() == (4, [3, 2, 1, 0])
        assert listed(1, 2) == (4, [2, 1])
        assert listed(include_retired=True) == (5, [4, 3, 2, 1, 0])
        assert listed(task="stack") == (1, [1])
        assert listed(phase="grasp") == (1, [2])
        assert listed(failure_types=(FailureType.DROP, FailureType.TIMEOUT)) == (1, [3])


def test_embeddings_of_another_encoder_are_refused(make, database):
    with closing(FailureStore(database)) as store:
        store.add([make.case(1)])
        for other in (
            make.case(2, encoder="dinov2"),
            make.case(2, encoder_revision="def"),
            make.case(2, embedding=make.unit(2, 8)),
        ):
            with pytest.raises(EncoderMismatchError, match="database of its own"):
                store.add([other])
            with pytest.raises(EncoderMismatchError):
                store.restore([other])
        assert store.page(CaseFilter(), 0, 10)[0] == 1
    with closing(FailureStore(database.with_name("empty.db"))) as store:
        with pytest.raises(EncoderMismatchError, match="stored together"):
            store.add([make.case(1), make.case(2, encoder="dinov2")])
        assert store.stamp is None


def test_a_store_emptied_of_its_cases_takes_another_encoder(make, database):
    with closing(FailureStore(database)) as store:
        ids = store.add([make.case(1)])
        store.write_settings({"calibration.threshold": "0.5"})
        store.add([], remove=ids)
        store.reload_stamp()
        assert store.stamp is None
        store.add([make.case(2, encoder="dinov2")])
        assert "calibration.threshold" not in store.settings()


def test_an_interrupted_change_leaves_nothing(make, database):
    with closing(FailureStore(database)) as store:
        with pytest.raises(RuntimeError, match="interrupted"), store.transaction() as connection:
            connection.execute("INSERT INTO settings VALUES ('half', 'done')")
            raise RuntimeError("interrupted")
        assert "half" not in store.settings()


def test_changing_a_case_that_is_not_there_says_so(make, database):
    with closing(FailureStore(database)) as store:
        with pytest.raises(UnknownCaseError, match="no failure case has id 7"):
            store.add([make.case(2)], change=[make.case(1, case_id=7)])
        assert store.page(CaseFilter(), 0, 9)[0] == 0, "nothing of it was stored"


def test_a_case_keeps_its_id_and_creation_when_it_changes(make, database):
    with closing(FailureStore(database)) as store:
        case_id = store.add([make.case(1)])[0]
        before = store.get([case_id])[case_id]
        store.add([], change=[dataclasses.replace(before, note="seen twice", created_ns=5)])
        after = store.get([case_id])[case_id]
        assert_same(after, dataclasses.replace(before, note="seen twice"))


def test_another_connection_that_writes_is_noticed(make, database):
    with closing(FailureStore(database)) as store, closing(FailureStore(database)) as other:
        before = store.data_version()
        store.add([make.case(1)])
        assert store.data_version() == before
        other.add([make.case(2)])
        assert store.data_version() != before


def test_a_lock_that_another_program_holds_is_named(make, database, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.01)
    with closing(FailureStore(database)) as store, closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program holds it"):
            store.add([make.case(1)])
        other.execute("ROLLBACK")
        assert store.add([make.case(1)]) == [1]


def test_only_the_newest_situations_of_the_right_size_are_kept(make, database):
    with closing(FailureStore(database)) as store:
        store.add_situations([("push", "reach", make.unit(seed)) for seed in range(5)], keep=3)
        store.add_situations([("push", "reach", make.unit(9, 8))], keep=3)
        kept = store.situations(16)
        assert [task for task, _, _ in kept] == ["push", "push"]
        np.testing.assert_array_equal(kept[-1][2], make.unit(4))


def old_database(path: Path, version: int, application: int = APPLICATION_ID) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {application}")
        connection.commit()


def test_an_older_schema_is_brought_up_to_date(make, database):
    old_database(database, 1)
    with closing(FailureStore(database)) as store:
        store.add_situations([("push", "reach", make.unit(1))], keep=5)
        assert store.add([make.case(1)]) == [1]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def newer(path: Path) -> None:
    old_database(path, len(MIGRATIONS))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def foreign(path: Path) -> None:
    old_database(path, len(MIGRATIONS), application=7)


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (newer, "schema 99, this program knows up to"),
        (foreign, "SQLite database of another program"),
        (lambda path: path.mkdir(), "could not be opened.*check the path and its permissions"),
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(database, prepare: Callable[[Path], None], text):
    prepare(database)
    before = database.read_bytes() if database.is_file() else None
    with pytest.raises(StoreError, match=text) as raised:
        FailureStore(database)
    assert not isinstance(raised.value, CorruptStoreError)
    assert (database.read_bytes() if database.is_file() else None) == before


def test_a_missing_database_is_not_made_by_a_reader(database):
    with pytest.raises(StoreError, match="there is no such database"):
        FailureStore(database, create=False)
    assert not database.exists()


def test_a_row_damaged_while_the_store_is_open_is_named(make, database):
    with closing(FailureStore(database)) as store:
        ids = store.add([make.case(1), make.case(2)])
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("UPDATE cases SET embedding = zeroblob(64) WHERE case_id = ?", (ids[0],))
            connection.commit()
        with pytest.raises(CorruptStoreError, match=f"case {ids[0]} does not match its checksum"):
            store.get(ids)
        assert list(store.get(ids[1:])) == ids[1:]
