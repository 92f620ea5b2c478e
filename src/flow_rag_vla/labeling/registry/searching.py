"""Similarity search over the vectors of one embedder."""

from __future__ import annotations

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import project_row
from flow_rag_vla.labeling.registry.checks import checked_embedder, checked_vector
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.filtering import filter_clauses
from flow_rag_vla.labeling.registry.queries import Answered, ObjectFilter, SearchAnswer, Similar, Way
from flow_rag_vla.labeling.registry.registering import unit_vector
from flow_rag_vla.labeling.registry.rows import objects_by_row
from flow_rag_vla.labeling.registry.values import Embedder, Vector

MOST_HITS = 1_000


def check_one_embedder(connection: sa.Connection, embedder: Embedder, project: str) -> int | None:
    """Refuse a search whose scope holds vectors of others; give the embedder's id, None where nothing has a vector.

    Raises:
        ConflictError: with the code ``embedder_mismatch``.
        UnknownError: there is no such project.
    """
    o = t.objects.c
    scope = [o.deleted_ns.is_(None)]
    if project:
        scope.append(o.project_id == project_row(connection, project).project_id)
    own = None
    for row in connection.execute(sa.select(t.embedders)):
        held = Embedder(row.name, row.revision, row.dimension)
        present = sa.select(o.row_id).where(o.embedder_id == row.embedder_id, *scope)
        if held == embedder:
            own = row.embedder_id
        elif connection.execute(present.limit(1)).first() is not None:
            raise ConflictError(
                ErrorCode.EMBEDDER_MISMATCH,
                f"{project or 'the registry'} holds vectors of {held}, which {embedder} cannot be compared with",
                "embed all its objects with one embedder (set_embeddings), or search in one project",
            )
    return None if own is None else int(own)


def scan(database: Database, vector: Vector, embedder: Embedder, k: int, where: ObjectFilter) -> SearchAnswer:
    """Compare the query with every vector in the database that passes the filter."""
    embedder = checked_embedder(embedder)
    query = unit_vector(checked_vector(vector, embedder, "the query"))
    if not 1 <= k <= MOST_HITS:
        raise InvalidInputError(ErrorCode.INVALID_VALUE, f"k is {k}", f"give 1 to {MOST_HITS}")
    with database.read() as connection:
        own = check_one_embedder(connection, embedder, where.project)
        clauses = [*filter_clauses(connection, where), t.objects.c.embedder_id == own]
        statement = sa.select(t.vectors.c.row_id, t.vectors.c.value).join(t.objects).where(*clauses)
        rows = connection.execute(statement).all()
        scored = sorted(((float(unit_vector(row.value) @ query), -row.row_id) for row in rows), reverse=True)[:k]
        found = objects_by_row(connection, [-row for _, row in scored])
    hits = tuple(Similar(similarity, found[-row]) for similarity, row in scored)
    way = Way.EXACT_FILTERED if rows else Way.NOTHING
    return SearchAnswer(hits, Answered(way, "database", len(rows), len(rows), 0, "every vector was compared"))
