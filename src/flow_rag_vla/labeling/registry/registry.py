"""The registry of labelled objects, as everything above it sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.registry import changing
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.actions import ActionRecords
from flow_rag_vla.labeling.registry.cataloguing import CataloguingRegistry
from flow_rag_vla.labeling.registry.checks import (
    checked_embedder,
    checked_mask,
    checked_name,
    checked_vector,
)
from flow_rag_vla.labeling.registry.counting import statistics
from flow_rag_vla.labeling.registry.errors import ErrorCode, UnknownError
from flow_rag_vla.labeling.registry.filtering import filter_clauses
from flow_rag_vla.labeling.registry.masks import mask_name, mask_png
from flow_rag_vla.labeling.registry.memberships import DatasetRecords
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, Page, SearchAnswer, Statistics
from flow_rag_vla.labeling.registry.registering import register_batch, unit_vector
from flow_rag_vla.labeling.registry.rows import object_of, object_row, objects_by_id, page_of
from flow_rag_vla.labeling.registry.searching import MOST_HITS
from flow_rag_vla.labeling.registry.values import (
    Attribute,
    Batch,
    Change,
    ChangeKind,
    Embedder,
    LabelledObject,
    Mask,
    ObjectChange,
    ObjectDraft,
    Vector,
)


class Registry(CataloguingRegistry):
    """Objects, their history, masks, vectors, tracks, affordances and datasets.

    A method that changes something returns after it is durable, or raises and changed nothing. ``who`` is the person
    or program that asks, as the history shows it.
    """

    def register(self, drafts: Sequence[ObjectDraft], *, who: str, key: str = "") -> Batch:
        """Add objects: all of them, or on an error none.

        Args:
            drafts: at most 10,000, of any images; a few hundred at once are quick and let others write between.
            who: who registers them.
            key: names this batch, so that it can be sent again when its answer was lost: the same key with the same
                content gives the same answer and adds nothing. "" for none.

        Raises:
            InvalidInputError: a box, score, mask, vector, name or category that makes no sense; the message numbers it.
            UnknownError: an image that is not registered.
            ConflictError: the key was used for other content (``batch_key_reused``).
            DiskFullError, BusyError, StorageError: it could not be stored.
        """
        return register_batch(self.database, self.masks, drafts, who, key)

    def register_detections(
        self,
        image_id: str,
        detections: Detections,
        *,
        who: str,
        embedder: Embedder | None = None,
        tracks: Sequence[str] = (),
        attributes: Sequence[Mapping[str, Attribute]] = (),
        key: str = "",
    ) -> Batch:
        """Add what was found in one image.

        Args:
            image_id: the image.
            detections: N objects.
            who: who registers them.
            embedder: who made the embeddings, if there are any.
            tracks: N names of tracks within the source, "" for none; or nothing at all.
            attributes: N mappings; or nothing at all.
            key: see ``register``.

        Raises:
            RegistryError: see ``register``.
        """
        drafts = []
        for n, label in enumerate(detections.labels):
            left, top, right, bottom = (float(number) for number in detections.boxes[n])
            drafts.append(
                ObjectDraft(
                    image_id=image_id,
                    category=label,
                    box=(left, top, right, bottom),
                    score=float(detections.scores[n]),
                    score_kind=detections.score_kind,
                    origin=detections.origin,
                    mask=None if detections.masks is None else detections.masks[n],
                    embedding=None if detections.embeddings is None else detections.embeddings[n],
                    embedder=embedder,
                    track=tracks[n] if tracks else "",
                    attributes=attributes[n] if attributes else {},
                )
            )
        return self.register(drafts, who=who, key=key)

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

    def update(
        self, object_id: str, change: ObjectChange, *, who: str, expected_version: int | None = None
    ) -> LabelledObject:
        """Change an object; a change that changes nothing leaves no trace.

        Args:
            object_id: the object.
            change: what to change.
            who: who changes it; becomes ``validated_by`` where the state says that a person decided.
            expected_version: refuse unless the object still has this version.

        Raises:
            UnknownError: there is no such object, or no such track in its source.
            ConflictError: ``stale_version`` or ``object_deleted``.
            InvalidInputError: a value that makes no sense.
            DiskFullError, BusyError, StorageError: it could not be stored.
        """
        who = checked_name(who, "who")
        changing.check_asks_something(change)
        files = {}
        mask_path = ""
        if change.mask is not None:
            with self.database.read() as connection:
                row = object_row(connection, object_id)
            mask = checked_mask(change.mask, row.width, row.height, "mask")
            mask_path = mask_name(row.object_id)
            files[mask_path] = mask_png(mask)
        self.masks.write(files)
        committing = False
        try:
            with self.database.write() as connection:
                row = object_row(connection, object_id)
                changing.check_version(row, expected_version)
                fields = changing.wanted_fields(row, change, who, mask_path)
                changing.apply(connection, row, fields, ChangeKind.UPDATED, who)
                changed = object_of(object_row(connection, object_id))
                committing = True
        except BaseException:
            if not committing:
                self.masks.remove(list(files))
            raise
        return changed

    def delete(self, object_id: str, *, who: str, expected_version: int | None = None) -> LabelledObject:
        """Leave a tombstone in place of an object; an undo brings it back.

        Raises:
            UnknownError, ConflictError, BusyError, StorageError: see ``update``.
        """
        who = checked_name(who, "who")
        with self.database.write() as connection:
            row = object_row(connection, object_id)
            changing.check_version(row, expected_version)
            changing.apply(connection, row, {"deleted": True}, ChangeKind.DELETED, who)
            return object_of(object_row(connection, object_id))

    def undo(self, *, who: str, change_id: int | None = None, object_id: str | None = None) -> Change:
        """Take back a change; what takes it back is itself a change, and can be taken back.

        Args:
            who: who undoes it.
            change_id: the change; None for the last one that is not undone: of ``object_id``, or else by ``who``.
            object_id: the object, where only its changes are meant.

        Returns:
            The change that took it back.

        Raises:
            UnknownError: there is no such change, or none left.
            ConflictError: ``undo_conflict``: it was taken back before, or a later change touched the same fields.
        """
        who = checked_name(who, "who")
        with self.database.write() as connection:
            return changing.undo(connection, who, change_id, object_id)

    def history(self, object_id: str) -> tuple[Change, ...]:
        """Every change of an object, oldest first.

        Raises:
            UnknownError: there is no such object.
        """
        with self.database.read() as connection:
            row_id = object_row(connection, object_id).row_id
            statement = changing.select_changes().where(t.history.c.row_id == row_id)
            rows = connection.execute(statement.order_by(t.history.c.change_id))
            return tuple(changing.change_of(row) for row in rows)

    def changes(self, *, after: int = 0, limit: int = 1_000) -> tuple[Change, ...]:
        """Changes of all objects in the order of commits; ``after``: the last change id seen."""
        statement = changing.select_changes().where(t.history.c.change_id > after)
        with self.database.read() as connection:
            rows = connection.execute(statement.order_by(t.history.c.change_id).limit(limit))
            return tuple(changing.change_of(row) for row in rows)

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

    def set_embeddings(self, vectors: Mapping[str, Vector], embedder: Embedder, *, who: str) -> None:
        """Give objects new vectors in place of those they have; the old ones are not kept.

        Args:
            vectors: by object id.
            embedder: who made them.
            who: who asks.

        Raises:
            UnknownError: an object that is not there.
            ConflictError: an object that was deleted.
            InvalidInputError: a vector of another dimension or length.
        """
        who, embedder = checked_name(who, "who"), checked_embedder(embedder)
        values = {name: checked_vector(vector, embedder, f"vector of {name}") for name, vector in vectors.items()}
        with self.database.write() as connection:
            for object_id, value in values.items():
                row = object_row(connection, object_id)
                changing.check_version(row, None)
                changing.embed(connection, row, value, embedder, who)

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

    @property
    def actions(self) -> ActionRecords:
        """Affordances and action sequences."""
        return ActionRecords(self.database)

    @property
    def datasets(self) -> DatasetRecords:
        """Versions of datasets and who is in them."""
        return DatasetRecords(self.database)

    def build_index(self) -> None:
        """Build the index of every embedder now and save it, so that the next one who opens the registry is quick.

        Raises:
            DiskFullError, StorageError: it could not be saved; this process has it all the same.
        """
        self.searching.build()
