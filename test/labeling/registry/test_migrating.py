# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Databases of every version open; newer ones and those of others are refused."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ErrorCode, StorageError
from flow_rag_vla.labeling.registry.migrating import HEAD, alembic_configuration, revision, upgrade
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.tables import metadata
from flow_rag_vla.labeling.registry.values import ChangeKind, LabelDraft

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory.from_config(alembic_configuration()).walk_revisions()))
]


def move(database: Database, target: str) -> None:
    configuration = alembic_configuration()
    with database.write() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, target)


def test_the_newest_revision_is_the_one_that_is_opened(registry):
    assert REVISIONS[-1] == HEAD
    with registry.database.read() as connection:
        assert revision(connection) == HEAD


def test_the_migrations_lead_to_the_tables_that_the_code_uses(registry):
    with registry.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("old", REVISIONS[:-1])
def test_a_populated_database_of_an_older_version_is_upgraded_and_copied_first(folder, make, old):
    with Registry(folder) as registry:
        drafts = [make.draft(make.image(registry), mask=make.mask(), embedding=make.unit(1))]
        (object_id,) = registry.register(drafts, who="a").object_ids
        before = registry.get(object_id)
        move(registry.database, old)
    with Registry(folder) as registry:
        assert registry.upgraded_from == old
        assert registry.get(object_id) == before
        assert registry.datasets.list_versions() == ()
        with registry.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    copy = folder / f"registry.db.before-{HEAD}"
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (old,)
        assert connection.execute("SELECT object_id FROM objects").fetchall() == [(object_id,)]
    with Registry(folder) as registry:
        move(registry.database, old)
    Registry(folder).close()
    assert len(list(folder.glob("registry.db.before-*"))) == 2


def test_further_labels_of_an_older_version_become_history_that_can_be_taken_back(folder, make):
    with Registry(folder) as registry:
        ids = registry.register([make.draft(make.image(registry))] * 2, who="a").object_ids
        said = [
            LabelDraft(name, "cup", (1.0, 1.0, 9.0, 9.0), 0.5, ScoreKind.SIGMOID, Origin(model, "2", "", 0.1))
            for name in ids
            for model in ("newer", "older")
        ]
        registry.add_labels(said, who="run")
        first, second = registry.labels([ids[0]])[ids[0]]
        registry.undo(who="a", change_id=second.change_id)
        move(registry.database, "r0004")
    with Registry(folder) as registry:
        assert [change.kind for change in registry.history(ids[0])] == [ChangeKind.CREATED, ChangeKind.LABELLED]
        (kept,) = registry.labels([ids[0]])[ids[0]]
        assert replace(kept, change_id=first.change_id) == first
        registry.undo(who="a", change_id=kept.change_id)
        assert registry.labels(ids) == {ids[0]: (), ids[1]: registry.labels([ids[1]])[ids[1]]}
        assert len(registry.labels(ids)[ids[1]]) == 2


def test_every_revision_goes_down_to_nothing_and_up_again(folder):
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    move(database, "base")
    with database.read() as connection:
        assert revision(connection) == ""
    for target in REVISIONS:
        upgrade(database, target)
        with database.read() as connection:
            assert revision(connection) == target
    database.close()


def test_a_database_of_a_newer_version_is_refused_untouched(folder):
    with sqlite3.connect(folder / "registry.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
    with pytest.raises(StorageError, match=r"r9999 is newer than this version.*upgrade flow_rag_vla") as error:
        Registry(folder)
    assert error.value.code is ErrorCode.SCHEMA_TOO_NEW
    with sqlite3.connect(folder / "registry.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("r9999",)


def test_a_database_of_another_program_is_refused_untouched(tmp_path):
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(StorageError, match="another program's database"):
        Registry(tmp_path)
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]


def test_a_database_is_durable_and_lets_readers_beside_a_writer(registry):
    with registry.database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
