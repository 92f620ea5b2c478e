# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Counts of what a registry holds."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import project_row
from flow_rag_vla.labeling.registry.queries import Statistics
from flow_rag_vla.labeling.registry.values import ReviewState


def statistics(connection: sa.Connection, project: str) -> Statistics:
    """See ``Registry.statistics``."""
    o = t.objects.c
    live = [o.deleted_ns.is_(None)]
    placed: list[sa.ColumnElement[bool]] = []
    if project:
        project_id = project_row(connection, project).project_id
        live.append(o.project_id == project_id)
        placed.append(t.sources.c.project_id == project_id)

    def count(statement: sa.Select[Any]) -> int:
        return int(connection.execute(statement).scalar_one())

    def grouped(column: sa.Column[Any], *joined: Any) -> dict[str, int]:
        number = sa.func.count()
        statement = sa.select(column, number).select_from(*joined).where(*live).group_by(column)
        return {str(row[0]): int(row[1]) for row in connection.execute(statement.order_by(number.desc(), column))}

    total, score, masks, vectors = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.avg(o.score),
            sa.func.count(sa.case((o.mask_path != "", 1))),
            sa.func.count(o.embedder_id),
        ).where(*live)
    ).one()
    states = {state.value: 0 for state in ReviewState} | grouped(o.state, t.objects)
    validated = sum(states[state.value] for state in ReviewState if state.validated)
    of_source = t.sources.c.source_row
    in_category = t.objects.join(t.categories, t.categories.c.category_id == o.category_id)
    return Statistics(
        objects=total,
        sources=count(sa.select(sa.func.count()).select_from(t.sources).where(*placed)),
        images=count(sa.select(sa.func.count()).select_from(t.images.join(t.sources)).where(*placed)),
        tracks=count(
            sa.select(sa.func.count())
            .select_from(t.tracks.join(t.sources, of_source == t.tracks.c.source_row))
            .where(*placed)
        ),
        with_mask=masks,
        with_embedding=vectors,
        by_category=grouped(t.categories.c.name, in_category),
        by_state=states,
        by_model=grouped(t.origins.c.model, t.objects.join(t.origins)),
        mean_score=float(score or 0.0),
        validated_share=validated / total if total else 0.0,
    )
