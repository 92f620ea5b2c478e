# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A batch of new objects: checked, its masks written, then stored in one transaction."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Origin
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.bulk import PlainRow, insert_rows
from flow_rag_vla.labeling.registry.catalogue import (
    category_ids,
    chunks,
    embedder_id,
    image_rows,
    new_id,
    origin_ids,
    track_rows,
)
from flow_rag_vla.labeling.registry.checks import (
    checked_attributes,
    checked_box,
    checked_embedder,
    checked_mask,
    checked_name,
    checked_origin,
    checked_share,
    checked_vector,
)
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.filtering import as_json
from flow_rag_vla.labeling.registry.masks import MASKS_A_FOLDER, MaskFolder, mask_name, mask_png
from flow_rag_vla.labeling.registry.values import Batch, ChangeKind, Embedder, ObjectDraft, ReviewState

LARGEST_BATCH = 10_000
"""Objects in one transaction; others wait while it is written."""
_REFERENCES = (
    "row_id",
    "object_id",
    "project_id",
    "source_row",
    "category_id",
    "origin_id",
    "embedder_id",
    "track_row",
)
_CHANGE = ("change_id", "row_id", "kind", "who", "stamp_ns", "before", "after", "undone")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A draft that was found sound."""

    object_id: str
    project_id: int
    source_row: int
    category: str
    origin: Origin
    track: str
    embedder: Embedder | None
    vector: bytes | None
    mask: bytes | None
    columns: dict[str, Any]


def register_batch(
    database: Database,
    masks: MaskFolder,
    drafts: Sequence[ObjectDraft],
    who: str,
    key: str,
    content: str = "",
    beside: Collection[str] | None = None,
) -> Batch:
    """See ``Registry.register``."""
    if len(drafts) > LARGEST_BATCH:
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE, f"the batch has {len(drafts)} objects", f"send at most {LARGEST_BATCH} at once"
        )
    who = checked_name(who, "who")
    with database.read() as connection:
        images = image_rows(connection, [draft.image_id for draft in drafts])
    known_words = _Words()
    prepared = [_prepare(draft, images[draft.image_id], f"object {n}", known_words) for n, draft in enumerate(drafts)]
    digest = ""
    if key:
        digest = content_digest(content) if content else _digest(prepared)
        key = checked_name(key, "batch key")
        with database.read() as connection:
            known = known_batch(connection, key, digest)
        if known is not None:
            return known
    files: dict[str, bytes] = {}
    together = ""
    for item in prepared:
        if item.mask is not None:
            if len(files) % MASKS_A_FOLDER == 0:
                together = item.object_id
            item.columns["mask_path"] = name = mask_name(item.object_id, together)
            files[name] = item.mask
    masks.write(files)
    committing = False
    try:
        with database.write() as connection:
            # Another process may have registered it meanwhile.
            known = known_batch(connection, key, digest) if key else None
            if known is None:
                if beside is not None:
                    _check_beside(connection, prepared, beside)
                first = _insert(connection, prepared, who)
                if key:
                    values = {"first_row": first, "count": len(prepared), "who": who, "created_ns": time.time_ns()}
                    connection.execute(t.batches.insert().values(batch_key=key, digest=digest, **values))
            committing = True
    except BaseException:
        # A commit that failed may have reached the disk all the same: then its masks stay, for the doctor to judge.
        if not committing:
            masks.remove(list(files))
        raise
    if known is not None:
        masks.remove(list(files))
        return known
    return Batch(tuple(item.object_id for item in prepared))


class _Words:
    """What was found sound once is not checked again: objects of a batch share their model and few categories."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, bool], str] = {}
        self._origins: dict[Origin, Origin] = {}
        self._embedders: dict[Embedder, Embedder] = {}

    def name(self, value: str, field: str, *, empty: bool = False) -> str:
        """See ``checked_name``."""
        found = self._names.get((value, empty))
        if found is None:
            found = self._names[value, empty] = checked_name(value, field, empty=empty)
        return found

    def origin(self, origin: Origin, place: str) -> Origin:
        """With every part checked."""
        found = self._origins.get(origin)
        if found is None:
            found = self._origins[origin] = checked_origin(origin, place)
        return found

    def embedder(self, embedder: Embedder, place: str) -> Embedder:
        """See ``checked_embedder``."""
        found = self._embedders.get(embedder)
        if found is None:
            found = self._embedders[embedder] = checked_embedder(embedder, f"{place}: embedder")
        return found


def _prepare(draft: ObjectDraft, image: Any, place: str, words: _Words) -> _Prepared:
    box = checked_box(draft.box, draft.convention, image.width, image.height, f"{place}: box")
    mask = None
    if draft.mask is not None:
        mask = mask_png(checked_mask(draft.mask, image.width, image.height, f"{place}: mask"))
    embedder, vector = None, None
    if draft.embedding is not None:
        if draft.embedder is None:
            raise InvalidInputError(
                ErrorCode.INVALID_EMBEDDING, f"{place}: an embedding of nobody", "name the embedder that made it"
            )
        embedder = words.embedder(draft.embedder, place)
        vector = checked_vector(draft.embedding, embedder, f"{place}: embedding")
    now = time.time_ns()
    columns = {
        "image_row": image.image_row,
        "box_left": box[0],
        "box_top": box[1],
        "box_right": box[2],
        "box_bottom": box[3],
        "box_convention": draft.convention.value,
        "area": (box[2] - box[0]) * (box[3] - box[1]),
        "score": checked_share(draft.score, f"{place}: score"),
        "score_kind": draft.score_kind.value,
        "mask_path": "",
        "state": ReviewState.UNREVIEWED.value,
        "validated_by": "",
        "validated_ns": 0,
        "quality": None if draft.quality is None else checked_share(draft.quality, f"{place}: quality"),
        "attributes": checked_attributes(draft.attributes, f"{place}: attributes"),
        "created_ns": now,
        "updated_ns": now,
        "version": 1,
    }
    return _Prepared(
        new_id(),
        image.project_id,
        image.source_row,
        words.name(draft.category, f"{place}: category"),
        words.origin(draft.origin, place),
        words.name(draft.track, f"{place}: track", empty=True),
        embedder,
        vector,
        mask,
        columns,
    )


