# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Objects: registered, found, corrected, taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import Field

from flow_rag_vla.gateway.access import Labeller, Person, Reviewer, Role, Viewer
from flow_rag_vla.gateway.errors import GatewayError, bad_request, conflict
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.labels import Labels, batch_key, box_of, draft_of, searched_vector
from flow_rag_vla.gateway.labeling.paging import (
    USUAL_PAGE,
    Cursor,
    IdempotencyKey,
    IfMatch,
    Limit,
    tag_of,
    version_of,
)
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.views import change_given, label_given, object_given, png_of, search_given
from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, parse_attributes
from flow_rag_vla.labeling.registry.values import (
    Change,
    ChangeKind,
    LabelledObject,
    ObjectChange,
    ObjectDraft,
    ReviewState,
)

LONGEST_TERM = 5_000
ObjectId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="32 hex digits")]
Words = Annotated[list[schemas.Word], Query(max_length=50)]
Ids = Annotated[list[schemas.Identity], Query(max_length=200)]
AttributeTerms = Annotated[
    list[Annotated[str, Field(max_length=LONGEST_TERM)]],
    Query(max_length=64, description='name=value, such as look=3 or pose=open; name="3" for the text'),
]
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "A PNG file."}}


def object_routes(labels: Labels) -> APIRouter:
    """The routes below ``objects``."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    registry = labels.registry

    @router.post("/objects", status_code=201)
    def register_one(
        sent: schemas.OneObjectSent, person: Labeller, response: Response, idempotency_key: IdempotencyKey = None
    ) -> schemas.ObjectGiven:
        """Register one object."""
        made = registry.register(_drafts(labels, sent.source_id, [sent], person), **_by(person, idempotency_key))
        return _tagged(registry.get(made.object_ids[0]), response)

    @router.post("/objects/batch", status_code=201)
    def register_batch(
        sent: schemas.BatchSent, person: Labeller, idempotency_key: IdempotencyKey = None
    ) -> schemas.BatchGiven:
        """Register objects of one source, all or none."""
        drafts = _drafts(labels, sent.source_id, sent.objects, person)
        made = registry.register(drafts, **_by(person, idempotency_key))
        return schemas.BatchGiven(object_ids=list(made.object_ids), repeated=made.repeated)

    @router.post("/objects/search/embedding")
    def search_embedding(sent: schemas.EmbeddingSearchSent, _person: Viewer) -> schemas.SearchGiven:
        """The objects that look most like a vector."""
        where = ObjectFilter(
            project=sent.project or "",
            categories=() if sent.category is None else (sent.category,),
            validated=sent.is_validated,
            min_score=sent.min_confidence,
        )
        vector, embedder = searched_vector(registry, sent.embedding, sent.embedder, where.project)
        return search_given(registry.search(vector, embedder, k=sent.top_k, where=where))

    @router.get("/objects")
    def find(
        _person: Viewer,
        category: Words = [],  # noqa: B006
        project: Annotated[str, Query(max_length=schemas.LONGEST_WORD)] = "",
        source_id: Ids = [],  # noqa: B006
        image_id: Ids = [],  # noqa: B006
        track_id: Ids = [],  # noqa: B006
        episode: Words = [],  # noqa: B006
        model: Words = [],  # noqa: B006
        score_kind: Annotated[list[ScoreKind], Query()] = [],  # noqa: B006
        state: Annotated[list[ReviewState], Query()] = [],  # noqa: B006
        is_validated: bool | None = None,
        validated_by: Annotated[str, Query(max_length=schemas.LONGEST_WORD)] = "",
        min_confidence: schemas.Share | None = None,
        max_confidence: schemas.Share | None = None,
        has_mask: bool | None = None,
        has_embedding: bool | None = None,
        min_area: schemas.Area | None = None,
        max_area: schemas.Area | None = None,
        attribute: AttributeTerms = [],  # noqa: B006
        captured_from_ns: schemas.Nanoseconds = 0,
        captured_until_ns: schemas.Nanoseconds = 0,
        created_from_ns: schemas.Nanoseconds = 0,
        created_until_ns: schemas.Nanoseconds = 0,
        order: Order = Order.NEWEST,
        limit: Limit = USUAL_PAGE,
        cursor: Cursor = "",
    ) -> schemas.ObjectPage:
        """A page of objects that meet every condition; values of one condition are alternatives, attributes add up."""
        where = ObjectFilter(
            project=project,
            categories=tuple(category),
            source_ids=tuple(source_id),
            image_ids=tuple(image_id),
            track_ids=tuple(track_id),
            episodes=tuple(episode),
            states=tuple(state),
            validated=is_validated,
            validated_by=validated_by,
            models=tuple(model),
            score_kinds=tuple(score_kind),
            min_score=min_confidence,
            max_score=max_confidence,
            captured_from_ns=captured_from_ns,
            captured_until_ns=captured_until_ns,
            created_from_ns=created_from_ns,
            created_until_ns=created_until_ns,
            has_mask=has_mask,
            has_embedding=has_embedding,
            min_area=min_area,
            max_area=max_area,
            attributes=parse_attributes(attribute),
        )
        page = registry.list_objects(where, order=order, limit=limit, cursor=cursor)
        return schemas.ObjectPage(items=[object_given(item) for item in page.objects], next_cursor=page.cursor)

    @router.patch("/objects")
    def update_several(sent: schemas.ObjectsChangeSent, person: Labeller) -> schemas.ObjectsChanged:
        """Change several objects in one step, all or none; what takes it back comes with the answer.

        One that somebody changed since that version refuses it (412).
        """
        versions = {one.object_id: one.version for one in sent.objects}
        if len(versions) < len(sent.objects):
            raise bad_request("invalid_value", "an object is named twice", "name each object once")
        change = _change(schemas.ObjectChangeSent(**sent.model_dump(exclude={"objects"})), person)
        wanted = dict.fromkeys(versions, change)
        made = registry.update_many(wanted, who=person.name, expected_versions=versions, reopen=True)
        return _changed(labels, list(versions), made)

    @router.post("/objects/undo")
    def undo_several(sent: schemas.ChangesSent, person: Labeller) -> schemas.ObjectsChanged:
        """Take back several changes in one step. What somebody else did needs a reviewer."""
        changes = registry.changes_by_id(sent.change_ids)
        for change in changes:
            _check_may_undo(change, person)
        made = registry.undo_many(sent.change_ids, who=person.name)
        return _changed(labels, list(dict.fromkeys(change.object_id for change in changes)), made)

    @router.get("/objects/{object_id}", responses={304: {"description": "It is as If-None-Match says."}})
    def get(
        object_id: ObjectId,
        _person: Viewer,
        response: Response,
        if_none_match: Annotated[str | None, Header(max_length=40)] = None,
    ) -> schemas.ObjectGiven:
        """One object; its ETag names the version."""
        item = registry.get(object_id)
        if if_none_match is not None and if_none_match == tag_of(item.version):
            response.status_code = 304
        return _tagged(item, response)

    @router.patch("/objects/{object_id}")
    def update(
        object_id: ObjectId,
        sent: schemas.ObjectChangeSent,
        person: Labeller,
        response: Response,
        if_match: IfMatch = None,
    ) -> schemas.ObjectGiven:
        """Change an object. With If-Match, a change by somebody else since then refuses this one (412)."""
        change, version = _change(sent, person), version_of(if_match)
        made = registry.update(object_id, change, who=person.name, expected_version=version, reopen=True)
        return _tagged(made, response)

    @router.delete("/objects/{object_id}", status_code=204)
    def delete(object_id: ObjectId, person: Reviewer, if_match: IfMatch = None) -> None:
        """Take an object out of everything; its history stays, and an undo brings it back."""
        registry.delete(object_id, who=person.name, expected_version=version_of(if_match))

    @router.get("/objects/{object_id}/history")
    def history(object_id: ObjectId, _person: Viewer) -> schemas.HistoryGiven:
        """All that was done to an object."""
        return schemas.HistoryGiven(items=[change_given(change) for change in registry.history(object_id)])

    @router.get("/objects/{object_id}/labels")
    def further_labels(object_id: ObjectId, _person: Viewer) -> schemas.LabelsGiven:
        """What models said of an object: the one that proposed it, and others, or other revisions, since then."""
        first = label_given(registry.first_label(object_id))
        return schemas.LabelsGiven(
            first=first, items=[label_given(label) for label in registry.labels([object_id])[object_id]]
        )

    @router.post("/objects/{object_id}/undo")
    def undo(
        object_id: ObjectId,
        person: Labeller,
        response: Response,
        change_id: schemas.ChangeNumber | None = None,
    ) -> schemas.ObjectGiven:
        """Take back the newest change of an object, or the one that is named. What somebody else did needs a reviewer.

        What a further model said is taken back by name only: the newest change is what was done to the object itself.
        """
        return _tagged(_undone(labels, object_id, person, change_id), response)

    @router.get("/objects/{object_id}/mask", response_class=Response, responses=_PNG)
    def mask(object_id: ObjectId, _person: Viewer) -> Response:
        """The mask, in the size of its picture, 0 or 255."""
        return Response(png_of(registry.mask(object_id)), media_type="image/png")

    @router.get("/objects/{object_id}/crop", response_class=Response, responses=_PNG)
    def crop(object_id: ObjectId, _person: Viewer, side: Annotated[int, Query(ge=16, le=512)] = 96) -> Response:
        """What is in the box, with a margin."""
        item = registry.get(object_id)
        source, image = labels.picture_of(item.image_id)
        return Response(labels.pictures.crop(source, image, item.box, side), media_type="image/png")

    @router.get("/objects/{object_id}/similar")
    def similar(
        object_id: ObjectId,
        _person: Viewer,
        top_k: Annotated[int, Query(ge=1, le=500)] = 10,
        category: Annotated[str | None, Query(max_length=schemas.LONGEST_WORD)] = None,
        project: Annotated[str, Query(max_length=schemas.LONGEST_WORD, description="empty: any")] = "",
    ) -> schemas.SearchGiven:
        """The objects that look most like this one."""
        where = ObjectFilter(project=project, categories=() if category is None else (category,))
        return search_given(registry.similar(object_id, k=top_k, where=where))

    return router


def _by(person: Person, key: str | None) -> dict[str, str]:
    return {"who": person.name, "key": batch_key(person, key)}


def _tagged(item: LabelledObject, response: Response) -> schemas.ObjectGiven:
    response.headers["ETag"] = tag_of(item.version)
    return object_given(item)


def _drafts(
    labels: Labels, source_id: str, sent: list[schemas.ObjectSent] | list[schemas.OneObjectSent], person: Person
) -> list[ObjectDraft]:
    only: str | None = None
    drafts = []
    for item in sent:
        if item.image_id is None and only is None:
            only = _only_image(labels, source_id)
        image_id = item.image_id or only
        assert image_id is not None
        drafts.append(draft_of(item, image_id, person))
    return drafts


def _only_image(labels: Labels, source_id: str) -> str:
    images = labels.registry.images(source_id, limit=2)
    if len(images) == 1:
        return images[0].image_id
    count = "no picture" if not images else "several pictures"
    raise GatewayError(422, "image_needed", f"source {source_id} has {count}", "name image_id in each object")


def _change(sent: schemas.ObjectChangeSent, person: Person) -> ObjectChange:
    state = sent.state
    if sent.is_validated is not None:
        implied = ReviewState.ACCEPTED if sent.is_validated else ReviewState.UNREVIEWED
        if state is not None and state.validated != sent.is_validated:
            raise bad_request("contradiction", f"state {state.value} and is_validated {sent.is_validated}", "send one")
        state = state or implied
    if state is not None and person.role < Role.REVIEWER:
        raise GatewayError(
            403,
            "role_too_low",
            f"{person.name!r} is {person.role.word}; state and is_validated need {Role.REVIEWER.word}",
            "leave them out, or use the token of a reviewer",
        )
    change = ObjectChange(
        category=sent.category,
        box=None if sent.bbox is None else box_of(sent.bbox),
        convention=sent.convention,
        state=state,
        quality=sent.quality_score,
        track_id=sent.track_id,
        attributes=sent.attributes,
    )
    if change == ObjectChange(convention=sent.convention):
        raise bad_request("nothing_to_change", "the body names nothing to change", "name at least one field")
    return change


def _undone(labels: Labels, object_id: str, person: Person, change_id: int | None) -> LabelledObject:
    changes = labels.registry.history(object_id)
    if change_id is None:
        meant = next((change for change in reversed(changes) if not change.undone and change.kind in _UNDOABLE), None)
        if meant is None:
            message = f"nothing of object {object_id} is left to be taken back"
            raise conflict("nothing_to_undo", message, "see its history")
    else:
        meant = next((change for change in changes if change.change_id == change_id), None)
        if meant is None:
            message = f"there is no change {change_id} of object {object_id}"
            raise GatewayError(404, "unknown_change", message, "see its history")
    _check_may_undo(meant, person)
    labels.registry.undo(who=person.name, change_id=meant.change_id)
    return labels.registry.get(object_id)


def _check_may_undo(change: Change, person: Person) -> None:
    if change.who != person.name and person.role < Role.REVIEWER:
        raise GatewayError(
            403,
            "not_your_change",
            f"change {change.change_id} of object {change.object_id} is by {change.who!r}",
            "ask that person, or a reviewer",
        )


def _changed(labels: Labels, object_ids: list[str], made: Sequence[Change]) -> schemas.ObjectsChanged:
    return schemas.ObjectsChanged(
        objects=[object_given(item) for item in labels.registry.get_many(object_ids)],
        change_ids=[change.change_id for change in made],
    )


_UNDOABLE = (ChangeKind.CREATED, ChangeKind.UPDATED, ChangeKind.DELETED)
