# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The section of the gateway in which labels are found, corrected and accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from flow_rag_vla.gateway.access import Role, Viewer
from flow_rag_vla.gateway.app import Section
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.action_routes import action_routes
from flow_rag_vla.gateway.labeling.catalogue_routes import catalogue_routes
from flow_rag_vla.gateway.labeling.curation_routes import curation_routes
from flow_rag_vla.gateway.labeling.dataset_routes import dataset_routes
from flow_rag_vla.gateway.labeling.forms import closed_forms
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.model_routes import model_routes
from flow_rag_vla.gateway.labeling.object_routes import object_routes
from flow_rag_vla.gateway.labeling.places import without_folders
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.source_routes import source_routes
from flow_rag_vla.gateway.labeling.summary_routes import summary_routes
from flow_rag_vla.gateway.labeling.training_routes import training_routes
from flow_rag_vla.gateway.labeling.uploads import MOST_BYTES
from flow_rag_vla.gateway.labeling.video_routes import video_routes
from flow_rag_vla.gateway.labeling.videos import VideoJobs
from flow_rag_vla.gateway.metrics import Metric, gauge, labelled
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.training.jobs import Jobs
from flow_rag_vla.labeling.video import limits

NAME = "labeling"
PAGE = Path(__file__).with_name("page")
_ROOM_FOR_FORM = 1 << 20


def labeling_section(labels: Labels, jobs: Jobs | None = None) -> Section:
    """Everything below ``/api/labeling``, and the review page at ``/labeling/``. jobs: trainings of detectors."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)

    @router.get("/me")
    def me(person: Viewer) -> schemas.Me:
        """Whose token this is, and what it permits."""
        return schemas.Me(name=person.name, role=person.role.word, may_review=person.role >= Role.REVIEWER)

    @router.get("/openapi.json", include_in_schema=False)
    def description(_person: Viewer, request: Request) -> JSONResponse:
        """Every route of this server, as OpenAPI."""
        app: FastAPI = request.app
        return JSONResponse(closed_forms(app.openapi(), NAME))

    for routes in (
        model_routes,
        catalogue_routes,
        source_routes,
        object_routes,
        action_routes,
        summary_routes,
        curation_routes,
        dataset_routes,
    ):
        router.include_router(routes(labels))

    videos = VideoJobs(labels.registry, labels.models)
    router.include_router(video_routes(videos))
    router.include_router(training_routes(jobs, DatasetStore.of(labels.registry)))

    def metrics() -> Iterable[Metric]:
        counts = labels.registry.statistics()
        states = {name: float(count) for name, count in counts.by_state.items()}
        yield gauge("flow_rag_vla_label_sources", "Registered sources.", counts.sources)
        yield gauge("flow_rag_vla_label_images", "Registered pictures.", counts.images)
        yield labelled("flow_rag_vla_label_objects", "gauge", "Objects by state of review.", "state", states)

    def missing() -> Sequence[str]:
        try:
            labels.registry.statistics()
        except RegistryError as error:
            return (without_folders(str(error)),)
        return ()

    return Section(
        NAME,
        router,
        PAGE,
        MOST_BYTES + _ROOM_FOR_FORM,
        metrics,
        missing,
        {"videos": limits.MOST_BYTES + _ROOM_FOR_FORM},
        videos.close,
    )
