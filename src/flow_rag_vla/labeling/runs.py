# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A whole folder, video or bag through the pipeline: frames in, labels to wherever they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from flow_rag_vla.data.bag import Bag
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline.errors import LabelingError, SourceError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.pipeline import ImageSource, LabelingPipeline, Outcome, StageTimes
from flow_rag_vla.labeling.pipeline.request import LabelRequest
from flow_rag_vla.labeling.video.decoder import decoded_frames, own_video
from flow_rag_vla.labeling.video.frames import (
    VIDEO_SUFFIXES,
    BagFrame,
    bag_frames,
    folder_images,
    image_topics,
    open_bag,
    video_frames,
)
from flow_rag_vla.labeling.video.limits import Taken
from flow_rag_vla.labeling.video.tracks import Track, Tracker, TrackerSettings
from flow_rag_vla.learn.progress import Progress, silent

FOLDER, VIDEO, BAG = "folder", "video", "bag"
_BAG_SUFFIXES = (".mcap", ".db3", ".zstd")


@dataclass(frozen=True, slots=True)
class LabelSource:
    """What is to be labelled.

    kind: ``FOLDER``, ``VIDEO`` or ``BAG``; total: pictures in it, or None where only the end tells
    topics: full names of a bag's image topics, else empty; every_s: least seconds between frames, 0: all
    container: of a video, as FFmpeg calls it
    """

    kind: str
    path: Path
    total: int | None
    topics: tuple[str, ...] = ()
    every_s: float = 0.0
    bag: Bag | None = None
    files: tuple[ImageSource, ...] = ()
    container: str = ""

    def frames(self) -> Iterator[tuple[ImageSource, BagFrame | None]]:
        """The pictures in their order; read when their turn comes."""
        if self.bag is not None:
            for frame in bag_frames(self.bag, self.topics, self.every_s):
                yield frame.source(), frame
        elif self.kind == VIDEO:
            for source in decoded_frames(self.path, self.container, self.every_s, Taken.OWN):
                yield source, None
        else:
            for source in self.files:
                yield source, None


def open_source(path: str | Path, topics: Sequence[str] = (), every_s: float = 0.0) -> LabelSource:
    """A folder of pictures or a single one, a video, or a bag: told by what is there.

    Args:
        path: of it.
        topics: of a bag: which image topics; none: all.
        every_s: of a video or bag: least seconds between frames; 0: all.

    Raises:
        SourceError: if there is nothing, or nothing to label.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    bag_folder = path.is_dir() and any(item.suffix in _BAG_SUFFIXES for item in path.iterdir())
    if bag_folder or suffix in _BAG_SUFFIXES:
        bag = open_bag(path)
        chosen = image_topics(bag, topics)
        total = sum(bag.topics[name].count for name in chosen)
        return LabelSource(BAG, path, None if every_s else total, chosen, every_s, bag)
    if topics:
        raise SourceError(f"{path} is no bag and has no topics: leave out {', '.join(topics)}", "source_kind")
    if suffix in VIDEO_SUFFIXES:
        video_frames(path, every_s)
        # Read to its end first: of one that is cut off nothing is labelled. Another process does it and may die of it.
        facts, container = own_video(path)
        total = min(facts.frames, int(facts.seconds / every_s) + 1) if every_s else facts.frames
        return LabelSource(VIDEO, path, total, (), every_s, container=container)
    files = tuple(folder_images(path))
    return LabelSource(FOLDER, path, len(files), files=files)


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """One picture of a run.

    frame: its number in the video or topic, or in the folder, from 0; tracks: an id for each row, or empty
    error: why there are no detections
    """

    name: str
    frame: int
    stamp_ns: int | None
    image: Image | None
    detections: Detections | None
    tracks: tuple[str, ...] = ()
    error: LabelingError | None = None
    bag_frame: BagFrame | None = None

    @property
    def topic(self) -> str:
        """Of a bag; else empty."""
        return self.bag_frame.topic if self.bag_frame is not None else ""


class Sink(Protocol):
    """Where labels go."""

    def write(self, frame: LabelledFrame) -> None:
        """Take one picture's labels, or the reason why there are none."""

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        """Finish; also after an error. tracks: (topic, track) of all that were followed."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did. times: sums over all pictures; errors: (picture, error) of those that could not be labelled."""

    images: int
    objects: int
    tracks: tuple[tuple[str, Track], ...]
    times: StageTimes
    errors: tuple[tuple[str, LabelingError], ...] = field(default=())

    @property
    def failed(self) -> int:
        """Pictures that could not be labelled."""
        return len(self.errors)


