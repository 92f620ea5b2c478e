# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The registry of labelled objects, as everything above it sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.registry import changing, undoing
from flow_rag_vla.labeling.registry.actions import ActionRecords
from flow_rag_vla.labeling.registry.checks import (
    checked_embedder,
    checked_mask,
    checked_name,
    checked_vector,
)
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.labels import add_labels
from flow_rag_vla.labeling.registry.masks import mask_name, mask_png
from flow_rag_vla.labeling.registry.memberships import DatasetRecords
from flow_rag_vla.labeling.registry.reading import ReadingRegistry
from flow_rag_vla.labeling.registry.registering import register_batch
from flow_rag_vla.labeling.registry.rows import object_of, object_row
from flow_rag_vla.labeling.registry.values import (
    Attribute,
    Batch,
    Change,
    ChangeKind,
    Embedder,
    LabelDraft,
    LabelledObject,
    ObjectChange,
    ObjectDraft,
    Vector,
)


class Registry(ReadingRegistry):
    """Objects, their history, masks, vectors, tracks, affordances and datasets.

    A method that changes something returns after it is durable, or raises and changed nothing. ``who`` is the person
    or program that asks, as the history shows it.
    """

    def register(
        self,
        drafts: Sequence[ObjectDraft],
        *,
        who: str,
        key: str = "",
        content: str = "",
        beside: Collection[str] | None = None,
    ) -> Batch:
        """Add objects: all of them, or on an error none.

        Args:
            drafts: at most 10,000, of any images; a few hundred at once are quick and let others write between.
            who: who registers them.
            key: names this batch, so that it can be sent again when its answer was lost: the same key with the same
                content gives the same answer and adds nothing. "" for none.
            content: what the key stands for, where that is more than these objects; "" for the objects themselves. Then
                a repeated batch may hold other objects than these.
            beside: ids of the objects that their images had when it was decided that these are new; where one has more
                by now, of whatever process, nothing is stored. None: they are new whatever is there.

        Raises:
            InvalidInputError: a box, score, mask, vector, name or category that makes no sense; the message numbers it.
            UnknownError: an image that is not registered.
            ConflictError: the key was used for other content (``batch_key_reused``), or an image has objects that are
                not in ``beside`` (``image_labelled``).
            DiskFullError, BusyError, StorageError: it could not be stored.
        """
        return register_batch(self.database, self.masks, drafts, who, key, content, beside)

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
        content: str = "",
        beside: Collection[str] | None = None,
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
            content: see ``register``.
            beside: see ``register``.

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
        return self.register(drafts, who=who, key=key, content=content, beside=beside)

    def add_labels(self, labels: Sequence[LabelDraft], *, who: str) -> int:
        """Note what a further model says of objects that are there; give how many labels are new.

        The objects themselves stay what they are, with their versions; each label is a change of its own in the history
        and can be taken back by its ``change_id``. What a model, in the same revision, has called an object before is
        passed over, also where its label was taken back, and so is a second word in answer to the same prompts.

        Raises:
            UnknownError: there is no such object.
            ConflictError: an object was deleted.
            InvalidInputError: a value that makes no sense, or a category that a closed vocabulary lacks.
        """
        who = checked_name(who, "who")
        if not labels:
            return 0
        with self.database.write() as connection:
            return add_labels(connection, labels, who)

    def update(
        self,
        object_id: str,
        change: ObjectChange,
        *,
        who: str,
        expected_version: int | None = None,
        reopen: bool = False,
    ) -> LabelledObject:
        """Change an object; a change that changes nothing leaves no trace.

        Args:
            object_id: the object.
            change: what to change.
            who: who changes it; becomes ``validated_by`` where the state says that a person decided.
            expected_version: refuse unless the object still has this version.
            reopen: where it was reviewed and gets another category, box or mask, and no state, it waits for a review
                again, also where that review came a moment ago.

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
                if reopen:
                    fields = changing.reopened(connection, row, fields)
                changing.apply(connection, row, fields, ChangeKind.UPDATED, who)
                changed = object_of(object_row(connection, object_id))
                committing = True
        except BaseException:
            if not committing:
                self.masks.remove(list(files))
            raise
        return changed

    def update_many(
        self,
        wanted: Mapping[str, ObjectChange],
        *,
        who: str,
        expected_versions: Mapping[str, int] | None = None,
        reopen: bool = False,
    ) -> tuple[Change, ...]:
        """Change several objects, such as those of a track: all of them, or on an error none.

        Args:
            wanted: what to change, by object id; no masks. A few hundred at once let others write between.
            who: who changes them, see ``update``.
            expected_versions: by object id; refuse unless those objects still have these versions.
            reopen: see ``update``.

        Returns:
            The changes, each of which can be taken back; objects that were so before have none.

        Raises:
            UnknownError: there is no such object, or no such track in its source.
            ConflictError: ``stale_version`` or ``object_deleted``.
            InvalidInputError: a value that makes no sense, or a mask.
            BusyError, StorageError: it could not be stored.
        """
        who = checked_name(who, "who")
        for object_id, change in wanted.items():
            changing.check_asks_something(change)
            if change.mask is not None:
                message = f"a mask for {object_id} among changes of {len(wanted)} objects"
                raise InvalidInputError(ErrorCode.INVALID_VALUE, message, "give masks one object a call")
        versions = expected_versions or {}
        with self.database.write() as connection:
            made = []
            for object_id, change in wanted.items():
                row = object_row(connection, object_id)
                changing.check_version(row, versions.get(object_id))
                fields = changing.wanted_fields(row, change, who, "")
                if reopen:
                    fields = changing.reopened(connection, row, fields)
                made.append(changing.apply(connection, row, fields, ChangeKind.UPDATED, who))
            return changing.changes_of(connection, [change_id for change_id in made if change_id])

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
            change_id: the change; None for the last one that is not undone: of ``object_id``, further labels aside, or
                else by ``who``.
            object_id: the object, where only its changes are meant.

        Returns:
            The change that took it back.

        Raises:
            UnknownError: there is no such change, or none left.
            ConflictError: ``undo_conflict``: it was taken back before, a later change touched the same fields, or the
                object was reviewed with them since then.
        """
        who = checked_name(who, "who")
        with self.database.write() as connection:
            return undoing.undo(connection, who, change_id, object_id)

    def undo_many(self, change_ids: Sequence[int], *, who: str) -> tuple[Change, ...]:
        """Take back several changes, the newest first: all of them, or on an error none; see ``undo``.

        Raises:
            UnknownError: there is no such change.
            ConflictError: ``undo_conflict``: one of them was taken back before, or a later change touched its fields.
        """
        who = checked_name(who, "who")
        with self.database.write() as connection:
            return tuple(
                undoing.undo(connection, who, number, None) for number in sorted(set(change_ids), reverse=True)
            )

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
