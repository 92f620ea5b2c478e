# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Projects, categories, sources, images, origins, embedders and tracks: the small tables that objects refer to.

Every function works on a connection that its caller opened; those that add need a writing one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Origin
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.values import (
    DEFAULT_PROJECT,
    Category,
    Embedder,
    Image,
    Project,
    Source,
    SourceKind,
)

IDS_AT_ONCE = 500
"""Values in one IN clause: SQLite takes at least 999 parameters."""


def new_id() -> str:
    """A new id of 32 hex digits. It begins with the time, so that the newest ids lie side by side in an index."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Parts of at most ``IDS_AT_ONCE``."""
    return (values[start : start + IDS_AT_ONCE] for start in range(0, len(values), IDS_AT_ONCE))


def project_row(connection: sa.Connection, name: str) -> Any:
    """The row of a project.

    Raises:
        UnknownError: there is no such project.
    """
    row = connection.execute(sa.select(t.projects).where(t.projects.c.name == name)).first()
    if row is None:
        known = ", ".join(connection.execute(sa.select(t.projects.c.name).limit(20)).scalars())
        raise UnknownError(
            ErrorCode.UNKNOWN_PROJECT,
            f"there is no project {name!r}",
            f"known: {known}; or add it (flow_rag_vla registry projects --add, or POST projects)",
        )
    return row


def project_of(row: Any) -> Project:
    """A row of the table of projects as a value."""
    return Project(row.name, bool(row.closed_vocabulary), row.description, row.created_ns)


def ensure_default_project(connection: sa.Connection) -> None:
    """Make the default project of a new database."""
    statement = sa.select(t.projects.c.project_id).where(t.projects.c.name == DEFAULT_PROJECT)
    if connection.execute(statement).first() is None:
        values = {"closed_vocabulary": False, "description": "", "created_ns": time.time_ns()}
        connection.execute(t.projects.insert().values(name=DEFAULT_PROJECT, **values))


def categories_of(connection: sa.Connection, project_id: int) -> list[Any]:
    """Rows of a project's categories by name."""
    statement = sa.select(t.categories).where(t.categories.c.project_id == project_id).order_by(t.categories.c.name)
    return list(connection.execute(statement))


def category_ids(connection: sa.Connection, project_id: int, names: Iterable[str], *, create: bool) -> dict[str, int]:
    """Ids of categories by the names given; a synonym counts as its category.

    Args:
        connection: a writing one if ``create``.
        project_id: whose vocabulary.
        names: as given, checked.
        create: add what is missing, unless the vocabulary is closed.

    Raises:
        InvalidInputError: with the code ``unknown_category``; it lists what is known.
    """
    wanted = set(names)
    known: dict[str, int] = {}
    rows = categories_of(connection, project_id)
    for row in rows:
        known.update((synonym, row.category_id) for synonym in row.synonyms)
    known.update((row.name, row.category_id) for row in rows)
    missing = sorted(wanted - known.keys())
    if missing:
        project = connection.execute(sa.select(t.projects).where(t.projects.c.project_id == project_id)).one()
        if project.closed_vocabulary or not create:
            listed = ", ".join(row.name for row in rows[:50]) or "none"
            raise InvalidInputError(
                ErrorCode.UNKNOWN_CATEGORY,
                f"project {project.name!r} has no category {missing[0]!r}",
                f"known: {listed}; use one of them, or add it",
            )
        for name in missing:
            values = {"project_id": project_id, "name": name, "synonyms": []}
            known[name] = _inserted(connection, t.categories, values)
    return {name: known[name] for name in wanted}


def canonical_category(connection: sa.Connection, project_id: int, name: str) -> str:
    """The name of the category that a word means; a word that is none yet is itself."""
    rows = categories_of(connection, project_id)
    if any(row.name == name for row in rows):
        return name
    return next((str(row.name) for row in rows if name in row.synonyms), name)


def category_of(row: Any, project: str, objects: int = 0) -> Category:
    """A row of the table of categories as a value."""
    return Category(row.name, project, tuple(row.synonyms), objects)