def _check_beside(connection: sa.Connection, prepared: Sequence[_Prepared], beside: Collection[str]) -> None:
    """Refuse the batch where one of its images has a live object that is not among those that its sender knew of."""
    for part in chunks(sorted({item.columns["image_row"] for item in prepared})):
        there = sa.select(t.objects.c.object_id).where(
            t.objects.c.image_row.in_(part), t.objects.c.deleted_ns.is_(None)
        )
        for object_id in connection.execute(there).scalars():
            if object_id not in beside:
                raise ConflictError(
                    ErrorCode.IMAGE_LABELLED,
                    f"object {object_id} came to its image since somebody looked for what is new there",
                    "list the objects of the image again, and send what is still new",
                )


def _insert(connection: sa.Connection, prepared: Sequence[_Prepared], who: str) -> int:
    """Insert everything; give the first row id. The write lock is held, so the next numbers are ours."""
    first = next_number(connection, t.objects.c.row_id)
    change = next_number(connection, t.history.c.change_id)
    if not prepared:
        return first
    categories: dict[tuple[int, str], int] = {}
    for project_id in {item.project_id for item in prepared}:
        names = {item.category for item in prepared if item.project_id == project_id}
        found = category_ids(connection, project_id, names, create=True)
        categories.update(((project_id, name), number) for name, number in found.items())
    origins = origin_ids(connection, (item.origin for item in prepared))
    embedders = {item.embedder for item in prepared if item.embedder is not None}
    embedder_ids = {item: embedder_id(connection, item) for item in embedders}
    tracks = track_rows(connection, ((item.source_row, item.track) for item in prepared if item.track))
    objects = [
        (
            row_id,
            item.object_id,
            item.project_id,
            item.source_row,
            categories[item.project_id, item.category],
            origins[item.origin],
            None if item.embedder is None else embedder_ids[item.embedder],
            tracks[item.source_row, item.track] if item.track else None,
            *item.columns.values(),
        )
        for row_id, item in enumerate(prepared, first)
    ]
    insert_rows(connection, t.objects, (*_REFERENCES, *prepared[0].columns), objects)
    vectors = [(row_id, item.vector) for row_id, item in enumerate(prepared, first) if item.vector]
    insert_rows(connection, t.vectors, ("row_id", "value"), vectors)
    changes: list[PlainRow] = [
        (change + n, first + n, ChangeKind.CREATED.value, who, item.columns["created_ns"], {}, {}, False)
        for n, item in enumerate(prepared)
    ]
    insert_rows(connection, t.history, _CHANGE, changes)
    return first


def next_number(connection: sa.Connection, column: sa.Column[Any]) -> int:
    """The number after the highest; only under the write lock, and where rows are never deleted."""
    return int(connection.execute(sa.select(sa.func.max(column))).scalar() or 0) + 1


def _digest(prepared: Sequence[_Prepared]) -> str:
    """SHA-256 over what was asked for: ids and times, which are ours, are left out."""
    digest = hashlib.sha256()
    for item in prepared:
        ours = ("created_ns", "updated_ns")
        columns = {name: value for name, value in item.columns.items() if name not in ours}
        origin = (item.origin.model, item.origin.revision, item.origin.prompt, item.origin.threshold)
        words = (item.category, item.track, str(item.embedder), *origin)
        digest.update(as_json([columns, words]).encode())
        for part in (item.vector, item.mask):
            digest.update(b"-" if part is None else hashlib.sha256(part).digest())
    return digest.hexdigest()


def content_digest(content: str) -> str:
    """SHA-256 of what a key stands for, where that is more than a batch's objects."""
    return hashlib.sha256(b"content " + content.encode()).hexdigest()


def known_batch(connection: sa.Connection, key: str, digest: str = "") -> Batch | None:
    """What was registered under a key, or None; digest: of what it must have been, "" for anything.

    Raises:
        ConflictError: with the code ``batch_key_reused``: it was something else.
    """
    row = connection.execute(sa.select(t.batches).where(t.batches.c.batch_key == key)).first()
    if row is None:
        return None
    if digest and row.digest != digest:
        raise ConflictError(
            ErrorCode.BATCH_KEY_REUSED,
            f"batch key {key!r} was used for another batch of {row.count} objects",
            "give every batch a key of its own; only a repetition has the same one",
        )
    rows = sa.and_(t.objects.c.row_id >= row.first_row, t.objects.c.row_id < row.first_row + row.count)
    ids = connection.execute(sa.select(t.objects.c.object_id).where(rows).order_by(t.objects.c.row_id))
    return Batch(tuple(ids.scalars()), repeated=True)


def unit_vector(value: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector (D,) as it was stored."""
    return np.frombuffer(value, dtype="<f4").astype(np.float32)
