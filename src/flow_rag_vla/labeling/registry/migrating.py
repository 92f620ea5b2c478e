# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Brings a database to the newest schema when it is opened; alembic's revisions are in ``migrations/versions``."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ErrorCode, StorageError

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).with_name("migrations")
HEAD = "r0005"
"""The newest revision; a test compares it with the folder."""


def revision(connection: sa.Connection) -> str:
    """Revision of a database, "" for an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() or "")


def upgrade(database: Database, target: str = HEAD) -> str:
    """Bring a database to a revision, in one transaction; give the revision that it had.

    A SQLite file that holds data is copied beside itself first, as ``NAME.before-TARGET``.

    Raises:
        StorageError: it is of a newer version of this package, or of another program.
    """
    with database.read() as connection:
        found = revision(connection)
        if not found and set(sa.inspect(connection).get_table_names()) - {"alembic_version"}:
            raise StorageError(
                ErrorCode.CORRUPT, f"{database.name}: this is another program's database", "choose another place"
            )
    if found == target:
        return found
    from alembic import command
    from alembic.script import ScriptDirectory

    configuration = alembic_configuration()
    known = [script.revision for script in ScriptDirectory.from_config(configuration).walk_revisions()]
    if found and found not in known:
        raise StorageError(
            ErrorCode.SCHEMA_TOO_NEW,
            f"{database.name}: its schema {found} is newer than this version, which knows up to {HEAD}",
            "upgrade flow_rag_vla, or open a copy made before the upgrade",
        )
    if found and database.path is not None:
        _back_up(database.path, target)
    with database.write() as connection:
        # Another process may have done it while this one waited for its turn.
        if revision(connection) != target:
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, target)
    return found


def alembic_configuration() -> Config:
    """Alembic's configuration for this folder of revisions; needs no ini file."""
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return configuration


def _back_up(path: Path, target: str) -> None:
    copy = path.with_name(f"{path.name}.before-{target}")
    if copy.exists():
        copy = copy.with_name(f"{copy.name}-{time.time_ns()}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as destination:
        source.backup(destination)
        # One file, so that it can be put in the place of the other.
        destination.execute("PRAGMA journal_mode = DELETE")