def source_of(row: Any) -> Source:
    """A row of sources joined with its project's name (``project``) as a value."""
    return Source(
        SourceKind(row.kind),
        row.path,
        row.project,
        row.episode,
        row.width,
        row.height,
        row.captured_ns,
        row.licence,
        row.attributes,
        row.source_id,
        row.created_ns,
    )


def select_sources() -> sa.Select[Any]:
    """Every column of ``source_of``."""
    joined = t.sources.join(t.projects, t.projects.c.project_id == t.sources.c.project_id)
    return sa.select(t.sources, t.projects.c.name.label("project")).select_from(joined)


def source_row(connection: sa.Connection, source_id: str) -> Any:
    """The row of a source.

    Raises:
        UnknownError: there is no such source.
    """
    row = connection.execute(select_sources().where(t.sources.c.source_id == source_id)).first()
    if row is None:
        remedy = "list the sources, or register it first"
        raise UnknownError(ErrorCode.UNKNOWN_SOURCE, f"there is no source {source_id[:80]!r}", remedy)
    return row


def select_images() -> sa.Select[Any]:
    """Every column of ``image_of``."""
    joined = t.images.join(t.sources, t.sources.c.source_row == t.images.c.source_row)
    return sa.select(t.images, t.sources.c.source_id, t.sources.c.project_id).select_from(joined)


def image_of(row: Any) -> Image:
    """A row of images joined with its source's id as a value."""
    return Image(row.name, row.width, row.height, row.frame, row.stamp_ns, row.digest, row.image_id, row.source_id)


def image_rows(connection: sa.Connection, image_ids: Sequence[str]) -> dict[str, Any]:
    """Rows of images by id.

    Raises:
        UnknownError: one of them is not there.
    """
    found: dict[str, Any] = {}
    for part in chunks(sorted(set(image_ids))):
        statement = select_images().where(t.images.c.image_id.in_(part))
        found.update((row.image_id, row) for row in connection.execute(statement))
    for image_id in image_ids:
        if image_id not in found:
            remedy = "register the image with add_images first"
            raise UnknownError(ErrorCode.UNKNOWN_IMAGE, f"there is no image {image_id[:80]!r}", remedy)
    return found


def origin_ids(connection: sa.Connection, origins: Iterable[Origin]) -> dict[Origin, int]:
    """Ids of origins, added where they are new."""
    return {origin: _found_or_added(connection, t.origins, _origin_values(origin)) for origin in set(origins)}


def _origin_values(origin: Origin) -> dict[str, Any]:
    return {
        "model": origin.model,
        "revision": origin.revision,
        "prompt": origin.prompt,
        "threshold": float(origin.threshold),
    }


def embedder_id(connection: sa.Connection, embedder: Embedder) -> int:
    """Id of an embedder, added where it is new."""
    values = {"name": embedder.name, "revision": embedder.revision, "dimension": embedder.dimension}
    return _found_or_added(connection, t.embedders, values)


def track_rows(connection: sa.Connection, wanted: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Rows of tracks by (source row, name), added where they are new."""
    found: dict[tuple[int, str], int] = {}
    for key in set(wanted):
        where = sa.and_(t.tracks.c.source_row == key[0], t.tracks.c.name == key[1])
        row = connection.execute(sa.select(t.tracks.c.track_row).where(where)).scalar()
        if row is None:
            values = {"source_row": key[0], "name": key[1], "track_id": new_id(), "created_ns": time.time_ns()}
            row = _inserted(connection, t.tracks, values)
        found[key] = int(row)
    return found


def _found_or_added(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> int:
    (key,) = table.primary_key.columns
    where = sa.and_(*(table.c[name] == value for name, value in values.items()))
    found = connection.execute(sa.select(key).where(where)).scalar()
    return _inserted(connection, table, values) if found is None else int(found)


def _inserted(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> int:
    result = connection.execute(table.insert().values(**values))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])
