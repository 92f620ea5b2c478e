# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of datasets and who is in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "datasets",
        sa.Column("dataset_row", BIG, nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("description", JSON, nullable=False),
        sa.Column("last_change", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.project_id"], name=op.f("fk_datasets_project_id_projects")),
        sa.PrimaryKeyConstraint("dataset_row", name=op.f("pk_datasets")),
        sa.UniqueConstraint("dataset_id", name=op.f("uq_datasets_dataset_id")),
        sa.UniqueConstraint("project_id", "name", "version", name=op.f("uq_datasets_project_id_name_version")),
    )
    op.create_table(
        "dataset_members",
        sa.Column("dataset_row", BIG, nullable=False),
        sa.Column("row_id", BIG, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_row"], ["datasets.dataset_row"], name=op.f("fk_dataset_members_dataset_row_datasets")
        ),
        sa.ForeignKeyConstraint(["row_id"], ["objects.row_id"], name=op.f("fk_dataset_members_row_id_objects")),
        sa.PrimaryKeyConstraint("dataset_row", "row_id", name=op.f("pk_dataset_members")),
    )


def downgrade() -> None:
    """Drop the tables with what they hold."""
    op.drop_table("dataset_members")
    op.drop_table("datasets")
