# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which videos are taken from strangers: their container, size, length and rate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.pipeline.images import MAX_PIXELS, MIN_SIDE

FOLDER = "videos"
"""In the registry's folder: a video that was sent, under the SHA-256 of its bytes."""
HEAD_BYTES = 400
"""Of a file, which tell its container."""
MOST_BYTES = 256 << 20
MOST_PIXELS = 3840 * 2160
"""Of a frame: 4K."""
MOST_SECONDS = 3600.0
MOST_FRAMES = 60_000
"""Half an hour at 30 frames a second: they are read one by one before the video is taken."""
MOST_RATE = 240.0
"""Frames a second."""

_MATROSKA, _RIFF, _PROGRAM, _SYNC, _PACKET = b"\x1a\x45\xdf\xa3", b"RIFF", b"\x00\x00\x01\xba", 0x47, 188


class Taken(str, Enum):
    """Whose video it is: a stranger's is held to every limit here, one of this machine to the size of its frames."""

    SENT = "sent"
    OWN = "own"

    @property
    def most_pixels(self) -> int:
        """Of a frame."""
        return MOST_PIXELS if self is Taken.SENT else MAX_PIXELS

    @property
    def remedy(self) -> str:
        """For one that is cut off or damaged."""
        return (
            "send the whole file"
            if self is Taken.SENT
            else "copy it again, or save what it holds: ffmpeg -i IN -c copy OUT"
        )


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video is. seconds: from the first to the last frame; rate: frames a second that it declares, 0 unknown."""

    width: int
    height: int
    seconds: float
    frames: int
    rate: float

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def container_of(head: bytes) -> tuple[str, str]:
    """The container that a file's first ``HEAD_BYTES`` are of: FFmpeg's name of it, and a suffix.

    A decoder is only ever told to read this one: FFmpeg also takes playlists, which name further files and addresses.

    Raises:
        SourceError: with the code ``video_type``: none that is taken.
    """
    if head[4:8] in (b"ftyp", b"moov", b"wide", b"mdat"):
        return "mp4", ".mp4"
    if head.startswith(_MATROSKA):
        return "matroska", ".webm" if b"webm" in head[:64] else ".mkv"
    if head.startswith(_RIFF) and head[8:12] == b"AVI ":
        return "avi", ".avi"
    if head.startswith(_PROGRAM):
        return "mpeg", ".mpg"
    if len(head) > 2 * _PACKET and all(head[place] == _SYNC for place in (0, _PACKET, 2 * _PACKET)):
        return "mpegts", ".ts"
    raise SourceError("the file is none of MP4, QuickTime, Matroska, WebM, AVI, MPEG: send one of these", "video_type")


def kept_place(folder: Path, digest: str, suffix: str) -> Path:
    """Where a video that was sent is kept below ``FOLDER``."""
    return folder / digest[:2] / digest[2:4] / f"{digest}{suffix}"


def was_sent(path: Path) -> bool:
    """Whether a file lies where videos that were sent are kept: only a process of its own decodes it."""
    top = path.parent.parent.parent
    return top.name == FOLDER and kept_place(top, path.stem, path.suffix) == path


def checked_facts(facts: VideoFacts, taken: Taken = Taken.SENT) -> VideoFacts:
    """The facts, where they are such as are taken.

    Raises:
        SourceError: ``video_corrupt``, ``video_too_large``, ``video_too_long`` or ``video_frame_rate``.
    """
    width, height = facts.width, facts.height
    if min(width, height) < MIN_SIDE:
        text = f"the video is {width} x {height} pixels: at least {MIN_SIDE} a side are needed"
        raise SourceError(text, "video_corrupt")
    most = taken.most_pixels
    if width * height > most:
        raise SourceError(f"the video is {width} x {height} pixels, more than {most}: scale it down", "video_too_large")
    if taken is Taken.OWN:
        return facts
    if not math.isfinite(facts.rate) or facts.rate > MOST_RATE:
        text = f"the video declares {facts.rate:.6g} frames a second, more than {MOST_RATE:.0f}: encode it with fewer"
        raise SourceError(text, "video_frame_rate")
    if facts.frames > MOST_FRAMES or not facts.seconds <= MOST_SECONDS:
        raise SourceError(
            f"the video has {facts.frames} frames in {facts.seconds:.6g} s, more than {MOST_FRAMES} or "
            f"{MOST_SECONDS:.0f} s: cut it into parts",
            "video_too_long",
        )
    return facts
