# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is worth a look: the most useful next, likely mistakes, near duplicates, groups; and masks that people draw."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from flow_rag_vla.gateway.access import Labeller, Role, Viewer
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.labels import Labels, mask_of
from flow_rag_vla.gateway.labeling.paging import (
    USUAL_PAGE,
    IfMatch,
    Limit,
    Project,
    RankCursor,
    ranked_from,
    tag_of,
    version_of,
)
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.views import object_given
from flow_rag_vla.labeling.curation.groups import Group, Groupings, Strength
from flow_rag_vla.labeling.curation.neighbours import nearest_neighbours
from flow_rag_vla.labeling.curation.pictures import PictureGroups, picture_duplicates
from flow_rag_vla.labeling.curation.pool import last_change, read_pool
from flow_rag_vla.labeling.curation.queue import Ranked, Rankings
from flow_rag_vla.labeling.curation.scores import NEIGHBOURS, Mistakenness, Scores, mistakenness, uniqueness
from flow_rag_vla.labeling.pipeline.boxes import box_of
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import ObjectChange, ReviewState

MOST_OBJECTS = 20_000
"""Objects that are compared with each other for one answer: of more, those with the lowest scores."""
MOST_GROUPS_ASKED = 100
MOST_SHOWN_OF_GROUP = 20
_KEPT = 4
"""Comparisons of a project that cursors still count in while the registry changes."""
_ID = r"^[0-9a-f]{32}$"
ObjectId = Annotated[str, Path(pattern=_ID, description="32 hex digits")]
Words = Annotated[list[schemas.Word], Query(max_length=50)]
Ids = Annotated[list[schemas.Identity], Query(max_length=200)]
GroupCount = Annotated[
    int | None, Query(ge=1, le=MOST_GROUPS_ASKED, description="how many; left out: as many as there are")
]
Value = TypeVar("Value")


class NextGiven(schemas.Given):
    """One object of the queue. value: the product of the three, each 0 to 1; reason: the failure it is from."""

    object: schemas.ObjectGiven
    value: float
    uncertainty: float
    typicality: float
    novelty: float
    reason: str


class NextPage(schemas.Given):
    """The most useful first. judged: objects learned from; near_failures: how many come first because of a failure."""

    items: list[NextGiven]
    next_cursor: str = Field(description="empty: this was the last page")
    waiting: int
    judged: int
    near_failures: int


class MistakeGiven(schemas.Given):
    """An object whose label may be wrong. score: 0 to 1, of its parts; suggested: what most look-alikes are."""

    object: schemas.ObjectGiven
    score: float
    neighbours: float
    model: float | None = Field(description="null: no model spoke of this object")
    suggested: str


class MistakePage(schemas.Given):
    """The likeliest mistakes first."""

    items: list[MistakeGiven]
    next_cursor: str = Field(description="empty: this was the last page")
    compared: int


class UniqueGiven(schemas.Given):
    """An object and how unlike all others it is. score: 0 for a copy to 1 for the most unlike of its project."""

    object: schemas.ObjectGiven
    score: float


class UniquePage(schemas.Given):
    """The least like any other first. compared: objects with a vector; the scores of two sets do not compare."""

    items: list[UniqueGiven]
    next_cursor: str = Field(description="empty: this was the last page")
    compared: int


class DuplicateGiven(schemas.Given):
    """Pictures that show the same as one that stands for them. similarity: the least of their cosines to it."""

    kept_image_id: str
    image_ids: list[str]
    similarity: float


class DuplicateList(schemas.Given):
    """Groups of near duplicates, the largest first; unread: pictures that could not be looked at."""

    items: list[DuplicateGiven]
    pictures: int
    unread: list[str]


class GroupGiven(schemas.Given):
    """Objects that look alike. silhouette: how far from the other groups, -1 to 1; spread: 0 for copies."""

    group: int = Field(description="from 1, the largest")
    objects: int
    mostly: str = Field(description="what most of them are called")
    mostly_share: float
    silhouette: float
    spread: float
    typical: list[schemas.ObjectGiven] = Field(description="the most typical first")
    unusual: list[schemas.ObjectGiven] = Field(description="the least typical first")


class GroupPage(schemas.Given):
    """The largest group first. strength: clear, weak, or none: then what was asked for is no better than chance."""

    items: list[GroupGiven]
    groups: int
    strength: Strength
    silhouette: float = Field(description="of the best partition that was tried")
    chance: float = Field(description="the most that clouds without groups have")
    compared: int = Field(description="objects that were grouped")


class MemberGiven(schemas.Given):
    """An object of a group. likeness: its cosine to the group's mean direction."""

    object: schemas.ObjectGiven
    likeness: float


