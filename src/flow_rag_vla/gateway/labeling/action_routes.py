# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can be done with objects, and what a robot did with them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query
from pydantic import Field

from flow_rag_vla.gateway.access import Labeller, Viewer
from flow_rag_vla.gateway.errors import bad_request
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.paging import USUAL_PAGE, Cursor, Limit, Project
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.schemas import (
    LONGEST_WORD,
    Attributes,
    Given,
    Identity,
    Nanoseconds,
    Number,
    Sent,
    Share,
    Word,
)
from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.registry.actions import ActionSequence, Affordance, Role

MOST_STEPS = 10_000
"""Steps of one action sequence in a request: four minutes at 40 Hz."""
MOST_WIDE = 64
MOST_PARTS = 50

_ID = r"^[0-9a-f]{32}$"
ObjectId = Annotated[str, Path(pattern=_ID, description="32 hex digits")]
SequenceId = Annotated[str, Path(pattern=_ID, description="32 hex digits")]
Text = Annotated[str, Field(max_length=LONGEST_WORD)]


class AffordanceSent(Sent):
    """Something that can be done with an object. The same name of the same episode replaces what was said."""

    name: Word = Field(description="such as graspable, pushable, stackable")
    score: Share = 1.0
    score_kind: ScoreKind = ScoreKind.HUMAN
    episode: Text = Field("", description="of the robot, that showed it")
    parameters: Attributes = Field(default_factory=dict, description="how, such as gripper_width in metres")


class AffordanceGiven(Given):
    """Something that can be done with an object; who: who said so."""

    object_id: str
    name: str
    score: float
    score_kind: ScoreKind
    episode: str
    parameters: dict[str, str | int | float | bool]
    who: str
    created_ns: int


class AffordanceList(Given):
    """Affordances: of one object by name, of several the surest first."""

    items: list[AffordanceGiven]


class PartSent(Sent):
    """An object that an action was about."""

    object_id: Identity
    role: Role = Role.TARGET


class SequenceSent(Sent):
    """What a robot did, with which objects. actions: rows of equal length, one a step; succeeded: null: not known."""

    source_id: Identity
    instruction: Annotated[str, Field(max_length=2_000)] = ""
    actions: Annotated[
        list[Annotated[list[Number], Field(min_length=1, max_length=MOST_WIDE)]],
        Field(min_length=1, max_length=MOST_STEPS),
    ]
    start_ns: Nanoseconds = 0
    period_ns: Annotated[int, Field(ge=1, lt=1 << 62)] = Field(25_000_000, description="from step to step")
    episode: Text = ""
    succeeded: bool | None = None
    objects: Annotated[list[PartSent], Field(max_length=MOST_PARTS)] = Field(default_factory=list)


class PartGiven(Given):
    """An object of an action; category: what it is called now."""

    object_id: str
    role: Role
    category: str


class SequenceSummary(Given):
    """What a robot did, without its steps."""

    sequence_id: str
    source_id: str
    instruction: str
    steps: int
    width: int
    start_ns: int
    period_ns: int
    episode: str
    succeeded: bool | None
    objects: list[PartGiven]
    who: str
    created_ns: int


class SequenceGiven(SequenceSummary):
    """The same with its steps."""

    actions: list[list[float]]


class SequencePage(Given):
    """Some action sequences, by their start."""

    items: list[SequenceSummary]
    next_cursor: str = Field(description="empty: this was the last page")


