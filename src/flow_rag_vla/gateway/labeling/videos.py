# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Videos that somebody sends: kept, and labelled into tracks while the server answers others, one at a time."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.gateway.errors import GatewayError, conflict, not_found, unavailable
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.places import without_folders
from flow_rag_vla.labeling.datasets.errors import CanceledError
from flow_rag_vla.labeling.pipeline import LabelingPipeline, LabelRequest
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.pipeline.tiles import check_tiles
from flow_rag_vla.labeling.registry.errors import RegistryError, files_checked
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.runs import VIDEO, run_labeling
from flow_rag_vla.labeling.sinks import RegistrySink
from flow_rag_vla.labeling.video.decoder import sent_facts
from flow_rag_vla.labeling.video.limits import FOLDER, HEAD_BYTES, MOST_BYTES, VideoFacts, container_of, kept_place
from flow_rag_vla.labeling.video.sent import SentVideo

LOGGER = logging.getLogger("flow_rag_vla.gateway")
MOST_KEPT = 200
"""Jobs that are remembered."""
_BATCH = 2
_PART = 1 << 20
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class KeptVideo:
    """A video in the registry's folder, under the SHA-256 of its bytes. container: as FFmpeg calls it."""

    path: Path
    container: str
    facts: VideoFacts


def _whatever(_facts: VideoFacts) -> None:
    return None


def kept_video(
    folder: Path, stream: BinaryIO, most_bytes: int = MOST_BYTES, admit: Callable[[VideoFacts], None] = _whatever
) -> KeptVideo:
    """Take a video: told by its bytes, read to its end by another process, and kept if nothing is wrong with it.

    Args:
        folder: below which it is kept; the same video twice is one file.
        stream: the upload, from its beginning; it can be gone back in.
        most_bytes: that are taken.
        admit: raises what refuses a video that is sound, before it is kept.

    Raises:
        GatewayError: 400 ``video_empty`` or 413 ``video_too_large`` (bytes).
        SourceError: see ``container_of`` and ``sent_facts``.
        RegistryError: no space is left, or the folder cannot be written.
    """
    head = stream.read(HEAD_BYTES)
    if not head:
        raise GatewayError(400, "video_empty", "video has no bytes", "send the file itself")
    container, suffix = container_of(head)
    digest, size = hashlib.sha256(head), len(head)
    while part := stream.read(_PART):
        size += len(part)
        digest.update(part)
    if size > most_bytes:
        raise GatewayError(
            413, "video_too_large", f"video has {size} bytes, at most {most_bytes} are taken", "send it in parts"
        )
    path = kept_place(folder, digest.hexdigest(), suffix)
    with files_checked(str(folder)):
        if path.is_file():
            facts = sent_facts(path, container)
            admit(facts)
            return KeptVideo(path, container, facts)
        with replaced_file(path) as temporary:
            stream.seek(0)
            with temporary.open("wb") as out:
                shutil.copyfileobj(stream, out, _PART)
            # What is refused is never given its name.
            facts = sent_facts(temporary, container)
            admit(facts)
    return KeptVideo(path, container, facts)


