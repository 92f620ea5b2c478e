# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of the registry, as the newest migration leaves them (a test compares the two).

``row_id`` and ``change_id`` are handed out under the write lock and never reused: they rise in the order of commits.
Nothing is ever deleted from ``objects`` and ``history``: an object that was deleted carries ``deleted_ns``.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMES)

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers rows itself only in a column of the type INTEGER."""
JSON = sa.JSON().with_variant(JSONB, "postgresql")
LIVE = "deleted_ns IS NULL"


def _column(name: str, kind: Any, *rest: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, *rest, nullable=options.pop("nullable", False), **options)


def _live_index(name: str, *columns: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(LIVE), postgresql_where=sa.text(LIVE))


settings = sa.Table(
    "settings",
    metadata,
    _column("name", sa.Text, primary_key=True),
    _column("value", sa.Text),
)

projects = sa.Table(
    "projects",
    metadata,
    _column("project_id", BIG, primary_key=True),
    _column("name", sa.Text, unique=True),
    _column("closed_vocabulary", sa.Boolean),
    _column("description", sa.Text),
    _column("created_ns", sa.BigInteger),
)

categories = sa.Table(
    "categories",
    metadata,
    _column("category_id", BIG, primary_key=True),
    _column("project_id", sa.ForeignKey("projects.project_id")),
    _column("name", sa.Text),
    _column("synonyms", JSON),
    sa.UniqueConstraint("project_id", "name"),
)

sources = sa.Table(
    "sources",
    metadata,
    _column("source_row", BIG, primary_key=True),
    _column("source_id", sa.Text, unique=True),
    _column("project_id", sa.ForeignKey("projects.project_id")),
    _column("kind", sa.Text),
    _column("path", sa.Text),
    _column("episode", sa.Text, index=True),
    _column("width", sa.Integer),
    _column("height", sa.Integer),
    _column("captured_ns", sa.BigInteger),
    _column("licence", sa.Text),
    _column("attributes", JSON),
    _column("created_ns", sa.BigInteger),
    sa.UniqueConstraint("project_id", "kind", "path", "episode"),
)

images = sa.Table(
    "images",
    metadata,
    _column("image_row", BIG, primary_key=True),
    _column("image_id", sa.Text, unique=True),
    _column("source_row", sa.ForeignKey("sources.source_row")),
    _column("name", sa.Text),
    _column("frame", sa.Integer),
    _column("stamp_ns", sa.BigInteger, index=True),
    _column("width", sa.Integer),
    _column("height", sa.Integer),
    _column("digest", sa.Text, index=True),
    sa.UniqueConstraint("source_row", "frame", "name"),
    sa.CheckConstraint("width > 0 AND height > 0", name="area"),
)

tracks = sa.Table(
    "tracks",
    metadata,
    _column("track_row", BIG, primary_key=True),
    _column("track_id", sa.Text, unique=True),
    _column("source_row", sa.ForeignKey("sources.source_row")),
    _column("name", sa.Text),
    _column("created_ns", sa.BigInteger),
    sa.UniqueConstraint("source_row", "name"),
)

origins = sa.Table(
    "origins",
    metadata,
    _column("origin_id", BIG, primary_key=True),
    _column("model", sa.Text),
    _column("revision", sa.Text),
    _column("prompt", sa.Text),
    _column("threshold", sa.Float),
    sa.UniqueConstraint("model", "revision", "prompt", "threshold"),
)

embedders = sa.Table(
    "embedders",
    metadata,
    _column("embedder_id", BIG, primary_key=True),
    _column("name", sa.Text),
    _column("revision", sa.Text),
    _column("dimension", sa.Integer),
    sa.UniqueConstraint("name", "revision", "dimension"),
)

objects = sa.Table(
    "objects",
    metadata,
    _column("row_id", BIG, primary_key=True, autoincrement=False),
    _column("object_id", sa.Text, unique=True),
    _column("project_id", sa.ForeignKey("projects.project_id")),
    _column("category_id", sa.ForeignKey("categories.category_id")),
    _column("source_row", sa.ForeignKey("sources.source_row")),
    _column("image_row", sa.ForeignKey("images.image_row")),
    _column("track_row", sa.ForeignKey("tracks.track_row"), nullable=True),
    _column("origin_id", sa.ForeignKey("origins.origin_id")),
    _column("embedder_id", sa.ForeignKey("embedders.embedder_id"), nullable=True),
    _column("box_left", sa.Float),
    _column("box_top", sa.Float),
    _column("box_right", sa.Float),
    _column("box_bottom", sa.Float),
    _column("box_convention", sa.Text),
    _column("area", sa.Float),
    _column("score", sa.Float),
    _column("score_kind", sa.Text),
    _column("mask_path", sa.Text),
    _column("state", sa.Text),
    _column("validated_by", sa.Text),
    _column("validated_ns", sa.BigInteger),
    _column("quality", sa.Float, nullable=True),
    _column("attributes", JSON),
    _column("created_ns", sa.BigInteger),
    _column("updated_ns", sa.BigInteger),
    _column("version", sa.Integer),
    _column("deleted_ns", sa.BigInteger, nullable=True),
    sa.CheckConstraint("box_right > box_left AND box_bottom > box_top", name="box"),
    sa.CheckConstraint("score >= 0 AND score <= 1", name="score"),
    sa.CheckConstraint("state IN ('unreviewed', 'accepted', 'rejected', 'relabelled')", name="state"),
    # A listing filters by one of these and sorts by score or by age.
    _live_index("ix_objects_category_score", "category_id", "score", "row_id"),
    _live_index("ix_objects_category_age", "category_id", "row_id"),
    _live_index("ix_objects_state_score", "state", "score", "row_id"),
    _live_index("ix_objects_state_age", "state", "row_id"),
    _live_index("ix_objects_project_score", "project_id", "score", "row_id"),
    _live_index("ix_objects_project_age", "project_id", "row_id"),
    _live_index("ix_objects_score", "score", "row_id"),
    _live_index("ix_objects_embedder", "embedder_id", "project_id"),
    sa.Index("ix_objects_image", "image_row"),
    sa.Index("ix_objects_source", "source_row", "row_id"),
    sa.Index("ix_objects_track", "track_row"),
)

vectors = sa.Table(
    "vectors",
    metadata,
    _column("row_id", sa.ForeignKey("objects.row_id"), primary_key=True, autoincrement=False),
    _column("value", sa.LargeBinary),  # little-endian float32, of the embedder that objects.embedder_id names
)

history = sa.Table(
    "history",
    metadata,
    _column("change_id", BIG, primary_key=True, autoincrement=False),
    _column("row_id", sa.ForeignKey("objects.row_id")),
    _column("kind", sa.Text),
    _column("who", sa.Text),
    _column("stamp_ns", sa.BigInteger),
    _column("before", JSON),
    _column("after", JSON),
    _column("undoes", sa.BigInteger, nullable=True),
    _column("undone", sa.Boolean),
    sa.Index("ix_history_object", "row_id", "change_id"),
    sa.Index("ix_history_who", "who", "change_id"),
)

batches = sa.Table(
    "batches",
    metadata,
    _column("batch_key", sa.Text, primary_key=True),
    _column("digest", sa.Text),
    _column("first_row", sa.BigInteger),
    _column("count", sa.Integer),
    _column("who", sa.Text),
    _column("created_ns", sa.BigInteger),
)

labels = sa.Table(
    "labels",
    metadata,
    _column("label_row", BIG, primary_key=True),
    _column("row_id", sa.ForeignKey("objects.row_id")),
    _column("origin_id", sa.ForeignKey("origins.origin_id")),
    _column("category_id", sa.ForeignKey("categories.category_id")),
    _column("box_left", sa.Float),
    _column("box_top", sa.Float),
    _column("box_right", sa.Float),
    _column("box_bottom", sa.Float),
    _column("score", sa.Float),
    _column("score_kind", sa.Text),
    _column("who", sa.Text),
    _column("created_ns", sa.BigInteger),
    _column("change_id", sa.BigInteger),  # of the history: the change by which it stands, or by which it was taken back
    _column("withdrawn_ns", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("row_id", "origin_id"),
)

affordances = sa.Table(
    "affordances",
    metadata,
    _column("affordance_id", BIG, primary_key=True),
    _column("row_id", sa.ForeignKey("objects.row_id")),
    _column("name", sa.Text),
    _column("score", sa.Float),
    _column("score_kind", sa.Text),
    _column("episode", sa.Text),
    _column("parameters", JSON),
    _column("who", sa.Text),
    _column("created_ns", sa.BigInteger),
    sa.UniqueConstraint("row_id", "name", "episode"),
    sa.CheckConstraint("score >= 0 AND score <= 1", name="score"),
    sa.Index("ix_affordances_name", "name"),
)

sequences = sa.Table(
    "sequences",
    metadata,
    _column("sequence_row", BIG, primary_key=True),
    _column("sequence_id", sa.Text, unique=True),
    _column("source_row", sa.ForeignKey("sources.source_row")),
    _column("instruction", sa.Text),
    _column("episode", sa.Text, index=True),
    _column("start_ns", sa.BigInteger),
    _column("period_ns", sa.BigInteger),
    _column("actions", sa.LargeBinary),  # row-major little-endian float32 (steps x width)
    _column("width", sa.Integer),
    _column("succeeded", sa.Boolean, nullable=True),
    _column("who", sa.Text),
    _column("created_ns", sa.BigInteger),
)

sequence_objects = sa.Table(
    "sequence_objects",
    metadata,
    _column("sequence_row", sa.ForeignKey("sequences.sequence_row"), primary_key=True),
    _column("row_id", sa.ForeignKey("objects.row_id"), primary_key=True, index=True),
    _column("role", sa.Text, primary_key=True),
)

datasets = sa.Table(
    "datasets",
    metadata,
    _column("dataset_row", BIG, primary_key=True),
    _column("dataset_id", sa.Text, unique=True),
    _column("project_id", sa.ForeignKey("projects.project_id")),
    _column("name", sa.Text),
    _column("version", sa.Integer),
    _column("description", JSON),
    _column("last_change", sa.BigInteger),
    _column("who", sa.Text),
    _column("created_ns", sa.BigInteger),
    sa.UniqueConstraint("project_id", "name", "version"),
)

dataset_members = sa.Table(
    "dataset_members",
    metadata,
    _column("dataset_row", sa.ForeignKey("datasets.dataset_row"), primary_key=True),
    _column("row_id", sa.ForeignKey("objects.row_id"), primary_key=True),
    _column("version", sa.Integer),
    _column("split", sa.Text),
)