def run_labeling(
    source: LabelSource,
    pipeline: LabelingPipeline,
    request: LabelRequest | None = None,
    sinks: Sequence[Sink] = (),
    *,
    batch: int = 4,
    tracking: TrackerSettings | None = None,
    most: int = 0,
    progress: Progress = silent,
) -> RunReport:
    """Label every picture. A bad one is reported and the run goes on; what breaks off in between ends it as a whole.

    The frames of a video and of each topic of a bag are joined to tracks; ids are "1", "2" and so on in each.

    Args:
        source: see ``open_source``.
        pipeline: does the work.
        request: what to look for.
        sinks: get every picture in order and are closed, also after an error.
        batch: pictures that go through the models at once.
        tracking: when two sightings are one thing.
        most: stop after so many pictures; 0: never.
        progress: called after each picture.

    Raises:
        PromptError: for an unknown prompt.
        SourceError: if the source breaks off; what came before is in the sinks.
    """
    trackers: dict[str, Tracker] = {}
    images = objects = 0
    times = StageTimes()
    errors: list[tuple[str, LabelingError]] = []
    try:
        for frame, share in _labelled(source, pipeline, request, batch, trackers, tracking, most):
            images += 1
            times = times + share
            if frame.detections is not None:
                objects += len(frame.detections)
            for sink in sinks if frame.error is None else ():
                try:
                    sink.write(frame)
                except LabelingError as error:
                    errors.append((frame.name, error))
            if frame.error is not None:
                errors.append((frame.name, frame.error))
                for sink in sinks:
                    sink.write(frame)
            progress(images, source.total or 0, f"{objects} objects")
    finally:
        tracks = tuple((topic, track) for topic, tracker in trackers.items() for track in tracker.tracks())
        for sink in sinks:
            sink.close(tracks)
    return RunReport(images, objects, tracks, times, tuple(errors))


def _labelled(
    source: LabelSource,
    pipeline: LabelingPipeline,
    request: LabelRequest | None,
    batch: int,
    trackers: dict[str, Tracker],
    tracking: TrackerSettings | None,
    most: int,
) -> Iterator[tuple[LabelledFrame, StageTimes]]:
    origins: list[BagFrame | None] = []

    def sources() -> Iterator[ImageSource]:
        for item, bag_frame in islice(source.frames(), most or None):
            origins.append(bag_frame)
            yield item

    numbers: dict[str, int] = {}
    for outcome in pipeline.run(sources(), request, batch):
        bag_frame = origins[outcome.place]
        origins[outcome.place] = None
        topic = bag_frame.topic if bag_frame is not None else ""
        number = numbers[topic] = numbers.get(topic, -1) + 1
        yield _frame(outcome, bag_frame, topic, number, trackers, tracking, source.kind != FOLDER)


def _frame(
    outcome: Outcome,
    bag_frame: BagFrame | None,
    topic: str,
    number: int,
    trackers: dict[str, Tracker],
    tracking: TrackerSettings | None,
    followed: bool,
) -> tuple[LabelledFrame, StageTimes]:
    name, stamp = outcome.source.name, outcome.source.stamp_ns
    if outcome.labelled is None:
        return LabelledFrame(name, number, stamp, None, None, (), outcome.error, bag_frame), StageTimes()
    found = outcome.labelled.detections
    ids: tuple[str, ...] = ()
    if followed:
        tracker = trackers.setdefault(topic, Tracker(tracking))
        ids = tuple(str(track) for track in tracker.update(found, stamp or 0))
    return LabelledFrame(name, number, stamp, outcome.image, found, ids, None, bag_frame), outcome.labelled.times
