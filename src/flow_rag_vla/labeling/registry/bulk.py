# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Many rows of one table at once, without what a single row is worth.

SQLAlchemy turns each row of a list into a dictionary of bound parameters, one converter a column: of a batch of objects
that is most of the time. To SQLite the rows go as they are, through one statement that is prepared once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

PlainRow = tuple[Any, ...]
"""A row's values in the order of the columns named: str, int, float, bool, bytes, None; mappings in JSON columns."""


def insert_rows(connection: sa.Connection, table: sa.Table, names: Sequence[str], rows: Sequence[PlainRow]) -> None:
    """Insert rows of the same columns in the caller's transaction.

    Args:
        connection: a writing one.
        table: into which.
        names: of the columns.
        rows: their values.

    Raises:
        sqlalchemy.exc.DBAPIError: as ``connection.execute`` does.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])
        return
    places = [place for place, name in enumerate(names) if isinstance(table.c[name].type, sa.JSON)]
    if places:
        rows = [_with_json(row, places) for row in rows]
    connection.exec_driver_sql(_statement(table, tuple(names)), list(rows))


@lru_cache(maxsize=64)
def _statement(table: sa.Table, names: tuple[str, ...]) -> str:
    # Of our own tables alone: no name comes from outside.
    columns = ", ".join(f'"{table.c[name].name}"' for name in names)
    return f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))})"


def _with_json(row: PlainRow, places: Sequence[int]) -> PlainRow:
    values = list(row)
    for place in places:
        # Most objects have no attributes, and a new one's history has nothing before and after.
        values[place] = "{}" if values[place] == {} else json.dumps(values[place])
    return tuple(values)