class MemberPage(schemas.Given):
    """The most typical first."""

    items: list[MemberGiven]
    next_cursor: str = Field(description="empty: this was the last page")
    objects: int


class MaskSent(schemas.Sent):
    """A mask that somebody drew; the box becomes the one that it fills. state needs a reviewer."""

    mask: Annotated[str, Field(min_length=1, max_length=1 << 21)] = Field(
        description="base64 of a PNG of the picture's size, 0 or 255"
    )
    state: ReviewState | None = None


@dataclass(frozen=True, slots=True)
class _Compared:
    """The objects of a project, each compared with its look-alikes, as they were at a change of the registry.

    Their vectors are not kept: a few of these are, for the cursors that count in them.
    """

    generation: int
    object_ids: tuple[str, ...]
    labels: tuple[str, ...]
    states: tuple[ReviewState, ...]
    mistakes: Mistakenness
    unique: Scores

    def ranked(self, scores: Scores, categories: list[str], states: list[ReviewState]) -> list[int]:
        """Rows of some categories and states (none named: all but rejected ones), the greatest scores first."""
        rows = [
            row
            for row in range(len(self.object_ids))
            if (not categories or self.labels[row] in categories) and _in_states(self.states[row], states)
        ]
        return sorted(rows, key=lambda row: (-scores[row], row))


class _Newest(Generic[Value]):
    """The newest answers of a slow question to a project, made again when the registry has changed."""

    def __init__(self, labels: Labels, make: Callable[[str, int], Value], count: int = 1) -> None:
        self._labels, self._make, self._count = labels, make, count
        self._turn = threading.Lock()
        self._kept: dict[str, dict[int, Value]] = {}

    def of(self, project: str) -> Value:
        """The answer that is true now."""
        with self._turn:
            generation = last_change(self._labels.registry)
            answers = self._kept.get(project, {})
            if generation not in answers:
                # An unknown project is refused by what makes the answer, so that it is never kept.
                answers = {**answers, generation: self._make(project, generation)}
                self._kept[project] = dict(list(answers.items())[-self._count :])
            return answers[generation]

    def kept(self, project: str, generation: int) -> Value | None:
        """One that was given before; None where it is no longer kept."""
        with self._turn:
            return self._kept.get(project, {}).get(generation)


