# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Labeling that takes longer than a call: a topic, a folder or a bag, one at a time, on a thread of its own."""

from __future__ import annotations

import io
import queue
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flow_rag_vla.gateway.labeling.pictures import kept_file
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline import Image, ImageSource, LabelingPipeline, LabelledImage, LabelRequest
from flow_rag_vla.labeling.pipeline.tiles import check_tiles
from flow_rag_vla.labeling.registration import embedder_of, register_found
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import ImageDraft, SourceDraft, SourceKind
from flow_rag_vla.labeling.runs import (
    VIDEO,
    LabelledFrame,
    LabelSource,
    RunReport,
    Sink,
    open_source,
    run_labeling,
)
from flow_rag_vla.labeling.sinks import BagSink, RegistrySink
from flow_rag_vla.labeling.video.frames import BagFrame
from flow_rag_vla.labeling.video.tracks import Track
from flow_rag_vla.nodes.labeling_pace import LoopWatch

_POLL_S = 0.1


class SharedPipeline(LabelingPipeline):
    """A pipeline that several threads may ask: one waits for the other, at most for one batch."""

    def __init__(self, pipeline: LabelingPipeline) -> None:
        super().__init__(pipeline.detector, pipeline.segmenter, pipeline.embedder)
        self.turn = threading.Lock()

    def look(self, image: Image, request: LabelRequest, *, masks: bool) -> tuple[Detections, float]:
        """What the detector sees in one picture, and the seconds that it took; alone with the models.

        Args:
            image: (H, W, 3) uint8 RGB.
            request: what to look for.
            masks: have the segmenter, if there is one, cut out what is found.

        Raises:
            LabelingError: what the models refuse; ``too_many_tiles``.
        """
        self.admit(image, request)
        # A pipeline without its later stages costs no models: they are the same objects.
        used = LabelingPipeline(self.detector, self.segmenter if masks else None)
        with self.turn:
            done = used.label([image], request)[0]
        return done.detections, done.times.total

    def label(self, images: Sequence[Image], request: LabelRequest | None = None) -> list[LabelledImage]:
        """As ``LabelingPipeline.label``, alone with the models."""
        with self.turn:
            return super().label(images, request)

    def admit(self, image: Image, request: LabelRequest) -> None:
        """As ``LabelingPipeline.admit``: who asks for one picture meanwhile waits for it.

        Raises:
            SettingError: ``too_many_tiles``.
        """
        check_tiles(image.shape[1], image.shape[0], request.tiling)


class RefusedError(Exception):
    """A request that cannot be done now or at all; ``code`` is for programs."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class CanceledError(Exception):
    """Somebody withdrew the run; what was stored stays."""


@dataclass
class Run:
    """One run and how far it is. The thread that labels writes, the executor's thread reads."""

    watch: LoopWatch
    ended: threading.Event = field(default_factory=threading.Event)
    images: int = 0
    total: int = 0
    objects: int = 0
    new: int = 0
    message: str = ""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Note how far it is; wait while the control loop needs the machine.

        Raises:
            CanceledError: the run was withdrawn.
        """
        self.images, self.total = done, total
        self.make_way()

    def make_way(self) -> None:
        """Wait while the control loop needs the machine.

        Raises:
            CanceledError: the run was withdrawn.
        """
        if self.watch.paused:
            self.message = "waits: the control loop reports late ticks"
            self.watch.wait(self.ended)
        self.message = ""
        if self.ended.is_set():
            raise CanceledError

    @property
    def account(self) -> tuple[int, int, int, str]:
        """Images, total, objects and message."""
        return self.images, self.total, self.objects, self.message


class Inbox:
    """The newest image of a topic: one that was not fetched in time gives way to a newer one."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Image, int]] = queue.Queue(maxsize=1)

    def put(self, image: Image, stamp_ns: int) -> None:
        """Offer an image; called by one thread."""
        while True:
            try:
                self._queue.put_nowait((image, stamp_ns))
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue

    def images(self, topic: str, run: Run) -> Iterator[ImageSource]:
        """Images as they come, until the run is withdrawn."""
        while not run.ended.is_set():
            try:
                image, stamp_ns = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            yield ImageSource(f"{topic} at {stamp_ns}", partial(_given, image), stamp_ns)


@dataclass(frozen=True, slots=True)
class TopicSource(LabelSource):
    """Images of a topic while it is published."""

    inbox: Inbox = field(default_factory=Inbox)
    run: Run | None = None

    def frames(self) -> Iterator[tuple[ImageSource, BagFrame | None]]:
        """As ``LabelSource.frames``."""
        assert self.run is not None
        least, last = round(self.every_s * 1e9), None
        for source in self.inbox.images(self.topics[0], self.run):
            stamp = source.stamp_ns or 0
            # A clock that was set back begins anew.
            if last is not None and 0 <= stamp - last < least:
                continue
            last = stamp
            yield source, None


