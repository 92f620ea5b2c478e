# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Taking changes back.

Taking back writes what was ``before`` again, as a further row of the history; it is refused where a later change
touched the same fields, or judged the object with them, which is then the one to take back first. What a further model
said is taken off its object.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import canonical_category
from flow_rag_vla.labeling.registry.changing import JUDGED, Fields, apply, change_of, select_changes, state_of
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, UnknownError
from flow_rag_vla.labeling.registry.labels import is_of_label, undo_label
from flow_rag_vla.labeling.registry.rows import object_row
from flow_rag_vla.labeling.registry.values import Change, ChangeKind


def undo(connection: sa.Connection, who: str, change_id: int | None, object_id: str | None) -> Change:
    """See ``Registry.undo``."""
    changed = _to_undo(connection, who, change_id, object_id)
    row = object_row(connection, changed.object_id)
    kind = ChangeKind(changed.kind)
    if changed.undone:
        raise ConflictError(
            ErrorCode.UNDO_CONFLICT, f"change {changed.change_id} was taken back before", "undo its undoing to redo it"
        )
    if kind is ChangeKind.EMBEDDED:
        raise ConflictError(
            ErrorCode.UNDO_CONFLICT,
            f"change {changed.change_id} replaced a vector, which is not kept",
            "embed the object again",
        )
    if is_of_label(changed):
        new_id = undo_label(connection, changed, who)
    else:
        new_id = _undo_fields(connection, row, changed, kind, who)
    connection.execute(t.history.update().where(t.history.c.change_id == changed.change_id).values(undone=True))
    if kind is ChangeKind.UNDONE:
        # What had been undone stands again.
        connection.execute(t.history.update().where(t.history.c.change_id == changed.undoes).values(undone=False))
    statement = select_changes().where(t.history.c.change_id == new_id)
    return change_of(connection.execute(statement).one())


def _undo_fields(connection: sa.Connection, row: Any, changed: Any, kind: ChangeKind, who: str) -> int:
    created = kind is ChangeKind.CREATED
    before: Fields = {"deleted": True} if created else dict(changed.before)
    after: Fields = {"deleted": False} if created else dict(changed.after)
    now_is = state_of(row)
    if "category" in after:
        # It may have been renamed since then.
        after["category"] = canonical_category(connection, row.project_id, after["category"])
    touched = sorted(name for name, value in after.items() if now_is[name] != value)
    if touched:
        raise ConflictError(
            ErrorCode.UNDO_CONFLICT,
            f"{', '.join(touched)} of object {row.object_id} was changed again after change {changed.change_id}",
            "take back the later change first; the history of the object lists it",
        )
    judged = "state" not in before and now_is["validated_ns"] > changed.stamp_ns
    if judged and {*JUDGED, "deleted"}.intersection(before):
        # Else a review would stand for what nobody judged, and whoever registered an object could still remove it.
        raise ConflictError(
            ErrorCode.UNDO_CONFLICT,
            f"object {row.object_id} was reviewed after change {changed.change_id}, with what that made of it",
            "take back the review first, or change the object instead",
        )
    change_id = apply(connection, row, before, ChangeKind.UNDONE, who, changed.change_id)
    if not change_id:
        raise ConflictError(
            ErrorCode.UNDO_CONFLICT,
            f"change {changed.change_id} can no longer be taken back: {before.get('category')!r} means "
            f"{row.category!r} by now",
            "change the object instead",
        )
    return change_id


def _to_undo(connection: sa.Connection, who: str, change_id: int | None, object_id: str | None) -> Any:
    statement = select_changes()
    if change_id is not None:
        found = connection.execute(statement.where(t.history.c.change_id == change_id)).first()
        if found is None or (object_id is not None and found.object_id != object_id):
            whose = "" if object_id is None else f" of object {object_id}"
            remedy = "the history of an object lists its changes"
            raise UnknownError(ErrorCode.UNKNOWN_CHANGE, f"there is no change {change_id}{whose}", remedy)
        return found
    kinds = {kind.value for kind in ChangeKind} - {ChangeKind.UNDONE.value, ChangeKind.EMBEDDED.value}
    if object_id is not None:
        # The last word of a person is meant, not what a model said of it since then.
        kinds -= {ChangeKind.LABELLED.value}
    terms: list[sa.ColumnElement[bool]] = [t.history.c.kind.in_(kinds), t.history.c.undone.is_(False)]
    if object_id is not None:
        terms.append(t.history.c.row_id == object_row(connection, object_id).row_id)
    else:
        terms.append(t.history.c.who == who)
    found = connection.execute(statement.where(*terms).order_by(t.history.c.change_id.desc()).limit(1)).first()
    if found is None:
        whose = f"of object {object_id}" if object_id is not None else f"by {who!r}"
        raise UnknownError(ErrorCode.UNKNOWN_CHANGE, f"there is no change {whose} left", "nothing is to be undone")
    return found
