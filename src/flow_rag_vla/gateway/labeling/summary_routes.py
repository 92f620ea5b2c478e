# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks, categories and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path

from flow_rag_vla.gateway.access import Labeller, Viewer
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.paging import MOST_IN_PAGE, USUAL_PAGE, Cursor, Limit, Project, invalid_cursor
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.views import category_given, object_given, statistics_given, track_given
from flow_rag_vla.labeling.registry.values import DEFAULT_PROJECT, Track

_ID = r"^[0-9a-f]{32}$"
TrackId = Annotated[str, Path(pattern=_ID, description="32 hex digits")]
SourceId = Annotated[str, Path(pattern=_ID, description="32 hex digits")]


def summary_routes(labels: Labels) -> APIRouter:
    """The routes below ``tracks``, ``categories`` and ``stats``."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    registry = labels.registry

    @router.post("/tracks", status_code=201)
    def register_track(sent: schemas.TrackSent, person: Labeller) -> schemas.TrackGiven:
        """Say of objects of one source that they are one thing."""
        made = registry.add_track(sent.source_id, sent.object_ids, who=person.name, name=sent.name)
        return _track(labels, made)

    @router.get("/tracks/{track_id}")
    def track(track_id: TrackId, _person: Viewer) -> schemas.TrackGiven:
        """One thing with its objects, in the order of time."""
        return _track(labels, registry.track(track_id))

    @router.get("/sources/{source_id}/tracks")
    def tracks(
        source_id: SourceId, _person: Viewer, limit: Limit = USUAL_PAGE, cursor: Cursor = ""
    ) -> schemas.TrackPage:
        """A page of a source's tracks, by when they begin."""
        found = registry.tracks(source_id)
        start = _place_after(cursor, [item.track_id for item in found])
        shown = found[start : start + limit]
        following = shown[-1].track_id if start + limit < len(found) else ""
        return schemas.TrackPage(items=[track_given(item) for item in shown], next_cursor=following)

    @router.get("/stats")
    def statistics(_person: Viewer, project: Project = "") -> schemas.StatisticsGiven:
        """Counts of what is registered: of one project, or of all."""
        return statistics_given(registry.statistics(project))

    @router.get("/categories")
    def categories(
        _person: Viewer, project: Project = DEFAULT_PROJECT, limit: Limit = MOST_IN_PAGE, cursor: Cursor = ""
    ) -> schemas.CategoryPage:
        """A page of a project's classes, by name, with how many objects each has."""
        found = registry.categories(project, counted=True)
        start = _place_after(cursor, [item.name for item in found])
        shown = found[start : start + limit]
        following = shown[-1].name if start + limit < len(found) else ""
        return schemas.CategoryPage(items=[category_given(item) for item in shown], next_cursor=following)

    return router


def _place_after(cursor: str, names: Sequence[str]) -> int:
    """Where a listing goes on after the name that a page ended with.

    Raises:
        GatewayError: 422 ``invalid_cursor``: it is of another listing, or what it names is gone.
    """
    if not cursor:
        return 0
    if cursor not in names:
        raise invalid_cursor(cursor)
    return names.index(cursor) + 1


def _track(labels: Labels, track: Track) -> schemas.TrackGiven:
    objects = labels.registry.get_many(track.object_ids)
    given = track_given(track)
    return schemas.TrackGiven(**dict(given), objects=[object_given(item) for item in objects])
