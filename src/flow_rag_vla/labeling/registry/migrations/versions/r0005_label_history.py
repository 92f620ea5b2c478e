# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What further models said becomes part of the history, and can be taken back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_LABELS = sa.table(
    "labels",
    *(sa.column(name) for name in ("label_row", "row_id", "origin_id", "category_id")),
    *(sa.column(name) for name in ("box_left", "box_top", "box_right", "box_bottom", "score", "who", "created_ns")),
    *(sa.column(name) for name in ("change_id", "withdrawn_ns")),
)
_ORIGINS = sa.table("origins", *(sa.column(name) for name in ("origin_id", "model", "revision")))
_CATEGORIES = sa.table("categories", *(sa.column(name) for name in ("category_id", "name")))
_HISTORY = sa.table(
    "history",
    *(sa.column(name) for name in ("change_id", "row_id", "kind", "who", "stamp_ns", "undoes")),
    sa.column("before", JSON),
    sa.column("after", JSON),
    sa.column("undone", sa.Boolean()),
)


def upgrade() -> None:
    """Add the columns, and a row of history for each label that is there."""
    op.add_column("labels", sa.Column("change_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("labels", sa.Column("withdrawn_ns", sa.BigInteger(), nullable=True))
    connection = op.get_bind()
    change = int(connection.execute(sa.select(sa.func.max(_HISTORY.c.change_id))).scalar() or 0)
    joined = _LABELS.join(_ORIGINS, _ORIGINS.c.origin_id == _LABELS.c.origin_id).join(
        _CATEGORIES, _CATEGORIES.c.category_id == _LABELS.c.category_id
    )
    columns = (_LABELS, _ORIGINS.c.model, _ORIGINS.c.revision, _CATEGORIES.c.name)
    for row in connection.execute(sa.select(*columns).select_from(joined).order_by(_LABELS.c.label_row)).all():
        change += 1
        said = {
            "label": row.label_row,
            "category": row.name,
            "box": [row.box_left, row.box_top, row.box_right, row.box_bottom],
            "score": row.score,
            "model": row.model,
            "revision": row.revision,
        }
        values = {"change_id": change, "row_id": row.row_id, "kind": "labelled", "who": row.who, "undone": False}
        connection.execute(_HISTORY.insert().values(**values, stamp_ns=row.created_ns, before={}, after=said))
        connection.execute(_LABELS.update().where(_LABELS.c.label_row == row.label_row).values(change_id=change))


def downgrade() -> None:
    """Drop the columns with the history of labels, and the labels that were taken back."""
    connection = op.get_bind()
    connection.execute(_LABELS.delete().where(_LABELS.c.withdrawn_ns.is_not(None)))
    columns = _HISTORY.c.change_id, _HISTORY.c.before, _HISTORY.c.after
    kinds = _HISTORY.c.kind.in_(("labelled", "undone"))
    for row in connection.execute(sa.select(*columns).where(kinds)).all():
        if "label" in {**row.before, **row.after}:
            connection.execute(_HISTORY.delete().where(_HISTORY.c.change_id == row.change_id))
    op.drop_column("labels", "withdrawn_ns")
    op.drop_column("labels", "change_id")
