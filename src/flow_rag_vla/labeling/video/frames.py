# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of videos, bags and folders, each with the time at which it was taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.message_values import image_pixels, stamp_ns
from flow_rag_vla.labeling.pipeline.errors import ImageError, LabelingError, ModelError, SettingError, SourceError
from flow_rag_vla.labeling.pipeline.images import MAX_PIXELS, SUFFIXES, Image, decode_image, read_image
from flow_rag_vla.labeling.pipeline.pipeline import ImageSource

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"


@dataclass(frozen=True, slots=True)
class BagFrame:
    """One picture of a bag. log_ns: when the recorder received it; stamp_ns: when it was taken, from its header.

    topic: full name; frame_id: of the camera; image: (H, W, 3) uint8 RGB, or None with ``error`` where it is broken
    number: among all pictures of its topic, from 0
    """

    topic: str
    log_ns: int
    stamp_ns: int
    frame_id: str
    image: Image | None
    error: LabelingError | None = None
    number: int = 0

    def source(self) -> ImageSource:
        """The frame as the pipeline takes it."""
        return ImageSource(f"{self.topic} at {self.stamp_ns}", self._load, self.stamp_ns)

    def _load(self) -> Image:
        if self.image is None:
            raise self.error or ImageError(f"a picture of {self.topic} at {self.stamp_ns} is broken")
        return self.image


def video_frames(
    path: str | Path, every_s: float = 0.0, container: str = "", most_pixels: int = MAX_PIXELS
) -> Iterator[ImageSource]:
    """The frames of a video in the order of their times; ``stamp_ns`` is exact, counted from the video's own zero.

    A frame's time is its presentation time stamp in the stream's time base, a fraction; only the last step, to whole
    nanoseconds, rounds. Frames without a time stamp are passed over.

    Args:
        path: any container that FFmpeg reads.
        every_s: least seconds between frames; 0: all.
        container: what alone it is read as, as FFmpeg calls it; empty: whatever it is.
        most_pixels: of a frame.

    A frame that cannot be decoded says so when it is loaded (``ImageError``).

    Raises:
        SourceError: if there is no video, or it breaks off; frames before the break are given.
        ModelError: without PyAV.
        SettingError: for a negative ``every_s``.
    """
    if every_s < 0.0:
        raise SettingError(f"every_s is {every_s}, expected 0 or more seconds")
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"there is no video {path}")
    try:
        import av
    except ImportError as error:
        raise ModelError(
            f"videos need av ({error}); install it: pip install 'flow_rag_vla[labeling]'", "extra_missing"
        ) from error
    return _video_frames(av, path, Fraction(str(every_s)), container, most_pixels)


def _video_frames(av: Any, path: Path, every: Fraction, kind: str, most: int) -> Iterator[ImageSource]:
    wanted: Fraction | None = None
    try:
        with av.open(str(path), format=kind or None) as container:
            if not container.streams.video:
                raise SourceError(f"{path} holds no video stream", "source_empty")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            _check_size(path, stream, most)
            number = -1
            for frame in _decoded(av, container, stream):
                number += 1
                if isinstance(frame, _Damage):
                    yield ImageSource(f"{path}#{number}", frame.load, frame.stamp_ns)
                    continue
                if frame.pts is None or frame.time_base is None:
                    continue
                seconds = frame.pts * Fraction(frame.time_base)
                if wanted is not None and seconds < wanted:
                    continue
                wanted = seconds + every
                # A stream may change its size on the way.
                _check_size(path, frame, most)
                pixels = frame.to_ndarray(format="rgb24")
                yield ImageSource(f"{path}#{number}", partial(_given, pixels), round(seconds * 1_000_000_000))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, LabelingError):
            raise
        text = getattr(error, "strerror", None) or error
        raise SourceError(f"{path} is no whole video ({text}): copy it again", "source_corrupt") from error