def curation_routes(labels: Labels) -> APIRouter:
    """The routes below ``curation``, and the one that takes drawn masks."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    registry = labels.registry
    rankings = Rankings(registry)
    groupings = Groupings(registry, most=MOST_OBJECTS)

    def compared(project: str, generation: int) -> _Compared:
        pool = read_pool(registry, ObjectFilter(project=project), most=MOST_OBJECTS)
        neighbours = nearest_neighbours(pool.vectors, NEIGHBOURS)
        scores = mistakenness(pool, neighbours), uniqueness(neighbours)
        return _Compared(generation, pool.object_ids, pool.labels, pool.states, *scores)

    def doubled(project: str, _generation: int) -> PictureGroups:
        pool = read_pool(registry, ObjectFilter(project=project), most=MOST_OBJECTS)
        return picture_duplicates(pool, lambda image_id: _pixels(labels, image_id))

    comparisons, duplicates = _Newest(labels, compared, _KEPT), _Newest(labels, doubled)

    def comparison_of(project: str, cursor: str) -> tuple[_Compared, int]:
        """What a cursor counts in and where it goes on; where that is gone, what is true now, from its beginning."""
        generation, start = ranked_from(cursor)
        found = comparisons.kept(project, generation) if cursor else None
        return (comparisons.of(project), 0) if found is None else (found, start)

    @router.get("/curation/next")
    def most_useful(
        _person: Viewer,
        category: Words = [],  # noqa: B006
        project: Project = "",
        source_id: Ids = [],  # noqa: B006
        limit: Limit = USUAL_PAGE,
        cursor: RankCursor = "",
    ) -> NextPage:
        """Unreviewed objects, the most useful to review first. Without a cursor it is ranked by what is there now."""
        where = ObjectFilter(project=project, categories=tuple(category), source_ids=tuple(source_id))
        generation, start = ranked_from(cursor)
        ranking = rankings.kept(where, generation) if cursor else None
        if ranking is None:
            # What the cursor counted in is gone: begin again, with what is true now.
            ranking, start = rankings.newest(where), 0
        shown = ranking.items[start : start + limit]
        after = start + len(shown)
        return NextPage(
            items=_still_open(labels, shown),
            next_cursor=f"{ranking.generation}-{after}" if after < len(ranking.items) else "",
            waiting=ranking.waiting,
            judged=ranking.judged,
            near_failures=ranking.near_failures,
        )

    @router.get("/curation/mistakes")
    def mistakes(
        _person: Viewer,
        category: Words = [],  # noqa: B006
        state: Annotated[list[ReviewState], Query()] = [],  # noqa: B006
        project: Project = "",
        limit: Limit = USUAL_PAGE,
        cursor: RankCursor = "",
    ) -> MistakePage:
        """Objects whose label disagrees with what looks alike and with the model, the likeliest mistakes first.

        What was deleted, or judged to be of another state than those asked for, since the first page is left out.
        """
        comparison, start = comparison_of(project, cursor)
        found = comparison.mistakes
        ranked = comparison.ranked(found.score, category, state)
        rows = ranked[start : start + limit]
        objects = registry.get_many([comparison.object_ids[row] for row in rows])
        items = [
            MistakeGiven(
                object=object_given(item),
                score=float(found.score[row]),
                neighbours=float(found.neighbours[row]),
                model=None if math.isnan(found.model[row]) else float(found.model[row]),
                suggested=found.suggested[row],
            )
            for row, item in zip(rows, objects, strict=True)
            if not item.deleted and _in_states(item.state, state)
        ]
        following = _following(comparison, start + limit, len(ranked))
        return MistakePage(items=items, next_cursor=following, compared=len(comparison.object_ids))

    @router.get("/curation/unique")
    def unlike_others(
        _person: Viewer,
        category: Words = [],  # noqa: B006
        state: Annotated[list[ReviewState], Query()] = [],  # noqa: B006
        project: Project = "",
        limit: Limit = USUAL_PAGE,
        cursor: RankCursor = "",
    ) -> UniquePage:
        """A page of objects by how unlike all others of their project they are, the most unlike first.

        What was deleted, or judged to be of another state than those asked for, since the first page is left out.
        """
        comparison, start = comparison_of(project, cursor)
        scores = comparison.unique
        ranked = comparison.ranked(scores, category, state)
        rows = ranked[start : start + limit]
        objects = registry.get_many([comparison.object_ids[row] for row in rows])
        items = [
            UniqueGiven(object=object_given(item), score=float(scores[row]))
            for row, item in zip(rows, objects, strict=True)
            if not item.deleted and _in_states(item.state, state)
        ]
        following = _following(comparison, start + limit, len(ranked))
        return UniquePage(items=items, next_cursor=following, compared=len(comparison.object_ids))

    @router.get("/curation/duplicates")
    def near_duplicates(_person: Viewer, project: Project = "", limit: Limit = USUAL_PAGE) -> DuplicateList:
        """Pictures that show the same things in the same places, grouped under the one that stands for them."""
        found = duplicates.of(project)
        members = sorted(found.groups.members().items(), key=lambda item: (-len(item[1]), item[0]))
        items = [
            DuplicateGiven(
                kept_image_id=found.image_ids[kept],
                image_ids=[found.image_ids[row] for row in rows],
                similarity=float(found.groups.similarities[rows].min()),
            )
            for kept, rows in members[:limit]
        ]
        return DuplicateList(items=items, pictures=len(found.image_ids), unread=list(found.unread))

    @router.get("/curation/groups")
    def look_groups(
        _person: Viewer,
        category: Words = [],  # noqa: B006
        state: Annotated[list[ReviewState], Query()] = [],  # noqa: B006
        project: Project = "",
        groups: GroupCount = None,
        members: Annotated[int, Query(ge=0, le=MOST_SHOWN_OF_GROUP, description="objects to show of each group")] = 3,
        limit: Limit = USUAL_PAGE,
    ) -> GroupPage:
        """Objects in groups that look alike, the largest first; rejected ones only where their state is asked for."""
        where = ObjectFilter(project=project, categories=tuple(category), states=tuple(state))
        found = groupings.newest(where, groups)
        grouping, ids = found.grouping, found.pool.object_ids
        shown = grouping.groups[:limit]
        wanted = {ids[row] for group in shown for row in _ends(group, members)}
        objects = {item.object_id: item for item in registry.get_many(sorted(wanted)) if not item.deleted}

        def given(rows: list[int]) -> list[schemas.ObjectGiven]:
            return [object_given(objects[ids[row]]) for row in rows if ids[row] in objects]

        items = []
        for number, group in enumerate(shown, 1):
            mostly, share = found.commonest_label(group)
            items.append(
                GroupGiven(
                    group=number,
                    objects=len(group),
                    mostly=mostly,
                    mostly_share=share,
                    silhouette=group.silhouette,
                    spread=group.spread,
                    typical=given(group.rows[:members].tolist()),
                    unusual=given(group.unusual(members).tolist()),
                )
            )
        return GroupPage(
            items=items,
            groups=len(grouping.groups),
            strength=grouping.strength,
            silhouette=grouping.silhouette,
            chance=grouping.chance,
            compared=len(found.pool),
        )

    @router.get("/curation/groups/{group}")
    def group_members(
        group: Annotated[int, Path(ge=1, le=MOST_GROUPS_ASKED, description="from 1, the largest")],
        _person: Viewer,
        category: Words = [],  # noqa: B006
        state: Annotated[list[ReviewState], Query()] = [],  # noqa: B006
        project: Project = "",
        groups: GroupCount = None,
        limit: Limit = USUAL_PAGE,
        cursor: RankCursor = "",
    ) -> MemberPage:
        """The objects of one group, the most typical first. Send what the groups were asked for with."""
        where = ObjectFilter(project=project, categories=tuple(category), states=tuple(state))
        generation, start = ranked_from(cursor)
        found = groupings.kept(where, groups, generation) if cursor else None
        if found is None:
            # What the cursor counted in is gone: begin again, with what is true now.
            found, start = groupings.newest(where, groups), 0
        made = found.grouping.groups
        if group > len(made):
            raise GatewayError(
                404, "unknown_group", f"there is no group {group}", f"there are {len(made)}; ask curation/groups again"
            )
        chosen = made[group - 1]
        rows = chosen.rows[start : start + limit].tolist()
        objects = registry.get_many([found.pool.object_ids[row] for row in rows])
        likeness = chosen.likeness[start : start + limit].tolist()
        items = [
            MemberGiven(object=object_given(item), likeness=value)
            for value, item in zip(likeness, objects, strict=True)
            if not item.deleted
        ]
        after = start + len(rows)
        cursor = f"{found.generation}-{after}" if after < len(chosen) else ""
        return MemberPage(items=items, next_cursor=cursor, objects=len(chosen))

    @router.put("/objects/{object_id}/mask")
    def draw(
        object_id: ObjectId, sent: MaskSent, person: Labeller, response: Response, if_match: IfMatch = None
    ) -> schemas.ObjectGiven:
        """Replace the mask, and the box by the one that it fills; the history keeps both, an undo brings them back."""
        if sent.state is not None and person.role < Role.REVIEWER:
            raise GatewayError(
                403,
                "role_too_low",
                f"{person.name!r} is {person.role.word}; state needs {Role.REVIEWER.word}",
                "leave it out, or use the token of a reviewer",
            )
        mask = mask_of(sent.mask)
        image = registry.image(registry.get(object_id).image_id)
        box = box_of(mask)
        if mask.shape != (image.height, image.width) or box is None:
            raise GatewayError(
                422,
                "invalid_mask",
                f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels, {int(mask.sum())} of them inside",
                f"send {image.width} x {image.height} pixels, the size of the picture, with something inside",
            )
        change, version = ObjectChange(mask=mask, box=box, state=sent.state), version_of(if_match)
        made = registry.update(object_id, change, who=person.name, expected_version=version, reopen=True)
        response.headers["ETag"] = tag_of(made.version)
        return object_given(made)

    return router


def _in_states(state: ReviewState, states: list[ReviewState]) -> bool:
    """Whether a state is one of some; none named: any but rejected."""
    return state in states if states else state is not ReviewState.REJECTED


def _following(comparison: _Compared, after: int, count: int) -> str:
    """The cursor that goes on after so many of a ranking."""
    return f"{comparison.generation}-{after}" if after < count else ""


def _ends(group: Group, count: int) -> list[int]:
    """Rows of the most and of the least typical of a group."""
    return [*group.rows[:count].tolist(), *group.unusual(count).tolist()]


def _still_open(labels: Labels, shown: tuple[Ranked, ...]) -> list[NextGiven]:
    """Those of a ranking that nobody has judged or deleted since it was made."""
    objects = labels.registry.get_many([item.object_id for item in shown])
    return [
        NextGiven(
            object=object_given(item),
            value=ranked.value,
            uncertainty=ranked.uncertainty,
            typicality=ranked.typicality,
            novelty=ranked.novelty,
            reason=ranked.reason,
        )
        for ranked, item in zip(shown, objects, strict=True)
        if item.state is ReviewState.UNREVIEWED and not item.deleted
    ]


def _pixels(labels: Labels, image_id: str) -> Image | None:
    try:
        return labels.pictures.pixels(*labels.picture_of(image_id))
    except (GatewayError, LabelingError, RegistryError, OSError):
        return None
