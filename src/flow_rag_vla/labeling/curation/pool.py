# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Objects of a registry with their vectors, as arrays: what every score of this package is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Boxes, ScoreKind, Vectors
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import chunks
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode
from flow_rag_vla.labeling.registry.filtering import filter_clauses
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.reading import ReadingRegistry
from flow_rag_vla.labeling.registry.values import ChangeKind, Embedder, ReviewState

_o = t.objects.c
_Value = TypeVar("_Value")
_BY_PEOPLE = (ScoreKind.HUMAN.value, ScoreKind.GROUND_TRUTH.value)


@dataclass(frozen=True, slots=True)
class Pool:
    """N live objects with vectors of one embedder, in the order of registration.

    object_ids, labels, image_ids, source_ids: N each; vectors: (N, D) float32 of unit length
    proposed: the N labels that were registered, before anybody changed them
    scores: (N,) float64, 0 to 1: how sure the model was of what it proposed; NaN where a person drew the object
    states: N review states; boxes: (N, 4) float32, left, top, right, bottom in pixels
    stamps_ns: (N,) int64, times of capture, 0 unknown; embedder: None in an empty pool
    without_vector: live objects that pass the filter and have no vector: they are not in the pool
    qualities: (N,) float64, 0 to 1, NaN where nobody gave one; empty where they were not read
    """

    object_ids: tuple[str, ...]
    vectors: Vectors
    labels: tuple[str, ...]
    proposed: tuple[str, ...]
    scores: NDArray[np.float64]
    states: tuple[ReviewState, ...]
    image_ids: tuple[str, ...]
    source_ids: tuple[str, ...]
    boxes: Boxes
    stamps_ns: NDArray[np.int64]
    embedder: Embedder | None = None
    without_vector: int = 0
    qualities: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.object_ids)

    def rows(self, *states: ReviewState) -> NDArray[np.int64]:
        """Positions of the objects in one of some states."""
        return np.flatnonzero([state in states for state in self.states]).astype(np.int64)

    def at(self, rows: NDArray[np.int64]) -> Pool:
        """Some of the objects, in the order given."""

        def some(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
            return tuple(values[row] for row in rows.tolist())

        return replace(
            self,
            object_ids=some(self.object_ids),
            vectors=self.vectors[rows],
            labels=some(self.labels),
            proposed=some(self.proposed),
            scores=self.scores[rows],
            states=some(self.states),
            image_ids=some(self.image_ids),
            source_ids=some(self.source_ids),
            boxes=self.boxes[rows],
            stamps_ns=self.stamps_ns[rows],
            qualities=self.qualities[rows] if len(self.qualities) else self.qualities,
        )


def read_pool(registry: ReadingRegistry, where: ObjectFilter | None = None, *, most: int = 0) -> Pool:
    """Read the live objects that pass a filter and have a vector.

    Args:
        registry: an open registry.
        where: which; None for all.
        most: of more, those with the lowest scores are taken; 0: all.

    Raises:
        ConflictError: ``embedder_mismatch``: the objects have vectors of several embedders, which do not compare.
        InvalidInputError, UnknownError: the filter makes no sense.
    """
    where = where or ObjectFilter()
    with registry.database.read() as connection:
        clauses = filter_clauses(connection, where)
        embedder_id, embedder = _one_embedder(connection, clauses)
        bare = sa.select(sa.func.count()).select_from(t.objects).where(*clauses, _o.embedder_id.is_(None))
        without = int(connection.execute(bare).scalar_one())
        chosen = sa.select(_o.row_id).where(*clauses, _o.embedder_id == embedder_id)
        if most:
            chosen = chosen.order_by(_o.score, _o.row_id).limit(most)
        rows = connection.execute(_columns().where(_o.row_id.in_(chosen)).order_by(_o.row_id)).all()
        first = _first_labels(connection, [row for row in rows if row.version > 1])
    dimension = embedder.dimension if embedder is not None else 0
    vectors = np.frombuffer(b"".join(row.value for row in rows), "<f4").reshape(len(rows), dimension)
    return Pool(
        object_ids=tuple(row.object_id for row in rows),
        vectors=np.array(vectors, np.float32),
        labels=tuple(row.category for row in rows),
        proposed=tuple(first.get(row.row_id, row.category) for row in rows),
        scores=np.array([np.nan if row.score_kind in _BY_PEOPLE else row.score for row in rows], np.float64),
        states=tuple(ReviewState(row.state) for row in rows),
        image_ids=tuple(row.image_id for row in rows),
        source_ids=tuple(row.source_id for row in rows),
        boxes=np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        stamps_ns=np.array([row.stamp_ns for row in rows], np.int64),
        embedder=embedder,
        without_vector=without,
        qualities=np.array([np.nan if row.quality is None else row.quality for row in rows], np.float64),
    )


def _one_embedder(connection: sa.Connection, clauses: Sequence[Any]) -> tuple[int, Embedder | None]:
    held = sa.select(_o.embedder_id).where(*clauses, _o.embedder_id.is_not(None)).distinct()
    found = connection.execute(sa.select(t.embedders).where(t.embedders.c.embedder_id.in_(held))).all()
    names = [Embedder(row.name, row.revision, row.dimension) for row in found]
    if len(found) > 1:
        raise ConflictError(
            ErrorCode.EMBEDDER_MISMATCH,
            f"these objects have vectors of {' and '.join(sorted(map(str, names)))}, which do not compare",
            "embed all with one embedder (set_embeddings), or look at one project",
        )
    return (int(found[0].embedder_id), names[0]) if found else (-1, None)


def _columns() -> sa.Select[Any]:
    joined = (
        t.objects.join(t.vectors, t.vectors.c.row_id == _o.row_id)
        .join(t.categories, t.categories.c.category_id == _o.category_id)
        .join(t.images, t.images.c.image_row == _o.image_row)
        .join(t.sources, t.sources.c.source_row == _o.source_row)
    )
    return sa.select(
        _o.box_left,
        _o.box_top,
        _o.box_right,
        _o.box_bottom,
        _o.row_id,
        _o.object_id,
        _o.score,
        _o.score_kind,
        _o.quality,
        _o.state,
        _o.version,
        t.vectors.c.value,
        t.categories.c.name.label("category"),
        t.images.c.image_id,
        t.images.c.stamp_ns,
        t.sources.c.source_id,
        _o.project_id,
    ).select_from(joined)


def _first_labels(connection: sa.Connection, rows: Sequence[Any]) -> dict[int, str]:
    """Labels as they were registered, of the objects among these whose label was ever changed.

    A category that was renamed, or merged into another one, is called as it is now.
    """
    h = t.history.c
    found: dict[int, str] = {}
    for part in chunks([row.row_id for row in rows]):
        changed = sa.and_(h.row_id.in_(part), h.kind == ChangeKind.UPDATED.value)
        for row_id, before in connection.execute(sa.select(h.row_id, h.before).where(changed).order_by(h.change_id)):
            if "category" in before:
                found.setdefault(row_id, str(before["category"]))
    if not found:
        return found
    categories = connection.execute(sa.select(t.categories)).all()
    means = {(row.project_id, word): row.name for row in categories for word in row.synonyms}
    means.update({(row.project_id, row.name): row.name for row in categories})
    project = {row.row_id: row.project_id for row in rows}
    return {row_id: means.get((project[row_id], label), label) for row_id, label in found.items()}


def last_change(registry: ReadingRegistry) -> int:
    """Number of the newest change, 0 before the first: what was computed at another may be out of date."""
    with registry.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.max(t.history.c.change_id))).scalar() or 0)
