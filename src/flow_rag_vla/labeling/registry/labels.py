# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Further labels of an object: what another model, or another revision of it, said of it, or its own in other words.

An object keeps the label that it was registered with, or what people made of it; these stand beside it. They come and
go without a new version of the object, each as a row of its history. A model whose label was taken back has said it all
the same: it does not bring it again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import canonical_category, category_ids, chunks, origin_ids
from flow_rag_vla.labeling.registry.changing import check_version, record
from flow_rag_vla.labeling.registry.checks import checked_box, checked_name, checked_origin, checked_share
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode
from flow_rag_vla.labeling.registry.registering import next_number
from flow_rag_vla.labeling.registry.rows import object_row
from flow_rag_vla.labeling.registry.values import (
    BoxConvention,
    Change,
    ChangeKind,
    LabelDraft,
    LabelledObject,
    ObjectLabel,
)

_l = t.labels.c


def add_labels(connection: sa.Connection, drafts: Sequence[LabelDraft], who: str) -> int:
    """See ``Registry.add_labels``; needs a writing connection."""
    added = 0
    for number, draft in enumerate(drafts):
        place = f"label {number}"
        row = object_row(connection, draft.object_id)
        check_version(row, None)
        origin = checked_origin(draft.origin, place)
        name = checked_name(draft.category, f"{place}: category")
        if _has_said(connection, row, origin, canonical_category(connection, row.project_id, name)):
            continue
        box = checked_box(draft.box, BoxConvention.LTRB, row.width, row.height, f"{place}: box")
        values: dict[str, Any] = {
            "row_id": row.row_id,
            "origin_id": origin_ids(connection, [origin])[origin],
            "category_id": category_ids(connection, row.project_id, [name], create=True)[name],
            "box_left": box[0],
            "box_top": box[1],
            "box_right": box[2],
            "box_bottom": box[3],
            "score": checked_share(draft.score, f"{place}: score"),
            "score_kind": draft.score_kind.value,
            "who": who,
            "created_ns": time.time_ns(),
        }
        values["label_row"] = next_number(connection, _l.label_row)
        said = {
            "label": values["label_row"],
            "category": name,
            "box": list(box),
            "score": values["score"],
            "model": origin.model,
            "revision": origin.revision,
        }
        values["change_id"] = record(
            connection, row.row_id, ChangeKind.LABELLED, who, values["created_ns"], before={}, after=said
        )
        connection.execute(t.labels.insert().values(**values))
        added += 1
    return added


def _has_said(connection: sa.Connection, row: Any, origin: Origin, name: str) -> bool:
    """Whether a model, in this revision, has called an object so, or has spoken of it when asked the same."""
    o = t.origins.c
    joined = t.labels.join(t.origins, o.origin_id == _l.origin_id).join(
        t.categories, t.categories.c.category_id == _l.category_id
    )
    words = t.categories.c.name.label("category")
    own = o.model == origin.model, o.revision == origin.revision
    statement = sa.select(words, o.prompt, o.threshold).select_from(joined).where(_l.row_id == row.row_id, *own)
    said = [(one.category, (one.prompt, one.threshold)) for one in connection.execute(statement)]
    if (row.model, row.revision) == (origin.model, origin.revision):
        was = canonical_category(connection, row.project_id, _registered_as(connection, row))
        said.append((was, (row.prompt, row.threshold)))
    return any(word == name or asked == (origin.prompt, origin.threshold) for word, asked in said)


def _registered_as(connection: sa.Connection, row: Any) -> str:
    """What an object was called before anybody called it something else."""
    where = t.history.c.row_id == row.row_id, t.history.c.kind != ChangeKind.LABELLED.value
    changes = connection.execute(sa.select(t.history.c.before).where(*where).order_by(t.history.c.change_id))
    # A label that was taken off stands in the history with its category too.
    words = (before["category"] for before in changes.scalars() if "category" in before and "label" not in before)
    return str(next(words, row.category))


def is_of_label(change: Any) -> bool:
    """Whether a row of the history is about a further label."""
    return "label" in change.before or "label" in change.after


def undo_label(connection: sa.Connection, changed: Any, who: str) -> int:
    """Take a further label off its object, or put it back; give the change id.

    Args:
        connection: a writing one.
        changed: the row of the history to take back, of ``is_of_label``.
        who: who does it.

    Raises:
        ConflictError: ``undo_conflict``: it was put there or taken off again since then.
    """
    came = "label" in changed.after
    said: Mapping[str, Any] = changed.after if came else changed.before
    where = _l.label_row == said["label"]
    stands = connection.execute(sa.select(_l.withdrawn_ns).where(where)).scalar_one() is None
    if stands is not came:
        raise ConflictError(
            ErrorCode.UNDO_CONFLICT,
            f"the label {said['category']!r} of {said['model']} was changed again after change {changed.change_id}",
            "take back the later change first; the history of the object lists it",
        )
    now = time.time_ns()
    before, after = (changed.after, {}) if came else ({}, changed.before)
    number = record(connection, changed.row_id, ChangeKind.UNDONE, who, now, before, after, changed.change_id)
    connection.execute(t.labels.update().where(where).values(change_id=number, withdrawn_ns=now if came else None))
    return number


def first_label(item: LabelledObject, changes: Sequence[Change]) -> ObjectLabel:
    """What an object was registered as: its own model's word, whatever people made of it since.

    Args:
        item: the object.
        changes: its history, oldest first.
    """
    was: dict[str, Any] = {
        "category": item.category,
        "box": item.box,
        "score": item.score,
        "score_kind": item.score_kind.value,
    }
    for change in reversed(changes):
        if not is_of_label(change):
            was.update((name, value) for name, value in change.before.items() if name in was)
    left, top, right, bottom = was["box"]
    box, kind = (left, top, right, bottom), ScoreKind(was["score_kind"])
    said = item.object_id, was["category"], box, was["score"], kind, item.origin
    return ObjectLabel(*said, changes[0].who, changes[0].stamp_ns, changes[0].change_id)


def labels_of(connection: sa.Connection, object_ids: Sequence[str]) -> dict[str, tuple[ObjectLabel, ...]]:
    """See ``Registry.labels``."""
    found: dict[str, list[ObjectLabel]] = {object_id: [] for object_id in object_ids}
    joined = (
        t.labels.join(t.objects, t.objects.c.row_id == _l.row_id)
        .join(t.origins, t.origins.c.origin_id == _l.origin_id)
        .join(t.categories, t.categories.c.category_id == _l.category_id)
    )
    o = t.origins.c
    named = (t.objects.c.object_id, t.categories.c.name.label("category"))
    columns = (t.labels, *named, o.model, o.revision, o.prompt, o.threshold)
    for part in chunks(list(found)):
        where = t.objects.c.object_id.in_(part), _l.withdrawn_ns.is_(None)
        statement = sa.select(*columns).select_from(joined).where(*where)
        for row in connection.execute(statement.order_by(_l.label_row)):
            found[row.object_id].append(_label_of(row))
    return {object_id: tuple(labels) for object_id, labels in found.items()}


def _label_of(row: Any) -> ObjectLabel:
    return ObjectLabel(
        row.object_id,
        row.category,
        (row.box_left, row.box_top, row.box_right, row.box_bottom),
        row.score,
        ScoreKind(row.score_kind),
        Origin(row.model, row.revision, row.prompt, row.threshold),
        row.who,
        row.created_ns,
        row.change_id,
    )
