# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was found in a picture, into a registry: each thing once, however often and by whomever it is labelled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from flow_rag_vla.labeling.detections import Detections, Origin
from flow_rag_vla.labeling.pipeline.boxes import mask_overlap, overlaps, select
from flow_rag_vla.labeling.pipeline.pipeline import LabelingPipeline
from flow_rag_vla.labeling.pipeline.request import DEFAULT_OVERLAP, LabelRequest
from flow_rag_vla.labeling.registry.errors import BusyError, ConflictError, ErrorCode, StorageError, UnknownError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import Batch, Embedder, Image, LabelDraft, LabelledObject

SAME_THING = DEFAULT_OVERLAP
"""Intersection over union above which two boxes are of one thing: what the pipeline itself takes for a double."""
_PAGE = 1_000
_MOST_TRIES = 20
_FORBIDDEN = 10.0


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of N things that were found in a picture.

    object_ids: N ids; "" under a key that was used before, for one that was merged with what is no object any more
    new: how many became objects; labelled: how many gave an object a further label; known: the others
    repeated: the key was used before: nothing was stored; before: how many of the known ones became objects then
    """

    object_ids: tuple[str, ...]
    new: int
    labelled: int
    known: int
    repeated: bool = False
    before: int = 0


class TrackNames:
    """Names of the tracks of a run in a source that may hold those of another run, whose numbers mean other things."""

    def __init__(self, known: Mapping[str, str]) -> None:
        """Take the names that are there, by track id."""
        self._known, self._taken = known, frozenset(known.values())
        self._given: dict[str, str] = {}

    def of(self, tracks: Sequence[str], matched: Sequence[LabelledObject | None]) -> list[str]:
        """N names for N tracks of this run: that of the track that a matched object is on, else one of their own."""
        for track, item in zip(tracks, matched, strict=False):
            if item is not None and item.track_id in self._known:
                self._given.setdefault(track, self._known[item.track_id])
        for track in tracks:
            if track not in self._given:
                names = chain((track,), (f"{track} ({number})" for number in count(2)))
                self._given[track] = next(name for name in names if name not in self._taken)
        return [self._given[track] for track in tracks]


def embedder_of(pipeline: LabelingPipeline, found: Detections) -> Embedder | None:
    """Who made the vectors of what a pipeline found, as the registry keeps it: a detector may do it in passing."""
    if found.embeddings is None:
        return None
    made = pipeline.embedder or pipeline.detector
    return Embedder(made.name, made.revision, int(found.embeddings.shape[1]))


def request_key(image: Image, digest: str, found: Detections, request: LabelRequest) -> str:
    """The idempotency key of labelling one picture: what it shows, who labels it, and what was asked.

    Args:
        image: as it is registered.
        digest: of what it shows.
        found: what was found, with model, revision, prompts and threshold.
        request: what was asked, with synonyms, overlap and tiles.
    """
    asked = (sorted(request.phrases().items()), request.overlap, request.tiling)
    text = repr((image.image_id, digest, found.origin, found.score_kind.value, asked))
    return hashlib.sha256(text.encode()).hexdigest()


def objects_in(registry: Registry, image: Image) -> tuple[LabelledObject, ...]:
    """The objects of a picture, the newest first."""
    objects: list[LabelledObject] = []
    cursor = ""
    while True:
        page = registry.list_objects(ObjectFilter(image_ids=(image.image_id,)), limit=_PAGE, cursor=cursor)
        objects.extend(page.objects)
        if not page.cursor:
            return tuple(objects)
        cursor = page.cursor


def matched_objects(
    registry: Registry, project: str, found: Detections, there: Sequence[LabelledObject]
) -> list[LabelledObject | None]:
    """For each row of what was found in a picture the object that it shows, or None where it is a new one.

    Boxes agree (``SAME_THING``). Each object is matched once: a run that sees two things in one place means two. Those
    that are called the same come first. Another word of the same model, asked for in another run, is a word for the
    same thing, as it would have been in one run, unless the masks of both say that there are two.

    Args:
        registry: where the objects are.
        project: by whose words they are called.
        found: N things in the picture.
        there: its objects, of ``objects_in``.
    """
    if not there or not len(found):
        return [None] * len(found)
    further = registry.labels([item.object_id for item in there])
    means = {word: one.name for one in registry.categories(project) for word in (one.name, *one.synonyms)}
    names = [means.get(label, label) for label in found.labels]
    speaker = _speaker(found.origin)
    called = np.zeros((len(found), len(there)), np.bool_)
    own_words = np.zeros(len(there), np.bool_)
    for place, item in enumerate(there):
        own = [label for label in further[item.object_id] if _speaker(label.origin) == speaker]
        words = {item.category, *(label.category for label in own)}
        called[:, place] = [name in words for name in names]
        # What somebody rejected or called something else is not proposed again, whatever its mask.
        own_words[place] = item.version == 1 and bool(own or _speaker(item.origin) == speaker)
    shared = overlaps(found.boxes, np.asarray([item.box for item in there], np.float32)).astype(np.float64)
    allowed = shared > SAME_THING
    for row, place in np.argwhere(allowed & ~called & own_words[None]):
        allowed[row, place] = not _masks_part(registry, there[place], found, int(row))
    # What is called the same comes before what fills the box better.
    cost: NDArray[np.float64] = np.where(allowed, 1.0 - shared + np.where(called, 0.0, 1.0), _FORBIDDEN)
    matched: list[LabelledObject | None] = [None] * len(found)
    for row, place in zip(*linear_sum_assignment(cost), strict=True):
        if allowed[row, place]:
            matched[row] = there[place]
    return matched


def register_once(
    registry: Registry,
    image: Image,
    project: str,
    found: Detections,
    *,
    who: str,
    embedder: Embedder | None,
    tracks: Callable[[Sequence[LabelledObject | None]], Sequence[str]] | None = None,
    key: str = "",
    content: str = "",
) -> Registration:
    """Store of what was found in a picture what is not there yet, also while other processes label the same picture.

    Each would take for new what the other is about to store, so the registry refuses what was looked up before somebody
    else was done, and it is looked up again: whoever comes first has it, and the others find it there.

    Args:
        registry: where.
        image: the picture.
        project: whose words the objects are called by.
        found: N things in it.
        who: who registers them.
        embedder: who made the embeddings, if there are any.
        tracks: gives N names of tracks for the N objects that they are, or None; see ``matched_objects``.
        key: see ``register_found``.
        content: see ``register_found``.

    Raises:
        RegistryError: see ``register_found``; ``busy``: others did not cease to label this very picture.
    """
    labelled = 0
    for _ in range(_MOST_TRIES):
        there = objects_in(registry, image)
        matched = matched_objects(registry, project, found, there)
        names = tracks(matched) if tracks is not None else ()
        beside = frozenset(item.object_id for item in there)
        labels, done = _attempt(registry, image, found, matched, who, embedder, names, key, content, beside)
        labelled += labels
        if done is not None:
            # What an attempt before this one said of objects that are there is no news to the last.
            return replace(done, labelled=labelled, known=done.known - (labelled - labels))
    raise BusyError(
        ErrorCode.BUSY,
        f"{image.name} was labelled by others {_MOST_TRIES} times while its objects were looked up",
        "send the request again in a moment",
    )


def register_found(
    registry: Registry,
    image: Image,
    found: Detections,
    matched: Sequence[LabelledObject | None],
    *,
    who: str,
    embedder: Embedder | None,
    tracks: Sequence[str] = (),
    key: str = "",
    content: str = "",
) -> Registration:
    """Store what is new of what was found in a picture; each thing that is there gets a further label at most.

    A label is added where this revision of the model has not called the object so yet. The object itself, and what
    people made of it, stays as it is. What ``matched`` calls new is stored whatever came meanwhile; ``register_once``
    does both in one.

    Args:
        registry: where.
        image: the picture.
        found: N things in it.
        matched: N objects that they are, or None; see ``matched_objects``.
        who: who registers them.
        embedder: who made the embeddings, if there are any.
        tracks: N names of tracks within the source, "" for none; or nothing at all.
        key: of ``request_key``; under one that was used before nothing is stored. "" for none.
        content: what the key must stand for if it is of somebody else's making, see ``Registry.register``.

    Raises:
        RegistryError: it could not be stored; also ``batch_key_reused`` where the key stands for another content.
    """
    _, done = _attempt(registry, image, found, matched, who, embedder, tracks, key, content, None)
    assert done is not None
    return done


def _attempt(
    registry: Registry,
    image: Image,
    found: Detections,
    matched: Sequence[LabelledObject | None],
    who: str,
    embedder: Embedder | None,
    tracks: Sequence[str],
    key: str,
    content: str,
    beside: Collection[str] | None,
) -> tuple[int, Registration | None]:
    """How many labels were new, and what was stored; None: the picture has objects that are not in ``beside``."""
    ids = [item.object_id if item is not None else "" for item in matched]
    before = registry.batch(key, content) if key else None
    if before is not None:
        return 0, _repeated(ids, before, 0)
    drafts = [_label(item.object_id, found, row) for row, item in enumerate(matched) if item is not None]
    # Labels first: they are passed over when they come again, so a run that ends in between is made up for.
    labelled = registry.add_labels(drafts, who=who)
    rows = [row for row, item in enumerate(matched) if item is None]
    try:
        batch = registry.register_detections(
            image.image_id,
            select(found, rows),
            who=who,
            embedder=embedder,
            tracks=[tracks[row] for row in rows] if tracks else (),
            key=key,
            content=content,
            beside=beside,
        )
    except ConflictError as error:
        if error.code is ErrorCode.IMAGE_LABELLED:
            return labelled, None
        # Somebody labelled the same picture at the same time, and the last digits of a score differ.
        if content or error.code is not ErrorCode.BATCH_KEY_REUSED:
            raise
        return labelled, Registration(tuple(ids), 0, labelled, len(found) - labelled, True)
    if batch.repeated:
        return labelled, _repeated(ids, batch, labelled)
    for row, object_id in zip(rows, batch.object_ids, strict=True):
        ids[row] = object_id
    return labelled, Registration(tuple(ids), len(rows), labelled, len(found) - labelled - len(rows))


def _repeated(ids: Sequence[str], batch: Batch, labelled: int) -> Registration:
    """What a key that was used before stands for; rows that match nothing now became objects then, in their order."""
    left = [object_id for object_id in batch.object_ids if object_id not in ids]
    filled = tuple(object_id or (left.pop(0) if left else "") for object_id in ids)
    return Registration(filled, 0, labelled, len(ids) - labelled, True, len(batch.object_ids))


def _masks_part(registry: Registry, item: LabelledObject, found: Detections, row: int) -> bool:
    """Whether masks tell an object and a row in its box apart; where one of them has none, they do not."""
    if found.masks is None or not item.mask_path:
        return False
    try:
        mask = registry.mask(item.object_id)
    except (StorageError, UnknownError):
        # Lost or damaged, which the doctor tells, or taken off a moment ago; a run is not ended by it.
        return False
    return mask_overlap(mask, found.masks[row]) <= SAME_THING


def _speaker(origin: Origin) -> tuple[str, str]:
    return origin.model, origin.revision


def _label(object_id: str, found: Detections, row: int) -> LabelDraft:
    left, top, right, bottom = (float(number) for number in found.boxes[row])
    score = float(found.scores[row])
    return LabelDraft(object_id, found.labels[row], (left, top, right, bottom), score, found.score_kind, found.origin)
