# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can be done with objects, and what a robot did with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "sequences",
        sa.Column("sequence_row", BIG, nullable=False),
        sa.Column("sequence_id", sa.Text(), nullable=False),
        sa.Column("source_row", BIG, nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("episode", sa.Text(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("period_ns", sa.BigInteger(), nullable=False),
        sa.Column("actions", sa.LargeBinary(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_row"], ["sources.source_row"], name=op.f("fk_sequences_source_row_sources")),
        sa.PrimaryKeyConstraint("sequence_row", name=op.f("pk_sequences")),
        sa.UniqueConstraint("sequence_id", name=op.f("uq_sequences_sequence_id")),
    )
    op.create_index(op.f("ix_sequences_episode"), "sequences", ["episode"], unique=False)
    op.create_table(
        "affordances",
        sa.Column("affordance_id", BIG, nullable=False),
        sa.Column("row_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("score_kind", sa.Text(), nullable=False),
        sa.Column("episode", sa.Text(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("score >= 0 AND score <= 1", name=op.f("ck_affordances_score")),
        sa.ForeignKeyConstraint(["row_id"], ["objects.row_id"], name=op.f("fk_affordances_row_id_objects")),
        sa.PrimaryKeyConstraint("affordance_id", name=op.f("pk_affordances")),
        sa.UniqueConstraint("row_id", "name", "episode", name=op.f("uq_affordances_row_id_name_episode")),
    )
    op.create_index("ix_affordances_name", "affordances", ["name"], unique=False)
    op.create_table(
        "sequence_objects",
        sa.Column("sequence_row", BIG, nullable=False),
        sa.Column("row_id", BIG, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["row_id"], ["objects.row_id"], name=op.f("fk_sequence_objects_row_id_objects")),
        sa.ForeignKeyConstraint(
            ["sequence_row"], ["sequences.sequence_row"], name=op.f("fk_sequence_objects_sequence_row_sequences")
        ),
        sa.PrimaryKeyConstraint("sequence_row", "row_id", "role", name=op.f("pk_sequence_objects")),
    )
    op.create_index(op.f("ix_sequence_objects_row_id"), "sequence_objects", ["row_id"], unique=False)


def downgrade() -> None:
    """Drop the tables with what they hold."""
    op.drop_table("sequence_objects")
    op.drop_table("affordances")
    op.drop_table("sequences")
