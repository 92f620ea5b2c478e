# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can be read of a registry: objects, pages, history, masks, vectors, similar objects, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import changing
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.cataloguing import CataloguingRegistry
from flow_rag_vla.labeling.registry.counting import statistics
from flow_rag_vla.labeling.registry.errors import ErrorCode, UnknownError
from flow_rag_vla.labeling.registry.filtering import filter_clauses
from flow_rag_vla.labeling.registry.labels import first_label, labels_of
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, Page, SearchAnswer, Statistics
from flow_rag_vla.labeling.registry.registering import content_digest, known_batch, unit_vector
from flow_rag_vla.labeling.registry.rows import object_of, object_row, objects_by_id, page_of
from flow_rag_vla.labeling.registry.searching import MOST_HITS
from flow_rag_vla.labeling.registry.values import (
    Batch,
    Change,
    Embedder,
    LabelledObject,
    Mask,
    ObjectLabel,
    Vector,
)


class ReadingRegistry(CataloguingRegistry):
    """The part of a registry that reads objects; nothing here waits for a writer."""

    def get(self, object_id: str) -> LabelledObject:
        """An object, deleted or not.

        Raises:
            UnknownError: there never was such an object.
        """
        with self.database.read() as connection:
            return object_of(object_row(connection, object_id))

    def get_many(self, object_ids: Sequence[str]) -> tuple[LabelledObject, ...]:
        """Objects, deleted or not, in the order asked for.

        Raises:
            UnknownError: one of them never was.
        """
        with self.database.read() as connection:
            found = objects_by_id(connection, object_ids)
        for object_id in object_ids:
            if object_id not in found:
                remedy = "list the objects to see which ids there are"
                raise UnknownError(ErrorCode.UNKNOWN_OBJECT, f"there is no object {object_id[:80]!r}", remedy)
        return tuple(found[object_id] for object_id in object_ids)

    def list_objects(
        self,
        where: ObjectFilter | None = None,
        *,
        order: Order = Order.NEWEST,
        limit: int = 50,
        cursor: str = "",
    ) -> Page:
        """Live objects page by page.

        Args:
            where: which; None for all.
            order: see Order.
            limit: objects a page, 1 to 1000.
            cursor: that of the page before, "" for the first.

        Raises:
            InvalidInputError: a filter, limit or cursor that makes no sense; an unknown category.
            UnknownError: an unknown project.
        """
        with self.database.read() as connection:
            return page_of(connection, where or ObjectFilter(), order, limit, cursor)

    def count(self, where: ObjectFilter | None = None) -> int:
        """Number of live objects that pass a filter; looks at each, unlike a page.

        Raises:
            InvalidInputError, UnknownError: see ``list_objects``.
        """
        with self.database.read() as connection:
            clauses = filter_clauses(connection, where or ObjectFilter())
            return int(
                connection.execute(sa.select(sa.func.count()).select_from(t.objects).where(*clauses)).scalar_one()
            )

    def batch(self, key: str, content: str = "") -> Batch | None:
        """What was registered under a key; None: nothing was.

        Args:
            key: the key.
            content: what it must have been registered for, see ``Registry.register``; "" for whatever it was.

        Raises:
            ConflictError: ``batch_key_reused``: it was for something else.
        """
        with self.database.read() as connection:
            return known_batch(connection, key, content_digest(content) if content else "")

    def labels(self, object_ids: Sequence[str]) -> Mapping[str, tuple[ObjectLabel, ...]]:
        """What further models said of objects, oldest first, by object id; see ``Registry.add_labels``.

        What was taken back is left out; the history has it.
        """
        with self.database.read() as connection:
            return labels_of(connection, object_ids)

    def first_label(self, object_id: str) -> ObjectLabel:
        """What an object was registered as, whatever was made of it since.

        Raises:
            UnknownError: there is no such object.
        """
        with self.database.read() as connection:
            row = object_row(connection, object_id)
            return first_label(object_of(row), self._history(connection, row.row_id))

    def history(self, object_id: str) -> tuple[Change, ...]:
        """Every change of an object, oldest first.

        Raises:
            UnknownError: there is no such object.
        """
        with self.database.read() as connection:
            return self._history(connection, object_row(connection, object_id).row_id)

    @staticmethod
    def _history(connection: sa.Connection, row_id: int) -> tuple[Change, ...]:
        statement = changing.select_changes().where(t.history.c.row_id == row_id)
        rows = connection.execute(statement.order_by(t.history.c.change_id))
        return tuple(changing.change_of(row) for row in rows)

    def changes(self, *, after: int = 0, limit: int = 1_000) -> tuple[Change, ...]:
        """Changes of all objects in the order of commits; ``after``: the last change id seen."""
        statement = changing.select_changes().where(t.history.c.change_id > after)
        with self.database.read() as connection:
            rows = connection.execute(statement.order_by(t.history.c.change_id).limit(limit))
            return tuple(changing.change_of(row) for row in rows)

    def changes_by_id(self, change_ids: Sequence[int]) -> tuple[Change, ...]:
        """Changes by their ids, in the order of commits.

        Raises:
            UnknownError: there is no such change.
        """
        with self.database.read() as connection:
            found = changing.changes_of(connection, change_ids)
        missing = sorted(set(change_ids) - {change.change_id for change in found})
        if missing:
            remedy = "the history of an object lists its changes"
            raise UnknownError(ErrorCode.UNKNOWN_CHANGE, f"there is no change {missing[0]}", remedy)
        return found

    def mask(self, object_id: str) -> Mask:
        """The mask of an object, (height, width) bool.

        Raises:
            UnknownError: there is no such object, or it has no mask (``no_mask``).
            StorageError: its file is lost or damaged.
        """
        return self.masks.read(self._mask_path(object_id))

    def mask_file(self, object_id: str) -> Path:
        """The PNG file of an object's mask: one bit a pixel, white inside. Read it, never change it.

        Raises:
            UnknownError: there is no such object, or it has no mask (``no_mask``).
        """
        return self.masks.file(self._mask_path(object_id))

    def _mask_path(self, object_id: str) -> str:
        path = self.get(object_id).mask_path
        if not path:
            raise UnknownError(ErrorCode.NO_MASK, f"object {object_id} has no mask", "segment it, and update its mask")
        return path

    def embedding(self, object_id: str) -> tuple[Vector, Embedder]:
        """The vector of an object (D,) and who made it.

        Raises:
            UnknownError: there is no such object, or it has no vector (``no_embedding``).
        """
        with self.database.read() as connection:
            row = object_row(connection, object_id)
            value = connection.execute(sa.select(t.vectors.c.value).where(t.vectors.c.row_id == row.row_id)).scalar()
            embedder = object_of(row).embedder
        if value is None or embedder is None:
            remedy = "embed its crop, and give it to set_embeddings"
            raise UnknownError(ErrorCode.NO_EMBEDDING, f"object {object_id} has no vector", remedy)
        return unit_vector(value), embedder

    def search(
        self, vector: Vector, embedder: Embedder, *, k: int = 10, where: ObjectFilter | None = None
    ) -> SearchAnswer:
        """The live objects most similar to a vector.

        Args:
            vector: (D,) float32 of unit length.
            embedder: who made it.
            k: how many, 1 to 1000.
            where: only among these; None for all.

        Returns:
            At most k objects, fewer only where fewer pass the filter, and how they were found.

        Raises:
            InvalidInputError: a vector of another dimension or length, or a filter that makes no sense.
            ConflictError: ``embedder_mismatch``: the scope (the filter's project, or everything) holds vectors of
                another embedder.
            UnknownError: an unknown project.
        """
        return self.searching.search(vector, embedder, k, where or ObjectFilter())

    def similar(self, object_id: str, *, k: int = 10, where: ObjectFilter | None = None) -> SearchAnswer:
        """The live objects most similar to an object, without itself; see ``search``.

        Raises:
            UnknownError: there is no such object, or it has no vector.
            RegistryError: see ``search``.
        """
        vector, embedder = self.embedding(object_id)
        answer = self.search(vector, embedder, k=min(k + 1, MOST_HITS), where=where)
        hits = tuple(hit for hit in answer.hits if hit.object.object_id != object_id)[:k]
        return SearchAnswer(hits, answer.answered)

    def statistics(self, project: str = "") -> Statistics:
        """Counts over live objects of one project, or of all.

        Raises:
            UnknownError: there is no such project.
        """
        with self.database.read() as connection:
            return statistics(connection, project)
