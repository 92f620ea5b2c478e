# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings and evaluations of detectors as jobs: started, watched, withdrawn."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from pydantic import Field

from flow_rag_vla.gateway.access import Operator, Viewer
from flow_rag_vla.gateway.errors import GatewayError, bad_request, conflict, not_found
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.places import without_folders
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.schemas import Given, Sent
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.evaluation import report as evaluation_report
from flow_rag_vla.labeling.evaluation.dataset import stored_dataset
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.training.jobs import Job, Jobs
from flow_rag_vla.labeling.training.orders import TRAINING_PAGE, EvaluateOrder, Order, TrainOrder
from flow_rag_vla.labeling.training.settings import settings_from

JobName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", description="name of a job")]
NewName = Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", description="empty: a new one")]
PlaceOrWord = Annotated[str, Field(max_length=schemas.LONGEST_PATH)]
PAGES = (TRAINING_PAGE, evaluation_report.PAGE)


class TrainingSent(Sent):
    """A training. settings: of ``DetectorTraining``, what differs from the usual; model: left to the server's owner."""

    dataset: PlaceOrWord = Field(description="a dataset of this registry, as name or name@vN, or simulator:N scenes")
    name: NewName = ""
    settings: Annotated[dict[str, schemas.Plain], Field(max_length=32)] = Field(default_factory=dict)
    start_from: NewName = Field("", description="name of a finished training whose detector is gone on from")


class EvaluationSent(Sent):
    """An evaluation of a finished training, or of a detector that needs no model."""

    dataset: PlaceOrWord = Field(description="a dataset of this registry, as name or name@vN, or simulator:N scenes")
    part: Annotated[str, Field(pattern=r"^(train|val|test)$")] = "test"
    training: NewName = Field("", description="name of a finished training; empty: the shipped compact detector")
    threshold: schemas.Share = 0.5
    most: Annotated[int, Field(ge=0, le=1_000_000, description="pictures at most; 0: all")] = 0


class JobGiven(Given):
    """A job. state: waiting, running, finished, stopped or failed; pages: that can be read now."""

    name: str
    kind: str
    dataset: str
    state: str
    code: str
    message: str
    stage: str
    done: int
    total: int
    note: str
    map: float
    map50: float
    pages: list[str]


class JobList(Given):
    """The latest first."""

    items: list[JobGiven]


def training_routes(jobs: Jobs | None, store: DatasetStore) -> APIRouter:
    """The routes below ``trainings``.

    Args:
        jobs: of this server; None: it starts none and has none.
        store: the datasets that may be named.
    """
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)

    def known() -> Jobs:
        if jobs is None:
            raise conflict("no_trainings", "this server does no trainings", "start it with a folder for them")
        return jobs

    def detector_of(name: str) -> str:
        job = _job(known(), name)
        if not isinstance(job.order, TrainOrder) or not job.status.result:
            raise conflict("no_model", f"job {name} has no detector yet", "name a training that has tried its weights")
        return job.status.result

    @router.post("/trainings", status_code=202)
    def train(sent: TrainingSent, _person: Operator) -> JobGiven:
        """Start a training; the name of one that was stopped, with the same order, goes on with it."""
        if "model" in sent.settings:
            raise bad_request("setting_out_of_range", "model is not taken over HTTP", "send start_from: a training")
        settings = dict(sent.settings)
        if sent.start_from:
            settings["model"] = detector_of(sent.start_from)
        return _given(
            _started(
                known(), TrainOrder(stored_dataset(sent.dataset, store), settings_from(settings), "auto"), sent.name
            )
        )

    @router.post("/evaluations", status_code=202)
    def evaluate(sent: EvaluationSent, _person: Operator) -> JobGiven:
        """Start an evaluation."""
        detector, model = ("detr", detector_of(sent.training)) if sent.training else ("compact", "")
        order = EvaluateOrder(
            stored_dataset(sent.dataset, store), sent.part, detector, model, sent.threshold, sent.most
        )
        return _given(_started(known(), order, ""))

    @router.get("/trainings")
    def listed(_person: Viewer) -> JobList:
        """All jobs of this server: trainings and evaluations."""
        return JobList(items=[_given(job) for job in (jobs.jobs() if jobs is not None else [])])

    @router.get("/trainings/{name}")
    def one(name: JobName, _person: Viewer) -> JobGiven:
        """How a job stands."""
        return _given(_job(known(), name))

    @router.post("/trainings/{name}/cancel", status_code=202)
    def cancel(name: JobName, _person: Operator) -> JobGiven:
        """Have a job end; a training writes a checkpoint first."""
        _job(known(), name)
        return _given(known().cancel(name))

    @router.get("/trainings/{name}/{page}", response_class=HTMLResponse)
    def shown(name: JobName, page: Annotated[str, Path(pattern=r"^[a-z]+\.html$")], _person: Viewer) -> HTMLResponse:
        """A page of a job: training.html or evaluation.html. Nothing in it runs or is loaded from elsewhere."""
        job = _job(known(), name)
        if page not in _pages(job):
            have = ", ".join(_pages(job)) or "none yet"
            raise not_found("page_missing", f"job {name} has no {page}; it has {have}", "ask when it is further")
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        text = (job.folder / page).read_text(encoding="utf-8")
        # What a training went on from is named by where it lies, beside the others.
        text = text.replace(escape(f"{job.folder.parent}/"), "")
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    return router


def _job(jobs: Jobs, name: str) -> Job:
    try:
        return jobs.job(name)
    except LabelingError as error:
        raise not_found(error.code, str(error), "see /api/labeling/trainings") from error


def _started(jobs: Jobs, order: Order, name: str) -> Job:
    try:
        return jobs.start(order, name)
    except LabelingError as error:
        if error.code in ("busy", "job_exists"):
            raise conflict(error.code, str(error), "wait for its end, cancel it, or take another name") from error
        raise
    except OSError as error:
        raise GatewayError(503, "storage_failed", f"the job cannot be started: {error}", "free space") from error


def _pages(job: Job) -> list[str]:
    return [name for name in PAGES if (job.folder / name).is_file()]


def _given(job: Job) -> JobGiven:
    values = asdict(job.status)
    words = {name: values[name] for name in ("state", "code", "message", "stage", "done", "total", "note", "map50")}
    words |= {name: without_folders(words[name]) for name in ("message", "note")}
    kind = "training" if isinstance(job.order, TrainOrder) else "evaluation"
    return JobGiven(
        name=job.name, kind=kind, dataset=_dataset(job), map=job.status.best,
        pages=_pages(job), **words,
    )  # fmt: skip


def _dataset(job: Job) -> str:
    """As it was named: not where it lies on the server."""
    text = job.order.dataset
    return "@".join(text.rsplit("/", 2)[1:]) if "/" in text else text
