# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Projects and classes: what there is to register, before anything is registered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from flow_rag_vla.gateway.access import Reviewer, Viewer
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.schemas import LONGEST_WORD, CategoryGiven, Given, Sent, Word
from flow_rag_vla.gateway.labeling.views import category_given
from flow_rag_vla.labeling.registry.values import DEFAULT_PROJECT, Project

CategoryName = Annotated[str, Path(min_length=1, max_length=LONGEST_WORD, description="name of a class")]
ProjectName = Annotated[str, Path(min_length=1, max_length=LONGEST_WORD, description="name of a project")]


class ProjectSent(Sent):
    """A project to be made. closed_vocabulary: only its own categories may be registered."""

    name: Word
    closed_vocabulary: bool = False
    description: Annotated[str, Field(max_length=4_000)] = ""


class ProjectChangeSent(Sent):
    """What is to be different of a project."""

    closed_vocabulary: bool


class ProjectGiven(Given):
    """A set of sources with a vocabulary of its own."""

    name: str
    closed_vocabulary: bool
    description: str
    created_ns: int


class ProjectList(Given):
    """All projects, by name."""

    items: list[ProjectGiven]


class CategorySent(Sent):
    """A class to be made, or further words for one that is there; synonyms are taken for it in registration."""

    name: Word
    project: Word = DEFAULT_PROJECT
    synonyms: Annotated[list[Word], Field(max_length=50)] = Field(default_factory=list)


class CategoryChangeSent(Sent):
    """Another name for a class. merge: the name may be that of another class, of which its objects then are."""

    name: Word
    project: Word = DEFAULT_PROJECT
    merge: bool = False


def catalogue_routes(labels: Labels) -> APIRouter:
    """The routes below ``projects``, and the one that makes categories."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    registry = labels.registry

    @router.get("/projects")
    def projects(_person: Viewer) -> ProjectList:
        """Every project."""
        return ProjectList(items=[_project(item) for item in registry.projects()])

    @router.post("/projects", status_code=201)
    def add_project(sent: ProjectSent, _person: Reviewer) -> ProjectGiven:
        """Make a project."""
        made = registry.add_project(sent.name, closed_vocabulary=sent.closed_vocabulary, description=sent.description)
        return _project(made)

    @router.patch("/projects/{name}")
    def change_project(name: ProjectName, sent: ProjectChangeSent, _person: Reviewer) -> ProjectGiven:
        """Close a project's vocabulary, or open it again."""
        return _project(registry.close_vocabulary(name, sent.closed_vocabulary))

    @router.post("/categories", status_code=201)
    def add_category(sent: CategorySent, _person: Reviewer) -> CategoryGiven:
        """Make a class, or give one that is there further synonyms."""
        registry.add_category(sent.name, project=sent.project, synonyms=sent.synonyms)
        found = registry.categories(sent.project, counted=True)
        return category_given(next(item for item in found if item.name == sent.name))

    @router.patch("/categories/{name:path}")
    def change_category(name: CategoryName, sent: CategoryChangeSent, person: Reviewer) -> CategoryGiven:
        """Rename a class, or merge it into another one; its words stay as synonyms."""
        known = {item.name for item in registry.categories(sent.project)}
        if sent.merge and sent.name in known:
            return category_given(registry.merge_category(name, sent.name, who=person.name, project=sent.project))
        return category_given(registry.rename_category(name, sent.name, project=sent.project))

    return router


def _project(found: Project) -> ProjectGiven:
    return ProjectGiven(
        name=found.name,
        closed_vocabulary=found.closed_vocabulary,
        description=found.description,
        created_ns=found.created_ns,
    )