@dataclass(frozen=True, slots=True)
class _Damage:
    """What stands in a video in place of a frame that cannot be decoded."""

    reason: str
    stamp_ns: int

    def load(self) -> Image:
        raise ImageError(self.reason, "frame_corrupt")


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream, past those that cannot be decoded."""
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, ValueError) as error:
            at = 0 if packet.pts is None else round(packet.pts * Fraction(packet.time_base) * 1_000_000_000)
            yield _Damage(getattr(error, "strerror", None) or str(error), max(0, at))
            continue
        yield from frames


def video_frame_at(path: str | Path, stamp_ns: int, container: str = "", most_pixels: int = MAX_PIXELS) -> Image | None:
    """The frame of a video at exactly this time, as ``video_frames`` tells it; None: there is none.

    Args:
        path: any container that FFmpeg reads.
        stamp_ns: from the video's own zero, nanoseconds.
        container: what alone it is read as, as FFmpeg calls it; empty: whatever it is.
        most_pixels: of a frame.

    Raises:
        SourceError: it cannot be read.
        ModelError: without PyAV.
    """
    try:
        import av
    except ImportError as error:
        raise ModelError(
            f"videos need av ({error}); install it: pip install 'flow_rag_vla[labeling]'", "extra_missing"
        ) from error
    path = Path(path)
    try:
        with av.open(str(path), format=container or None) as opened:
            stream = opened.streams.video[0]
            _check_size(path, stream, most_pixels)
            opened.seek(stamp_ns // 1000)  # microseconds: back to the key frame before
            for frame in opened.decode(stream):
                if frame.pts is None or frame.time_base is None:
                    continue
                at_ns = round(frame.pts * Fraction(frame.time_base) * 1_000_000_000)
                if at_ns >= stamp_ns:
                    _check_size(path, frame, most_pixels)
                    pixels: Any = frame.to_ndarray(format="rgb24")
                    return np.asarray(pixels, np.uint8) if at_ns == stamp_ns else None
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise SourceError(f"{path} is no whole video ({error}): copy it again", "source_corrupt") from error
    return None


def _check_size(path: Path, shown: Any, most: int) -> None:
    if shown.width * shown.height > most:
        raise SourceError(
            f"{path} is {shown.width} x {shown.height} pixels, more than {most}: scale it down", "source_corrupt"
        )


def _given(image: Image) -> Image:
    return image


def image_topics(bag: Bag, topics: Collection[str] = ()) -> tuple[str, ...]:
    """Full names of the image topics of a bag, or of those among them that are named (also relatively).

    Raises:
        SourceError: if a named topic is not there or shows no pictures, or there is none at all.
    """
    shown = tuple(name for name, topic in bag.topics.items() if topic.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE))
    listed = ", ".join(shown) or "none"
    if not topics:
        if not shown:
            raise SourceError(f"{bag.path} holds no pictures; its topics: {', '.join(bag.topics)}", "source_empty")
        return shown
    chosen = []
    for topic in topics:
        found = bag.find(topic)
        if found not in shown:
            raise SourceError(f"{bag.path} holds no pictures on topic {topic!r}; topics with pictures: {listed}")
        chosen.append(found)
    return tuple(dict.fromkeys(chosen))


def bag_frames(bag: Bag, topics: Sequence[str], every_s: float = 0.0) -> Iterator[BagFrame]:
    """The pictures of some topics in the order of their log times, also the broken ones, which say so.

    Args:
        bag: an open bag.
        topics: full names; see ``image_topics``.
        every_s: least seconds between the stamps of two pictures of one topic; 0: all.
    """
    least = round(every_s * 1e9)
    last: dict[str, int] = {}
    numbers: Counter[str] = Counter()
    for entry in bag.messages(topics):
        header = entry.message.header
        stamp = stamp_ns(header)
        numbers[entry.topic] += 1
        # A camera that restarts its clock begins anew.
        if least and 0 <= stamp - last.get(entry.topic, stamp - least) < least:
            continue
        last[entry.topic] = stamp
        image: Image | None = None
        problem: LabelingError | None = None
        try:
            if entry.msgtype == COMPRESSED_TYPE:
                image = decode_image(bytes(entry.message.data), f"{entry.topic} at {stamp}")
            else:
                image = image_pixels(entry.message)
        except LabelingError as error:
            problem = error
        except ValueError as error:
            problem = ImageError(f"{entry.topic} at {stamp}: {error}")
        yield BagFrame(entry.topic, entry.log_ns, stamp, str(header.frame_id), image, problem, numbers[entry.topic] - 1)


def folder_images(path: str | Path) -> list[ImageSource]:
    """The pictures in a folder and below, by name; or one picture. They are read when their turn comes.

    Raises:
        SourceError: if there is no such folder, or it holds no pictures.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.suffix.lower() in SUFFIXES and item.is_file())
    else:
        raise SourceError(f"there is no folder or file {path}")
    if not files:
        raise SourceError(f"{path} holds no pictures; known are: {', '.join(SUFFIXES)}", "source_empty")
    return [ImageSource(str(file), partial(read_image, file)) for file in files]


def open_bag(path: str | Path) -> Bag:
    """The bag.

    Raises:
        SourceError: if it cannot be read.
    """
    try:
        return Bag(path)
    except BagError as error:
        raise SourceError(str(error), "source_corrupt" if Path(path).exists() else "source_missing") from error
