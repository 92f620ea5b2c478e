# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Projects, sources, images, categories, objects with their vectors, history and batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
LIVE = sa.text("deleted_ns IS NULL")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "batches",
        sa.Column("batch_key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("first_row", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_key", name=op.f("pk_batches")),
    )
    op.create_table(
        "embedders",
        sa.Column("embedder_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("embedder_id", name=op.f("pk_embedders")),
        sa.UniqueConstraint("name", "revision", "dimension", name=op.f("uq_embedders_name_revision_dimension")),
    )
    op.create_table(
        "origins",
        sa.Column("origin_id", BIG, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("origin_id", name=op.f("pk_origins")),
        sa.UniqueConstraint(
            "model", "revision", "prompt", "threshold", name=op.f("uq_origins_model_revision_prompt_threshold")
        ),
    )
    op.create_table(
        "projects",
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("closed_vocabulary", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    op.create_table(
        "categories",
        sa.Column("category_id", BIG, nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("synonyms", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.project_id"], name=op.f("fk_categories_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("category_id", name=op.f("pk_categories")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_categories_project_id_name")),
    )
    op.create_table(
        "sources",
        sa.Column("source_row", BIG, nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("episode", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("captured_ns", sa.BigInteger(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.project_id"], name=op.f("fk_sources_project_id_projects")),
        sa.PrimaryKeyConstraint("source_row", name=op.f("pk_sources")),
        sa.UniqueConstraint(
            "project_id", "kind", "path", "episode", name=op.f("uq_sources_project_id_kind_path_episode")
        ),
        sa.UniqueConstraint("source_id", name=op.f("uq_sources_source_id")),
    )
    op.create_index(op.f("ix_sources_episode"), "sources", ["episode"], unique=False)
    op.create_table(
        "images",
        sa.Column("image_row", BIG, nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("source_row", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("stamp_ns", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.CheckConstraint("width > 0 AND height > 0", name=op.f("ck_images_area")),
        sa.ForeignKeyConstraint(["source_row"], ["sources.source_row"], name=op.f("fk_images_source_row_sources")),
        sa.PrimaryKeyConstraint("image_row", name=op.f("pk_images")),
        sa.UniqueConstraint("image_id", name=op.f("uq_images_image_id")),
        sa.UniqueConstraint("source_row", "frame", "name", name=op.f("uq_images_source_row_frame_name")),
    )
    op.create_index(op.f("ix_images_stamp_ns"), "images", ["stamp_ns"], unique=False)
    op.create_table(
        "tracks",
        sa.Column("track_row", BIG, nullable=False),
        sa.Column("track_id", sa.Text(), nullable=False),
        sa.Column("source_row", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_row"], ["sources.source_row"], name=op.f("fk_tracks_source_row_sources")),
        sa.PrimaryKeyConstraint("track_row", name=op.f("pk_tracks")),
        sa.UniqueConstraint("source_row", "name", name=op.f("uq_tracks_source_row_name")),
        sa.UniqueConstraint("track_id", name=op.f("uq_tracks_track_id")),
    )
    op.create_table(
        "objects",
        sa.Column("row_id", BIG, autoincrement=False, nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("project_id", BIG, nullable=False),
        sa.Column("category_id", BIG, nullable=False),
        sa.Column("source_row", BIG, nullable=False),
        sa.Column("image_row", BIG, nullable=False),
        sa.Column("track_row", BIG, nullable=True),
        sa.Column("origin_id", BIG, nullable=False),
        sa.Column("embedder_id", BIG, nullable=True),
        sa.Column("box_left", sa.Float(), nullable=False),
        sa.Column("box_top", sa.Float(), nullable=False),
        sa.Column("box_right", sa.Float(), nullable=False),
        sa.Column("box_bottom", sa.Float(), nullable=False),
        sa.Column("box_convention", sa.Text(), nullable=False),
        sa.Column("area", sa.Float(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("score_kind", sa.Text(), nullable=False),
        sa.Column("mask_path", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("validated_by", sa.Text(), nullable=False),
        sa.Column("validated_ns", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.Float(), nullable=True),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("updated_ns", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted_ns", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('unreviewed', 'accepted', 'rejected', 'relabelled')", name=op.f("ck_objects_state")
        ),
        sa.CheckConstraint("box_right > box_left AND box_bottom > box_top", name=op.f("ck_objects_box")),
        sa.CheckConstraint("score >= 0 AND score <= 1", name=op.f("ck_objects_score")),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.category_id"], name=op.f("fk_objects_category_id_categories")
        ),
        sa.ForeignKeyConstraint(
            ["embedder_id"], ["embedders.embedder_id"], name=op.f("fk_objects_embedder_id_embedders")
        ),
        sa.ForeignKeyConstraint(["image_row"], ["images.image_row"], name=op.f("fk_objects_image_row_images")),
        sa.ForeignKeyConstraint(["origin_id"], ["origins.origin_id"], name=op.f("fk_objects_origin_id_origins")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.project_id"], name=op.f("fk_objects_project_id_projects")),
        sa.ForeignKeyConstraint(["source_row"], ["sources.source_row"], name=op.f("fk_objects_source_row_sources")),
        sa.ForeignKeyConstraint(["track_row"], ["tracks.track_row"], name=op.f("fk_objects_track_row_tracks")),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_objects")),
        sa.UniqueConstraint("object_id", name=op.f("uq_objects_object_id")),
    )
    op.create_index(
        "ix_objects_category_age",
        "objects",
        ["category_id", "row_id"],
        unique=False,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index(
        "ix_objects_category_score",
        "objects",
        ["category_id", "score", "row_id"],
        unique=False,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index(
        "ix_objects_embedder",
        "objects",
        ["embedder_id", "project_id"],
        unique=False,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index("ix_objects_image", "objects", ["image_row"], unique=False)
    op.create_index(
        "ix_objects_project_age",
        "objects",
        ["project_id", "row_id"],
        unique=False,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index(
        "ix_objects_project_score",
        "objects",
        ["project_id", "score", "row_id"],
        unique=False,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index(
        "ix_objects_score", "objects", ["score", "row_id"], unique=False, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_index("ix_objects_source", "objects", ["source_row", "row_id"], unique=False)
    op.create_index(
        "ix_objects_state_age", "objects", ["state", "row_id"], unique=False, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_index(
        "ix_objects_state_score",
        "objects",
        ["state", "score", "row_id"],
        unique=False,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.create_index("ix_objects_track", "objects", ["track_row"], unique=False)
    op.create_table(
        "history",
        sa.Column("change_id", BIG, autoincrement=False, nullable=False),
        sa.Column("row_id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("stamp_ns", sa.BigInteger(), nullable=False),
        sa.Column("before", JSON, nullable=False),
        sa.Column("after", JSON, nullable=False),
        sa.Column("undoes", sa.BigInteger(), nullable=True),
        sa.Column("undone", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["row_id"], ["objects.row_id"], name=op.f("fk_history_row_id_objects")),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_history")),
    )
    op.create_index("ix_history_object", "history", ["row_id", "change_id"], unique=False)
    op.create_index("ix_history_who", "history", ["who", "change_id"], unique=False)
    op.create_table(
        "vectors",
        sa.Column("row_id", BIG, autoincrement=False, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["row_id"], ["objects.row_id"], name=op.f("fk_vectors_row_id_objects")),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_vectors")),
    )


def downgrade() -> None:
    """Drop the tables with what they hold."""
    op.drop_table("vectors")
    op.drop_table("history")
    op.drop_table("objects")
    op.drop_table("tracks")
    op.drop_table("images")
    op.drop_table("sources")
    op.drop_table("categories")
    op.drop_table("settings")
    op.drop_table("projects")
    op.drop_table("origins")
    op.drop_table("embedders")
    op.drop_table("batches")
