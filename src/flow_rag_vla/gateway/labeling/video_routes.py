# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Videos as jobs: sent, labelled into tracks, watched, withdrawn."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Path, UploadFile

from flow_rag_vla.gateway.access import Labeller, Viewer
from flow_rag_vla.gateway.labeling import schemas
from flow_rag_vla.gateway.labeling.model_routes import Classes, Confidence, Synonyms, Tiles, request_of
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.gateway.labeling.schemas import Given
from flow_rag_vla.gateway.labeling.videos import VideoJob, VideoJobs, VideoOrder

JobName = Annotated[str, Path(pattern=r"^video-[0-9]{1,9}$", description="name of a job")]


class VideoGiven(Given):
    """A video that is labelled. state: running, finished, failed or canceled.

    width, height: pixels; seconds, frames: of the video; images: frames that are done, of about total
    objects: found so far; new: of them, those that were not known before; tracks: at the end
    """

    name: str
    source_id: str
    state: str
    code: str
    message: str
    images: int
    total: int
    objects: int
    new: int
    tracks: int
    width: int
    height: int
    seconds: float
    frames: int


class VideoList(Given):
    """The latest first."""

    items: list[VideoGiven]


def video_routes(jobs: VideoJobs) -> APIRouter:
    """The routes below ``videos``."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)

    @router.post("/videos", status_code=202)
    def send(
        video: Annotated[UploadFile, File(description="MP4, QuickTime, Matroska, WebM, AVI or MPEG")],
        person: Labeller,
        classes: Classes = [],  # noqa: B006
        confidence: Confidence = 0.5,
        synonyms: Synonyms = [],  # noqa: B006
        tiles: Tiles = "",
        every: Annotated[
            float, Form(ge=0.0, le=3600.0, allow_inf_nan=False, description="least seconds between frames; 0: all")
        ] = 0.0,
        project: Annotated[str, Form(min_length=1, max_length=schemas.LONGEST_WORD)] = "default",
    ) -> VideoGiven:
        """Send a video and begin to label it; ``GET videos/{name}`` tells how far it is.

        Its objects and tracks are those of the source. The same video with the same request again adds nothing.
        """
        order = VideoOrder(request_of(classes, confidence, synonyms, tiles), project, person.name, every)
        return _given(jobs.take(video.file, order))

    @router.get("/videos")
    def listed(_person: Viewer) -> VideoList:
        """The videos that were sent since the server started."""
        return VideoList(items=[_given(job) for job in jobs.jobs()])

    @router.get("/videos/{name}")
    def one(name: JobName, _person: Viewer) -> VideoGiven:
        """How far a video is."""
        return _given(jobs.job(name))

    @router.post("/videos/{name}/cancel", status_code=202)
    def cancel(name: JobName, _person: Labeller) -> VideoGiven:
        """Withdraw a video; what was stored stays."""
        return _given(jobs.cancel(name))

    return router


def _given(job: VideoJob) -> VideoGiven:
    return VideoGiven(
        name=job.name,
        source_id=job.source_id,
        state=job.state.value,
        code=job.code,
        message=job.message,
        images=job.images,
        total=job.total,
        objects=job.objects,
        new=job.new,
        tracks=job.tracks,
        width=job.facts.width,
        height=job.facts.height,
        seconds=job.facts.seconds,
        frames=job.facts.frames,
    )
