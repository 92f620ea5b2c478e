# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks: objects of one source that are one thing, in the order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import changing
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import source_row, track_rows
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, UnknownError
from flow_rag_vla.labeling.registry.rows import object_row
from flow_rag_vla.labeling.registry.values import ChangeKind, Track


def add_track(connection: sa.Connection, source_id: str, object_ids: Sequence[str], who: str, name: str) -> Track:
    """See ``CataloguingRegistry.add_track``."""
    source = source_row(connection, source_id).source_row
    row = track_rows(connection, [(source, name)])[source, name]
    track_id = str(connection.execute(sa.select(t.tracks.c.track_id).where(t.tracks.c.track_row == row)).scalar_one())
    for object_id in object_ids:
        found = object_row(connection, object_id)
        changing.check_version(found, None)
        if found.source_row != source:
            raise ConflictError(
                ErrorCode.INVALID_VALUE,
                f"object {object_id} is of source {found.source_id}, not {source_id}",
                "make one track a source",
            )
        changing.apply(connection, found, {"track_id": track_id}, ChangeKind.UPDATED, who)
    return track(connection, track_id)


def track(connection: sa.Connection, track_id: str) -> Track:
    """See ``CataloguingRegistry.track``."""
    known = sa.select(t.tracks, t.sources.c.source_id).join_from(t.tracks, t.sources)
    row = connection.execute(known.where(t.tracks.c.track_id == track_id)).first()
    if row is None:
        remedy = "list the tracks of its source"
        raise UnknownError(ErrorCode.UNKNOWN_TRACK, f"there is no track {track_id[:80]!r}", remedy)
    members = connection.execute(_members().where(t.objects.c.track_row == row.track_row)).all()
    return _track(members) if members else Track(track_id, row.source_id, row.name, (), 0, 0, 0, 0, 0.0, ())


def tracks_of(connection: sa.Connection, source: int) -> tuple[Track, ...]:
    """See ``CataloguingRegistry.tracks``."""
    rows = connection.execute(_members().where(t.tracks.c.source_row == source)).all()
    found = [_track(list(members)) for _, members in groupby(rows, key=lambda row: row.track_row)]
    return tuple(sorted(found, key=lambda item: (item.start_ns, item.start_frame)))


def _members() -> sa.Select[Any]:
    """Live objects that are on tracks, each track's together in the order of time."""
    o, i = t.objects.c, t.images.c
    joined = (
        t.objects.join(t.tracks, t.tracks.c.track_row == o.track_row)
        .join(t.images, i.image_row == o.image_row)
        .join(t.sources, t.sources.c.source_row == t.tracks.c.source_row)
        .join(t.categories, t.categories.c.category_id == o.category_id)
    )
    columns = (
        o.track_row,
        o.object_id,
        o.score,
        i.stamp_ns,
        i.frame,
        t.tracks.c.track_id,
        t.tracks.c.name,
        t.sources.c.source_id,
        t.categories.c.name.label("category"),
    )
    statement = sa.select(*columns).select_from(joined).where(o.deleted_ns.is_(None))
    return statement.order_by(o.track_row, i.stamp_ns, i.frame, o.row_id)


def _track(rows: Sequence[Any]) -> Track:
    first, last = rows[0], rows[-1]
    return Track(
        track_id=first.track_id,
        source_id=first.source_id,
        name=first.name,
        object_ids=tuple(row.object_id for row in rows),
        start_frame=first.frame,
        end_frame=last.frame,
        start_ns=first.stamp_ns,
        end_ns=last.stamp_ns,
        mean_score=sum(row.score for row in rows) / len(rows),
        categories=tuple(name for name, _ in Counter(row.category for row in rows).most_common()),
    )
