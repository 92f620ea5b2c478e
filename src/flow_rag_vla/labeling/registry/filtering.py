# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An ObjectFilter as the WHERE clause of a SELECT over ``objects``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import IDS_AT_ONCE, project_row
from flow_rag_vla.labeling.registry.checks import (
    checked_area,
    checked_attributes,
    checked_name,
    checked_share,
    checked_whole,
)
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import ReviewState, SourceKind

Clause = sa.ColumnElement[bool]
_o = t.objects.c
VALIDATED = tuple(state.value for state in ReviewState if state.validated)


def filter_clauses(connection: sa.Connection, where: ObjectFilter) -> list[Clause]:
    """The terms of a filter, live objects only, to be joined with AND.

    Raises:
        UnknownError: an unknown project.
        InvalidInputError: an unknown category, a score that is none, or too many values in one field.
    """
    for name in ("categories", "source_ids", "image_ids", "track_ids", "episodes", "models"):
        if len(getattr(where, name)) > IDS_AT_ONCE:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE,
                f"the filter has {len(getattr(where, name))} {name}",
                f"ask for at most {IDS_AT_ONCE} at once",
            )
    return [_o.deleted_ns.is_(None), *_place(connection, where), *_judgement(where), *_rest(connection, where)]


def _place(connection: sa.Connection, where: ObjectFilter) -> list[Clause]:
    """Project, category, source, image, track, episode, time of capture."""
    terms: list[Clause] = []
    project_id = None
    if where.project:
        project_id = project_row(connection, checked_name(where.project, "project")).project_id
    if where.categories:
        # A category belongs to one project: the term on the project would only mislead the planner.
        terms.append(_o.category_id.in_(matching_categories(connection, where.categories, project_id)))
    elif project_id is not None:
        terms.append(_o.project_id == project_id)
    s, i = t.sources.c, t.images.c
    if where.source_ids:
        terms.append(_o.source_row.in_(sa.select(s.source_row).where(s.source_id.in_(where.source_ids))))
    if where.episodes:
        terms.append(_o.source_row.in_(sa.select(s.source_row).where(s.episode.in_(where.episodes))))
    if where.image_ids:
        terms.append(_o.image_row.in_(sa.select(i.image_row).where(i.image_id.in_(where.image_ids))))
    if where.track_ids:
        tracks = sa.select(t.tracks.c.track_row).where(t.tracks.c.track_id.in_(where.track_ids))
        terms.append(_o.track_row.in_(tracks))
    if where.captured_from_ns or where.captured_until_ns:
        terms.append(_o.image_row.in_(_captured(where.captured_from_ns, where.captured_until_ns)))
    return terms


def _captured(start: int, until: int) -> sa.CompoundSelect[Any]:
    """Rows of the images that are known to have been taken in a range of time; one of which that is unknown is none.

    The stamps of a video count from its beginning, so it is known where that of its source is. What has no stamp of its
    own, such as a photograph, was taken when its source was. Each of the three is found along an index.
    """
    s, i = t.sources.c, t.images.c
    video = s.kind == SourceKind.VIDEO.value
    joined = sa.select(i.image_row).select_from(t.images.join(t.sources, s.source_row == i.source_row))
    return sa.union_all(
        joined.where(~video, i.stamp_ns > 0, *_between(i.stamp_ns, start, until)),
        joined.where(video, s.captured_ns > 0, *_between(s.captured_ns + i.stamp_ns, start, until)),
        joined.where(~video, s.captured_ns > 0, i.stamp_ns == 0, *_between(s.captured_ns, start, until)),
    )


def matching_categories(connection: sa.Connection, names: Sequence[str], project_id: int | None) -> list[int]:
    """Ids of the categories of these names or synonyms, in one project or in all.

    Raises:
        InvalidInputError: a name that no category has.
    """
    statement = sa.select(t.categories)
    if project_id is not None:
        statement = statement.where(t.categories.c.project_id == project_id)
    rows = connection.execute(statement).all()
    found: set[int] = set()
    for name in names:
        ids = {row.category_id for row in rows if name == row.name}
        ids = ids or {row.category_id for row in rows if name in row.synonyms}
        if not ids:
            listed = ", ".join(sorted({row.name for row in rows})[:50]) or "none"
            raise InvalidInputError(
                ErrorCode.UNKNOWN_CATEGORY, f"there is no category {name[:80]!r}", f"known: {listed}"
            )
        found |= ids
    return sorted(found)


def _judgement(where: ObjectFilter) -> list[Clause]:
    """Score and review."""
    terms: list[Clause] = []
    if where.states:
        terms.append(_o.state.in_([state.value for state in where.states]))
    if where.validated is not None:
        states = [state.value for state in ReviewState if state.validated is where.validated]
        terms.append(_o.state.in_(states))
    if where.validated_by:
        terms.append(_o.validated_by == where.validated_by)
    if where.score_kinds:
        terms.append(_o.score_kind.in_([kind.value for kind in where.score_kinds]))
    if where.min_score is not None:
        terms.append(_o.score >= checked_share(where.min_score, "min_score"))
    if where.max_score is not None:
        terms.append(_o.score <= checked_share(where.max_score, "max_score"))
    return terms


def _rest(connection: sa.Connection, where: ObjectFilter) -> list[Clause]:
    """Model, time of registration, mask, embedding, size, attributes."""
    terms = _between(_o.created_ns, where.created_from_ns, where.created_until_ns)
    if where.models:
        origins = sa.select(t.origins.c.origin_id).where(t.origins.c.model.in_(where.models))
        terms.append(_o.origin_id.in_(origins))
    if where.has_mask is not None:
        terms.append(_o.mask_path != "" if where.has_mask else _o.mask_path == "")
    if where.has_embedding is not None:
        terms.append(_o.embedder_id.is_not(None) if where.has_embedding else _o.embedder_id.is_(None))
    if where.min_area is not None:
        terms.append(_o.area >= checked_area(where.min_area, "min_area"))
    if where.max_area is not None:
        terms.append(_o.area <= checked_area(where.max_area, "max_area"))
    for name, value in checked_attributes(where.attributes, "attributes").items():
        if connection.dialect.name == "postgresql":
            terms.append(sa.type_coerce(_o.attributes, JSONB).contains({name: value}))
            continue
        place = f'$."{name}"'
        # JSON's true and 1 are one value to SQLite's json_extract.
        kinds = ("true", "false") if isinstance(value, bool) else ("text", "integer", "real")
        terms.append(sa.func.json_type(_o.attributes, place).in_(kinds))
        terms.append(sa.func.json_extract(_o.attributes, place) == value)
    return terms


def _between(column: sa.ColumnElement[Any], start: int, until: int) -> list[Clause]:
    terms: list[Clause] = []
    if start:
        terms.append(column >= checked_whole(start, "start of the time range"))
    if until:
        terms.append(column < checked_whole(until, "end of the time range"))
    return terms


def as_json(values: object) -> str:
    """Plain values as one JSON text of one form, to compare them."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
