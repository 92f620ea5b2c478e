# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Categories under another name, or as part of another one. Old words stay as synonyms, so that they mean the same."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import changing
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import categories_of
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.rows import select_objects
from flow_rag_vla.labeling.registry.values import ChangeKind

AT_ONCE = 200
"""Objects that are moved while others wait to write."""
_o = t.objects.c


def named_category(connection: sa.Connection, project_id: int, name: str) -> Any:
    """The row of a category; a synonym is not enough.

    Raises:
        InvalidInputError: ``unknown_category``; it lists what is known.
    """
    rows = categories_of(connection, project_id)
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        listed = ", ".join(row.name for row in rows[:50]) or "none"
        raise InvalidInputError(
            ErrorCode.UNKNOWN_CATEGORY, f"the project has no category {name[:80]!r}", f"known: {listed}"
        )
    return found


def rename(connection: sa.Connection, project_id: int, name: str, to: str) -> None:
    """Give a category another name; all its objects have it at once.

    Raises:
        InvalidInputError: ``unknown_category``.
        ConflictError: ``already_exists``: the name is that, or a synonym, of another category.
    """
    row = named_category(connection, project_id, name)
    for other in categories_of(connection, project_id):
        if other.name != name and to in (other.name, *other.synonyms):
            raise ConflictError(
                ErrorCode.ALREADY_EXISTS,
                f"{to!r} already means the category {other.name!r}",
                f"merge {name!r} into {other.name!r}, or choose another word",
            )
    words = sorted({*row.synonyms, name} - {to})
    where = t.categories.c.category_id == row.category_id
    connection.execute(t.categories.update().where(where).values(name=to, synonyms=words))


def move_some(connection: sa.Connection, project_id: int, name: str, into: str, who: str) -> int:
    """Make some objects of a category those of another, each a change in the history; 0: none was left.

    With the last of them the category is gone: its words are synonyms of the other, and tombstones and what further
    models said count there.
    """
    source, target = named_category(connection, project_id, name), named_category(connection, project_id, into)
    where = _o.category_id == source.category_id, _o.deleted_ns.is_(None)
    rows = connection.execute(select_objects().where(*where).order_by(_o.row_id).limit(AT_ONCE)).all()
    for row in rows:
        changing.apply(connection, row, {"category": into}, ChangeKind.UPDATED, who)
    if rows:
        return len(rows)
    moved = {"category_id": target.category_id}
    connection.execute(t.objects.update().where(_o.category_id == source.category_id).values(**moved))
    connection.execute(t.labels.update().where(t.labels.c.category_id == source.category_id).values(**moved))
    connection.execute(t.categories.delete().where(t.categories.c.category_id == source.category_id))
    words = sorted({*target.synonyms, *source.synonyms, name} - {into})
    of_target = t.categories.c.category_id == target.category_id
    connection.execute(t.categories.update().where(of_target).values(synonyms=words))
    return 0