class TopicSink:
    """Into a registry, with the pictures, which are nowhere else. Every image is a batch."""

    def __init__(
        self, registry: Registry, pipeline: LabelingPipeline, topic: str, session: str, *, who: str, project: str
    ) -> None:
        """Register the source: one a session.

        Raises:
            RegistryError: there is no such project, or a name makes no sense.
        """
        self._registry, self._pipeline, self._who = registry, pipeline, who
        self._folder = registry.image_folder.resolve()
        draft = SourceDraft(SourceKind.FOLDER, str(self._folder), project, f"{topic.strip('/')} {session}")
        self.source_id = registry.add_source(draft).source_id
        self.objects = self.new = 0

    def write(self, frame: LabelledFrame) -> None:
        """Register one image and its objects.

        Raises:
            RegistryError: it could not be stored.
        """
        found = frame.detections
        if found is None or frame.image is None:
            return
        name = kept_file(self._folder, _png(frame.image), ".png")
        draft = ImageDraft(name, found.width, found.height, frame.frame, frame.stamp_ns or 0)
        image = self._registry.add_images(self.source_id, [draft])[0]
        embedder = embedder_of(self._pipeline, found)
        # A frame of a session is a picture of its own, also where it shows what the one before it did.
        nothing = [None] * len(found)
        done = register_found(
            self._registry, image, found, nothing, who=self._who, embedder=embedder, tracks=frame.tracks
        )
        self.objects += done.new
        self.new += done.new

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        """Every picture is durable when ``write`` returns."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a run is asked for. threshold etc. are in the request; every_s: least seconds between images."""

    request: LabelRequest
    project: str
    who: str
    most: int = 0
    every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a run left."""

    report: RunReport
    source_ids: tuple[str, ...]
    objects: int


def label_path(path: Path, order: RunOrder, registry: Registry, pipeline: LabelingPipeline, run: Run) -> Done:
    """Label a folder, a picture or a video into a registry.

    Raises:
        LabelingError, RegistryError: it cannot be read or stored; CanceledError.
    """
    source = open_source(path, (), order.every_s)
    sink = RegistrySink(registry, source, pipeline, who=order.who, project=order.project, request=order.request)
    report = _run(source, order, pipeline, [_Counted(sink, run)], run)
    return Done(report, sink.source_ids, sink.objects)


def label_bag(
    bag: Path, topics: Sequence[str], output: Path | None, order: RunOrder, registry: Registry,
    pipeline: LabelingPipeline, run: Run,
) -> Done:  # fmt: skip
    """Label the images of a bag into a registry, and into a copy of the bag. A run that is withdrawn leaves no copy.

    Raises:
        LabelingError, RegistryError: it cannot be read or stored; CanceledError.
    """
    source = open_source(bag, topics, order.every_s)
    sink = RegistrySink(registry, source, pipeline, who=order.who, project=order.project, request=order.request)
    sinks: list[Sink] = [_Counted(sink, run)]
    if output is not None:
        sinks.append(_Copy(BagSink(source, output), output, run))
    report = _run(source, order, pipeline, sinks, run)
    return Done(report, (sink.source_id,), sink.objects)


def label_topic(
    topic: str, inbox: Inbox, session: str, order: RunOrder, registry: Registry, pipeline: LabelingPipeline, run: Run
) -> Done:
    """Label the images of a topic as they come, until so many are done or the run is withdrawn.

    Raises:
        RegistryError: they cannot be stored; CanceledError.
    """
    source = TopicSource(VIDEO, Path(topic), order.most or None, (topic,), order.every_s, inbox=inbox, run=run)
    sink = TopicSink(registry, pipeline, topic, session, who=order.who, project=order.project)
    report = _run(source, order, pipeline, [_Counted(sink, run)], run, batch=1)
    return Done(report, (sink.source_id,), sink.objects)


def _run(
    source: LabelSource, order: RunOrder, pipeline: LabelingPipeline, sinks: Sequence[Sink], run: Run, batch: int = 2
) -> RunReport:
    run.make_way()
    # A small batch: who asks for one picture meanwhile waits for no more than it.
    report = run_labeling(source, pipeline, order.request, sinks, batch=batch, most=order.most, progress=run.progress)
    if run.ended.is_set():
        raise CanceledError
    return report


@dataclass
class _Counted:
    """A registry's sink whose count others see."""

    sink: RegistrySink | TopicSink
    run: Run

    def write(self, frame: LabelledFrame) -> None:
        self.sink.write(frame)
        self.run.objects, self.run.new = self.sink.objects, self.sink.new

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        self.sink.close(tracks)


@dataclass
class _Copy:
    """The copy of a bag, given up when the run is withdrawn: it is written at the end only."""

    sink: BagSink
    folder: Path
    run: Run

    def write(self, frame: LabelledFrame) -> None:
        self.sink.write(frame)

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        if not self.run.ended.is_set():
            self.sink.close(tracks)
            return
        shutil.rmtree(self.folder, ignore_errors=True)


def _given(image: Image) -> Image:
    return image


def _png(image: Image) -> bytes:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