class VideoState(str, Enum):
    """How far a job is."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass
class VideoJob:
    """One video that is labelled. The thread that does it writes, others read; code and message say why it failed.

    images: frames that are done, of about ``total``; new: objects that were not known before
    """

    name: str
    who: str
    facts: VideoFacts
    total: int
    source_id: str = ""
    state: VideoState = VideoState.RUNNING
    images: int = 0
    objects: int = 0
    new: int = 0
    tracks: int = 0
    code: str = ""
    message: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class VideoOrder:
    """What a video is labelled with. every_s: least seconds between frames, 0: all."""

    request: LabelRequest
    project: str
    who: str
    every_s: float = 0.0


class VideoJobs:
    """The videos of one server since it started; any thread may ask."""

    def __init__(self, registry: Registry, models: Models) -> None:
        """Label with ``models`` into ``registry``."""
        self._registry, self._models = registry, models
        self.folder = registry.folder.resolve() / FOLDER
        self._jobs: dict[str, VideoJob] = {}
        self._lock = threading.Lock()
        self._looking = threading.Semaphore(1)
        self._thread: threading.Thread | None = None
        self._count = 0

    def take(self, stream: BinaryIO, order: VideoOrder) -> VideoJob:
        """Keep a video and begin to label it.

        Raises:
            GatewayError: 409 ``video_busy`` while another one is labelled, 503 ``busy`` while one is looked at;
                see ``kept_video`` and ``Models.shared``.
            RegistryError: there is no such project.
            SettingError: ``too_many_tiles`` for frames of its size.
        """
        self._check_free()
        # What would be refused behind the upload is refused before it is kept.
        self._registry.categories(order.project)
        pipeline = self._models.shared()
        if not self._looking.acquire(blocking=False):
            raise unavailable("busy", "another video is being looked at", "send it again in a minute", retry_after_s=60)
        try:
            kept = kept_video(
                self.folder, stream, admit=lambda facts: check_tiles(facts.width, facts.height, order.request.tiling)
            )
        finally:
            self._looking.release()
        seconds, frames = kept.facts.seconds, kept.facts.frames
        total = min(frames, int(seconds / order.every_s) + 1) if order.every_s else frames
        with self._lock:
            self._check_free()
            self._count += 1
            job = VideoJob(f"video-{self._count}", order.who, kept.facts, total)
            source = SentVideo(
                VIDEO, kept.path, total, (), order.every_s, container=kept.container, ended=job.ended.is_set
            )
            sink = RegistrySink(
                self._registry, source, pipeline, who=order.who, project=order.project, request=order.request
            )
            job.source_id = sink.source_id
            self._jobs[job.name] = job
            while len(self._jobs) > MOST_KEPT:
                del self._jobs[next(iter(self._jobs))]
            # The kernel ends the decoder with the thread that started it: it has one of its own.
            arguments = (job, source, sink, order, pipeline)
            self._thread = threading.Thread(target=self._work, args=arguments, name="video", daemon=True)
            self._thread.start()
        return job

    def jobs(self) -> list[VideoJob]:
        """All of them, the latest first."""
        return list(reversed(self._jobs.values()))

    def job(self, name: str) -> VideoJob:
        """One job as it stands.

        Raises:
            GatewayError: 404 ``job_missing``.
        """
        found = self._jobs.get(name)
        if found is None:
            raise not_found("job_missing", f"there is no job {name}", "see /api/labeling/videos")
        return found

    def cancel(self, name: str) -> VideoJob:
        """Withdraw a job; what was stored stays. It has ended when its state says so.

        Raises:
            GatewayError: 404 ``job_missing``.
        """
        job = self.job(name)
        job.ended.set()
        return job

    def close(self) -> None:
        """Withdraw what is under way, and wait a while for its end."""
        for job in self.jobs():
            job.ended.set()
        thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_S)

    def _check_free(self) -> None:
        for job in self.jobs():
            if job.state is VideoState.RUNNING:
                raise conflict("video_busy", f"{job.name} is being labelled", "wait for its end, or cancel it")

    def _work(
        self, job: VideoJob, source: SentVideo, sink: RegistrySink, order: VideoOrder, pipeline: LabelingPipeline
    ) -> None:
        def progress(done: int, total: int, note: str = "") -> None:
            job.images, job.objects, job.new = done, sink.objects, sink.new
            if job.ended.is_set():
                raise CanceledError("withdrawn: what was stored stays")

        try:
            report = run_labeling(source, pipeline, order.request, [sink], batch=_BATCH, progress=progress)
            # A source that is withdrawn between two frames just ends.
            if job.ended.is_set():
                raise CanceledError("withdrawn: what was stored stays")
        except CanceledError as error:
            job.code, job.message = error.code, str(error)
            job.state = VideoState.CANCELED
        except (LabelingError, RegistryError) as error:
            job.code = error.code.value if isinstance(error, RegistryError) else error.code
            job.message, job.state = without_folders(str(error)), VideoState.FAILED
        except Exception:
            LOGGER.exception("labelling %s failed", job.name)
            job.code, job.message = "internal", "the server failed on this video; its log says where"
            job.state = VideoState.FAILED
        else:
            job.tracks = len(report.tracks)
            errors = [str(error) for _, error in report.errors]
            job.message = without_folders(f"{len(errors)} frames were not stored: {errors[0]}") if errors else ""
            job.state = VideoState.FINISHED
