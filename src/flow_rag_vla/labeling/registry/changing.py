# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Changes to one object, each a row of the history that can be taken back; see ``undoing``.

A row of the history holds the changed fields before and after as plain values.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import canonical_category, category_ids, chunks, embedder_id
from flow_rag_vla.labeling.registry.checks import (
    checked_attributes,
    checked_box,
    checked_name,
    checked_share,
)
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.registering import next_number
from flow_rag_vla.labeling.registry.values import Change, ChangeKind, Embedder, ObjectChange, ReviewState

Fields = dict[str, Any]
BOX = ("box_left", "box_top", "box_right", "box_bottom")
JUDGED = ("category", "box", "mask_path")
"""What a review is about: who accepted an object accepted these."""


def state_of(row: Any) -> Fields:
    """Everything of an object that a change can change, as plain values."""
    return {
        "category": row.category,
        "box": [row.box_left, row.box_top, row.box_right, row.box_bottom],
        "convention": row.box_convention,
        "score": row.score,
        "score_kind": row.score_kind,
        "mask_path": row.mask_path,
        "state": row.state,
        "validated_by": row.validated_by,
        "validated_ns": row.validated_ns,
        "quality": row.quality,
        "track_id": row.track_id or "",
        "attributes": dict(row.attributes),
        "deleted": row.deleted_ns is not None,
    }


def wanted_fields(row: Any, change: ObjectChange, who: str, mask_path: str) -> Fields:
    """The fields that a change asks for, as plain values; mask_path: of the new mask, "" where there is none.

    Raises:
        InvalidInputError: a value that makes no sense.
    """
    fields: Fields = {}
    if change.category is not None:
        fields["category"] = checked_name(change.category, "category")
    if change.box is not None:
        fields["box"] = list(checked_box(change.box, change.convention, row.width, row.height, "box"))
        fields["convention"] = change.convention.value
        if fields["box"] != [getattr(row, name) for name in BOX]:
            fields["mask_path"] = ""
    if mask_path:
        fields["mask_path"] = mask_path
    if change.score is not None:
        fields["score"] = checked_share(change.score, "score")
    if change.score_kind is not None:
        fields["score_kind"] = change.score_kind.value
    if change.quality is not None:
        fields["quality"] = checked_share(change.quality, "quality")
    if change.track_id is not None:
        fields["track_id"] = checked_name(change.track_id, "track_id", empty=True)
    if change.attributes is not None:
        fields["attributes"] = checked_attributes(change.attributes, "attributes")
    if change.state is not None:
        reviewed = change.state is not ReviewState.UNREVIEWED
        fields["state"] = change.state.value
        fields["validated_by"] = who if reviewed else ""
        fields["validated_ns"] = time.time_ns() if reviewed else 0
    return fields


def reopened(connection: sa.Connection, row: Any, fields: Fields) -> Fields:
    """Fields of a change, by which an object that was reviewed as something else waits for a review again."""
    if "state" in fields or row.state == ReviewState.UNREVIEWED.value:
        return fields
    now_is = state_of(row)
    wanted = {name: fields[name] for name in JUDGED if name in fields}
    if "category" in wanted:
        wanted["category"] = canonical_category(connection, row.project_id, wanted["category"])
    if all(now_is[name] == value for name, value in wanted.items()):
        return fields
    return {**fields, "state": ReviewState.UNREVIEWED.value, "validated_by": "", "validated_ns": 0}


def check_version(row: Any, expected: int | None) -> None:
    """Refuse a change that was made up on the sight of an older state, or of a deleted object.

    Raises:
        ConflictError: with the code ``stale_version`` or ``object_deleted``.
    """
    if row.deleted_ns is not None:
        raise ConflictError(ErrorCode.OBJECT_DELETED, f"object {row.object_id} was deleted", "undo the deletion first")
    if expected is not None and row.version != expected:
        raise ConflictError(
            ErrorCode.STALE_VERSION,
            f"object {row.object_id} is at version {row.version}, not {expected}: someone changed it meanwhile",
            "read it again, and decide on what it is now",
        )


def apply(
    connection: sa.Connection, row: Any, fields: Mapping[str, Any], kind: ChangeKind, who: str, undoes: int = 0
) -> int:
    """Write fields to an object and a row to the history; give its change id, or 0 where nothing differs.

    Raises:
        InvalidInputError: an unknown category.
        UnknownError: an unknown track.
    """
    if "category" in fields:
        # A synonym would stand in the history as what the object never was called, and could not be taken back.
        fields = {**fields, "category": canonical_category(connection, row.project_id, fields["category"])}
    now_is = state_of(row)
    before = {name: now_is[name] for name, value in fields.items() if now_is[name] != value}
    if not before:
        return 0
    after = {name: fields[name] for name in before}
    now = time.time_ns()
    columns = {**_columns(connection, row, after), "updated_ns": now, "version": row.version + 1}
    connection.execute(t.objects.update().where(t.objects.c.row_id == row.row_id).values(**columns))
    return record(connection, row.row_id, kind, who, now, before, after, undoes)


