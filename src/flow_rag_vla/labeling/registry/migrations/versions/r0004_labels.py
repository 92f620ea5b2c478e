# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What further models said of an object that is there; pictures by their digest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table and the index."""
    op.create_table(
        "labels",
        sa.Column("label_row", BIG, nullable=False),
        sa.Column("row_id", BIG, nullable=False),
        sa.Column("origin_id", BIG, nullable=False),
        sa.Column("category_id", BIG, nullable=False),
        sa.Column("box_left", sa.Float(), nullable=False),
        sa.Column("box_top", sa.Float(), nullable=False),
        sa.Column("box_right", sa.Float(), nullable=False),
        sa.Column("box_bottom", sa.Float(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("score_kind", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["row_id"], ["objects.row_id"], name=op.f("fk_labels_row_id_objects")),
        sa.ForeignKeyConstraint(["origin_id"], ["origins.origin_id"], name=op.f("fk_labels_origin_id_origins")),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.category_id"], name=op.f("fk_labels_category_id_categories")
        ),
        sa.PrimaryKeyConstraint("label_row", name=op.f("pk_labels")),
        sa.UniqueConstraint("row_id", "origin_id", name=op.f("uq_labels_row_id_origin_id")),
    )
    op.create_index(op.f("ix_images_digest"), "images", ["digest"])


def downgrade() -> None:
    """Drop the table with what it holds."""
    op.drop_index(op.f("ix_images_digest"), table_name="images")
    op.drop_table("labels")
