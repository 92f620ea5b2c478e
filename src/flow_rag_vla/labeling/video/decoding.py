# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The process that decodes a video: ``python -m`` this module, then ``PATH KIND EVERY TAKEN``.

A decoder is millions of lines of C that are fed by a stranger. Here it can fill its own memory, hang or crash, and
nothing else. ``EVERY`` seconds between frames: each goes to standard output as a line of JSON and its pixels, rows of
RGB. ``EVERY`` of ``facts``: it reads the whole file without decoding more than the first frame, and tells what it is.
``EVERY`` of ``at`` and nanoseconds: the one frame of that time, if there is one. ``TAKEN``: which limits hold.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flow_rag_vla.core.processes import end_with_parent, give_way
from flow_rag_vla.labeling.pipeline.errors import ImageError, LabelingError, SourceError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.video.frames import video_frame_at, video_frames
from flow_rag_vla.labeling.video.limits import MOST_FRAMES, Taken, VideoFacts, checked_facts

FACTS, AT = "facts", "at"
MEMORY_BYTES = 4 << 30
"""Of address space: a decoder of the largest frames that are taken, its threads and Python."""
_OWN_MEMORY_BYTES = 8 << 30
FACTS_CPU_S = 30
_NICENESS = 10
_ENOUGH = 0.9
"""Share of the frames or of the time that a container declares, below which it was cut off."""
_LAST_FRAMES = 2.0
_LONGEST_REASON = 500


def facts_of(path: Path, kind: str, taken: Taken = Taken.SENT) -> VideoFacts:
    """What a video is, read to its end.

    Raises:
        SourceError: it is damaged, cut off, or beyond what is taken; see ``checked_facts``.
    """
    import av

    try:
        with av.open(str(path), format=kind, options={"protocol_whitelist": "file"}) as container:
            if not len(container.streams):
                raise SourceError(f"{path} ends before it says what is in it: {taken.remedy}", "video_corrupt")
            if not container.streams.video:
                raise SourceError(f"{path} holds no pictures, sound only perhaps: give a video", "video_type")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise SourceError(f"{path} is in a codec that is not known here: encode it anew", "video_undecodable")
            width, height, rate = stream.width, stream.height, _rate(stream)
            seconds, count = _seconds(container, stream), stream.frames
            checked_facts(VideoFacts(width, height, seconds, count, rate), taken)
            frames, last, end, first, damaged = 0, 0.0, 0.0, None, 0
            for packet in container.demux(stream):
                if packet.pts is None or packet.time_base is None:
                    continue
                at = float(packet.pts * packet.time_base)
                first = at if first is None else min(first, at)
                last = max(last, at)
                end = max(end, at + float((packet.duration or 0) * packet.time_base))
                frames += 1
                damaged += bool(packet.is_corrupt)
                if frames > MOST_FRAMES and taken is Taken.SENT:
                    break
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, LabelingError):
            raise
        text = getattr(error, "strerror", None) or error
        raise SourceError(f"{path} cannot be read ({text}): {taken.remedy}", "video_corrupt") from error
    length, shown = last - (first or 0.0), end - (first or 0.0)
    found = VideoFacts(width, height, length, frames, rate)
    # A last frame that says nothing of its duration may last a few of the usual ones.
    short = frames > 1 and rate > 0.0 and shown < _ENOUGH * seconds - _LAST_FRAMES / rate
    if damaged or frames < _ENOUGH * count or short:
        raise SourceError(
            f"{path} ends after {frames} frames and {shown:.1f} of {seconds:.1f} s: {taken.remedy}",
            "video_corrupt",
        )
    checked_facts(found, taken)
    first_frame = next(iter(video_frames(path, 0.0, kind, taken.most_pixels)), None)
    if first_frame is None:
        raise SourceError(f"{path} holds no frame that can be decoded: {taken.remedy}", "video_corrupt")
    first_frame.load()
    return found


def _rate(stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else 0.0


def _seconds(container: Any, stream: Any) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return 0.0 if container.duration is None else container.duration / 1e6


def send_frames(path: Path, kind: str, every_s: float, out: BinaryIO, taken: Taken = Taken.SENT) -> None:
    """Every frame as a line of JSON and its pixels; one that cannot be decoded as a line that says so.

    Raises:
        SourceError: it breaks off.
    """
    for source in video_frames(path, every_s, kind, taken.most_pixels):
        number, stamp_ns = int(source.name.rpartition("#")[2]), source.stamp_ns or 0
        try:
            image = source.load()
        except ImageError as error:
            _tell(out, {"number": number, "stamp_ns": stamp_ns, "broken": str(error)[:_LONGEST_REASON]})
            out.flush()
            continue
        _send(out, image, number, stamp_ns)


def _send(out: BinaryIO, image: Image, number: int, stamp_ns: int) -> None:
    height, width = image.shape[:2]
    _tell(out, {"number": number, "stamp_ns": stamp_ns, "width": width, "height": height})
    out.write(np.ascontiguousarray(image).data)
    out.flush()


def _tell(out: BinaryIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value).encode() + b"\n")


def main(arguments: Sequence[str]) -> int:
    """Do one thing; what went wrong is the last line of the output."""
    end_with_parent(signal.SIGKILL)
    give_way(_NICENESS)
    path, kind, every = Path(arguments[0]), arguments[1], arguments[2]
    taken = Taken(arguments[3])
    memory = MEMORY_BYTES if taken is Taken.SENT else _OWN_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if every == FACTS and taken is Taken.SENT:
        resource.setrlimit(resource.RLIMIT_CPU, (FACTS_CPU_S, FACTS_CPU_S))
    out = sys.stdout.buffer
    try:
        if every == FACTS:
            _tell(out, facts_of(path, kind, taken).as_json())
        elif every.startswith(AT):
            stamp_ns = int(every.removeprefix(AT))
            image = video_frame_at(path, stamp_ns, kind, taken.most_pixels)
            if image is not None:
                _send(out, image, 0, stamp_ns)
            _tell(out, {"end": True})
        else:
            send_frames(path, kind, float(every), out, taken)
            _tell(out, {"end": True})
    except LabelingError as error:
        _tell(out, {"code": error.code, "message": str(error)})
    except MemoryError:
        _tell(out, {"code": "video_undecodable", "message": f"{path} asks for too much memory: encode it anew"})
    out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