def action_routes(labels: Labels) -> APIRouter:
    """The routes below ``affordances`` and ``sequences``."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    actions = labels.registry.actions

    def summary(found: ActionSequence) -> dict[str, Any]:
        objects = labels.registry.get_many([object_id for object_id, _ in found.objects])
        return {
            "sequence_id": found.sequence_id,
            "source_id": found.source_id,
            "instruction": found.instruction,
            "steps": found.actions.shape[0],
            "width": found.actions.shape[1],
            "start_ns": found.start_ns,
            "period_ns": found.period_ns,
            "episode": found.episode,
            "succeeded": found.succeeded,
            "objects": [
                PartGiven(object_id=object_id, role=role, category=item.category)
                for (object_id, role), item in zip(found.objects, objects, strict=True)
            ],
            "who": found.who,
            "created_ns": found.created_ns,
        }

    @router.put("/objects/{object_id}/affordances")
    def say(object_id: ObjectId, sent: AffordanceSent, person: Labeller) -> AffordanceGiven:
        """Say what can be done with an object."""
        said = Affordance(object_id, sent.name, sent.score, sent.score_kind, sent.episode, sent.parameters)
        return _affordance(actions.add_affordance(said, who=person.name))

    @router.get("/objects/{object_id}/affordances")
    def of_object(object_id: ObjectId, _person: Viewer) -> AffordanceList:
        """What can be done with an object."""
        return AffordanceList(items=[_affordance(item) for item in actions.affordances(object_id)])

    @router.get("/affordances")
    def affording(
        name: Annotated[str, Query(min_length=1, max_length=LONGEST_WORD)],
        _person: Viewer,
        min_score: Share = 0.0,
        project: Project = "",
        limit: Limit = USUAL_PAGE,
    ) -> AffordanceList:
        """Objects with which something can be done, the surest first."""
        found = actions.objects_affording(name, min_score=min_score, project=project, limit=limit)
        return AffordanceList(items=[_affordance(item) for item in found])

    @router.post("/sequences", status_code=201)
    def record(sent: SequenceSent, person: Labeller) -> SequenceGiven:
        """Record what a robot did."""
        if len({len(row) for row in sent.actions}) > 1:
            raise bad_request("invalid_value", "the rows of actions differ in length", "send equally long rows")
        made = actions.add_sequence(
            ActionSequence(
                source_id=sent.source_id,
                instruction=sent.instruction,
                actions=np.asarray(sent.actions, np.float32),
                start_ns=sent.start_ns,
                period_ns=sent.period_ns,
                episode=sent.episode,
                succeeded=sent.succeeded,
                objects=tuple((part.object_id, part.role) for part in sent.objects),
            ),
            who=person.name,
        )
        return SequenceGiven(**summary(made), actions=made.actions.tolist())

    @router.get("/sequences")
    def sequences(
        _person: Viewer,
        episode: Annotated[str, Query(max_length=LONGEST_WORD)] = "",
        object_id: Annotated[str, Query(pattern=r"^([0-9a-f]{32})?$", description="32 hex digits")] = "",
        project: Project = "",
        limit: Limit = USUAL_PAGE,
        cursor: Cursor = "",
    ) -> SequencePage:
        """A page of what a robot did in an episode, or with an object: which action was about which objects."""
        if bool(episode) == bool(object_id):
            raise bad_request("invalid_value", "neither or both of episode and object_id are named", "name one")
        if episode:
            found = actions.sequences_of_episode(episode, project=project, limit=limit + 1, after=cursor)
        else:
            found = actions.sequences_with(object_id, project=project, limit=limit + 1, after=cursor)
        items = [SequenceSummary(**summary(item)) for item in found[:limit]]
        return SequencePage(items=items, next_cursor=items[-1].sequence_id if len(found) > limit else "")

    @router.get("/sequences/{sequence_id}")
    def sequence(sequence_id: SequenceId, _person: Viewer) -> SequenceGiven:
        """One action sequence with its steps."""
        found = actions.sequence(sequence_id)
        return SequenceGiven(**summary(found), actions=found.actions.tolist())

    return router


def _affordance(found: Affordance) -> AffordanceGiven:
    return AffordanceGiven(
        object_id=found.object_id,
        name=found.name,
        score=found.score,
        score_kind=found.score_kind,
        episode=found.episode,
        parameters=dict(found.parameters),
        who=found.who,
        created_ns=found.created_ns,
    )
