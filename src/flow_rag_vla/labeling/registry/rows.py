# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of ``objects`` with what they refer to, as values; listings page by page."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import chunks
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.filtering import filter_clauses
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, Page
from flow_rag_vla.labeling.registry.values import BoxConvention, Embedder, LabelledObject, ReviewState

LONGEST_PAGE = 1_000
_o = t.objects.c
# What has no quality comes after all that has one.
_RANKS: dict[Order, sa.ColumnElement[Any]] = {
    Order.LOWEST_SCORE: _o.score,
    Order.HIGHEST_SCORE: _o.score,
    Order.LOWEST_QUALITY: sa.func.coalesce(_o.quality, 2.0),
    Order.HIGHEST_QUALITY: sa.func.coalesce(_o.quality, -1.0),
}


def select_objects() -> sa.Select[Any]:
    """Every column of :func:`object_of`."""
    joined = (
        t.objects.join(t.projects, t.projects.c.project_id == _o.project_id)
        .join(t.categories, t.categories.c.category_id == _o.category_id)
        .join(t.images, t.images.c.image_row == _o.image_row)
        .join(t.sources, t.sources.c.source_row == _o.source_row)
        .join(t.origins, t.origins.c.origin_id == _o.origin_id)
        .outerjoin(t.embedders, t.embedders.c.embedder_id == _o.embedder_id)
        .outerjoin(t.tracks, t.tracks.c.track_row == _o.track_row)
    )
    return sa.select(
        t.objects,
        t.projects.c.name.label("project"),
        t.categories.c.name.label("category"),
        t.images.c.image_id,
        t.images.c.stamp_ns,
        t.images.c.frame,
        t.images.c.width,
        t.images.c.height,
        t.sources.c.source_id,
        t.origins.c.model,
        t.origins.c.revision,
        t.origins.c.prompt,
        t.origins.c.threshold,
        t.embedders.c.name.label("embedder_name"),
        t.embedders.c.revision.label("embedder_revision"),
        t.embedders.c.dimension,
        t.tracks.c.track_id,
    ).select_from(joined)


def object_of(row: Any) -> LabelledObject:
    """A row of :func:`select_objects` as a value."""
    embedder = None
    if row.embedder_id is not None:
        embedder = Embedder(row.embedder_name, row.embedder_revision, row.dimension)
    return LabelledObject(
        object_id=row.object_id,
        project=row.project,
        category=row.category,
        image_id=row.image_id,
        source_id=row.source_id,
        box=(row.box_left, row.box_top, row.box_right, row.box_bottom),
        convention=BoxConvention(row.box_convention),
        area=row.area,
        score=row.score,
        score_kind=ScoreKind(row.score_kind),
        origin=Origin(row.model, row.revision, row.prompt, row.threshold),
        state=ReviewState(row.state),
        validated_by=row.validated_by,
        validated_ns=row.validated_ns,
        quality=row.quality,
        mask_path=row.mask_path,
        embedder=embedder,
        track_id=row.track_id or "",
        attributes=row.attributes,
        stamp_ns=row.stamp_ns,
        frame=row.frame,
        created_ns=row.created_ns,
        updated_ns=row.updated_ns,
        version=row.version,
        deleted=row.deleted_ns is not None,
    )


def object_row(connection: sa.Connection, object_id: str) -> Any:
    """The row of an object, tombstone or not.

    Raises:
        UnknownError: there is no such object.
    """
    row = connection.execute(select_objects().where(_o.object_id == object_id)).first()
    if row is None:
        remedy = "list the objects to see which ids there are"
        raise UnknownError(ErrorCode.UNKNOWN_OBJECT, f"there is no object {object_id[:80]!r}", remedy)
    return row


def objects_by_row(connection: sa.Connection, row_ids: Sequence[int]) -> dict[int, LabelledObject]:
    """Live objects by row id; others are left out."""
    found: dict[int, LabelledObject] = {}
    for part in chunks(row_ids):
        statement = select_objects().where(_o.row_id.in_(part), _o.deleted_ns.is_(None))
        found.update((row.row_id, object_of(row)) for row in connection.execute(statement))
    return found


def objects_by_id(connection: sa.Connection, object_ids: Sequence[str]) -> dict[str, LabelledObject]:
    """Objects by id, tombstones too; unknown ones are left out."""
    found: dict[str, LabelledObject] = {}
    for part in chunks(object_ids):
        statement = select_objects().where(_o.object_id.in_(part))
        found.update((row.object_id, object_of(row)) for row in connection.execute(statement))
    return found


def page_of(connection: sa.Connection, where: ObjectFilter, order: Order, limit: int, cursor: str) -> Page:
    """Some objects of a listing.

    Args:
        connection: for reading.
        where: which.
        order: see Order.
        limit: 1 to 1000.
        cursor: "" for the first page, or the cursor of the page before.

    Raises:
        InvalidInputError: a limit or cursor that makes no sense; see also ``filter_clauses``.
        UnknownError: an unknown project.
    """
    if not 1 <= limit <= LONGEST_PAGE:
        raise InvalidInputError(ErrorCode.INVALID_VALUE, f"limit is {limit}", f"give 1 to {LONGEST_PAGE}")
    falling = order in (Order.NEWEST, Order.HIGHEST_SCORE, Order.HIGHEST_QUALITY)
    rank = _RANKS.get(order)
    keys: list[sa.ColumnElement[Any]] = [_o.row_id] if rank is None else [rank, _o.row_id]
    clauses = filter_clauses(connection, where)
    if cursor:
        last = _decoded(cursor, order, len(keys))
        left, right = sa.tuple_(*keys), sa.tuple_(*last)
        clauses.append(left < right if falling else left > right)
    # The page is cut before anything is joined: the joins then cost one look-up an object shown.
    sorting = [key.desc() if falling else key.asc() for key in keys]
    chosen = (
        sa.select(_o.row_id, *([] if rank is None else [rank.label("rank")]))
        .where(*clauses)
        .order_by(*sorting)
        .limit(limit + 1)
    )
    rows = connection.execute(chosen).all()
    shown = rows[:limit]
    found = objects_by_row(connection, [row.row_id for row in shown])
    following = ""
    if len(rows) > limit:
        end = shown[-1]
        following = _encoded(order, [end.row_id] if rank is None else [end.rank, end.row_id])
    return Page(tuple(found[row.row_id] for row in shown), following)


def _encoded(order: Order, values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([order.value, *values]).encode()).decode().rstrip("=")


def _decoded(cursor: str, order: Order, count: int) -> list[Any]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        name, *values = json.loads(base64.urlsafe_b64decode(padded))
        *scores, row_id = values
        sound = name == order.value and len(values) == count and isinstance(row_id, int) and abs(row_id) < 1 << 62
        if sound and all(isinstance(score, float) for score in scores):
            return list(values)
    except (ValueError, TypeError, UnicodeError, binascii.Error, RecursionError):
        pass
    raise InvalidInputError(
        ErrorCode.INVALID_CURSOR, f"{cursor[:80]!r} is no cursor of this listing", "begin again without a cursor"
    )