def record(
    connection: sa.Connection,
    row_id: int,
    kind: ChangeKind,
    who: str,
    stamp_ns: int,
    before: Fields,
    after: Fields,
    undoes: int = 0,
) -> int:
    """Add a row to the history; give its change id."""
    change_id = next_number(connection, t.history.c.change_id)
    values = {"kind": kind.value, "who": who, "stamp_ns": stamp_ns, "before": before, "after": after}
    connection.execute(
        t.history.insert().values(change_id=change_id, row_id=row_id, undoes=undoes or None, undone=False, **values)
    )
    return change_id


def _columns(connection: sa.Connection, row: Any, fields: Fields) -> Fields:
    """Plain values as columns of ``objects``."""
    columns: Fields = {}
    for name, value in fields.items():
        if name == "category":
            columns["category_id"] = category_ids(connection, row.project_id, [value], create=True)[value]
        elif name == "box":
            columns.update(zip(BOX, value, strict=True))
            columns["area"] = (value[2] - value[0]) * (value[3] - value[1])
        elif name == "convention":
            columns["box_convention"] = value
        elif name == "track_id":
            columns["track_row"] = _track_row(connection, row, value) if value else None
        elif name == "deleted":
            columns["deleted_ns"] = time.time_ns() if value else None
        else:
            columns[name] = value
    return columns


def _track_row(connection: sa.Connection, row: Any, track_id: str) -> int:
    where = sa.and_(t.tracks.c.track_id == track_id, t.tracks.c.source_row == row.source_row)
    found = connection.execute(sa.select(t.tracks.c.track_row).where(where)).scalar()
    if found is None:
        raise UnknownError(
            ErrorCode.UNKNOWN_TRACK,
            f"the source of object {row.object_id} has no track {track_id[:80]!r}",
            "list its tracks; a track never spans two sources",
        )
    return int(found)


def embed(connection: sa.Connection, row: Any, value: bytes, embedder: Embedder, who: str) -> None:
    """Give an object a new vector in place of the one it has."""
    where = t.vectors.c.row_id == row.row_id
    if connection.execute(t.vectors.update().where(where).values(value=value)).rowcount == 0:
        connection.execute(t.vectors.insert().values(row_id=row.row_id, value=value))
    now = time.time_ns()
    columns = {"embedder_id": embedder_id(connection, embedder), "updated_ns": now, "version": row.version + 1}
    connection.execute(t.objects.update().where(t.objects.c.row_id == row.row_id).values(**columns))
    record(connection, row.row_id, ChangeKind.EMBEDDED, who, now, {}, {})


def take_vector(connection: sa.Connection, row: Any, who: str) -> None:
    """Take its vector off an object."""
    connection.execute(t.vectors.delete().where(t.vectors.c.row_id == row.row_id))
    now = time.time_ns()
    columns = {"embedder_id": None, "updated_ns": now, "version": row.version + 1}
    connection.execute(t.objects.update().where(t.objects.c.row_id == row.row_id).values(**columns))
    record(connection, row.row_id, ChangeKind.EMBEDDED, who, now, {}, {})


def select_changes() -> sa.Select[Any]:
    """Every column of :func:`change_of`."""
    joined = t.history.join(t.objects, t.objects.c.row_id == t.history.c.row_id)
    return sa.select(t.history, t.objects.c.object_id).select_from(joined)


def change_of(row: Any) -> Change:
    """A row of :func:`select_changes` as a value."""
    return Change(
        row.change_id,
        row.object_id,
        ChangeKind(row.kind),
        row.who,
        row.stamp_ns,
        row.before,
        row.after,
        row.undoes or 0,
        bool(row.undone),
    )


def changes_of(connection: sa.Connection, change_ids: Sequence[int]) -> tuple[Change, ...]:
    """Rows of the history by their ids, in the order of commits."""
    found: list[Change] = []
    for part in chunks(sorted(set(change_ids))):
        statement = select_changes().where(t.history.c.change_id.in_(part)).order_by(t.history.c.change_id)
        found.extend(change_of(row) for row in connection.execute(statement))
    return tuple(found)


def check_asks_something(change: ObjectChange) -> None:
    """Refuse a change that changes nothing.

    Raises:
        InvalidInputError: every field is None.
    """
    asked = (change.category, change.box, change.mask, change.state, change.score, change.score_kind)
    if all(value is None for value in (*asked, change.quality, change.track_id, change.attributes)):
        raise InvalidInputError(ErrorCode.INVALID_VALUE, "the change names no field", "give what is to be changed")
