"""The process that decodes a video which somebody sent: ``python -m`` this module, then ``PATH KIND EVERY``.

A decoder is millions of lines of C that are fed by a stranger. Here it can fill its own memory, hang or crash, and
nothing else. ``EVERY`` seconds between frames: each goes to standard output as a line of JSON and its pixels, rows of
RGB. ``EVERY`` of ``facts``: it reads the whole file without decoding more than the first frame, and tells what it is.
``EVERY`` of ``at`` and nanoseconds: the one frame of that time, if there is one.
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
from flow_rag_vla.labeling.pipeline.errors import LabelingError, SourceError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.video.frames import video_frame_at, video_frames
from flow_rag_vla.labeling.video.limits import MOST_FRAMES, MOST_PIXELS, VideoFacts, checked_facts

FACTS, AT = "facts", "at"
MEMORY_BYTES = 4 << 30
"""Of address space: a decoder of the largest frames that are taken, its threads and Python."""
FACTS_CPU_S = 30
_NICENESS = 10
_ENOUGH = 0.9
"""Share of the frames or of the time that a container declares, below which it was cut off."""
_LAST_FRAMES = 2.0


def facts_of(path: Path, kind: str) -> VideoFacts:
    """What a video is, read to its end.

    Raises:
        SourceError: it is damaged, cut off, or beyond what is taken; see ``checked_facts``.
    """
    import av

    try:
        with av.open(str(path), format=kind, options={"protocol_whitelist": "file"}) as container:
            if not len(container.streams):
                raise SourceError("the file ends before it says what is in it: send the whole file", "video_corrupt")
            if not container.streams.video:
                raise SourceError("the file holds no pictures: send a video", "video_type")
            stream = container.streams.video[0]
            width, height, rate = stream.width, stream.height, _rate(stream)
            seconds, count = _seconds(container, stream), stream.frames
            checked_facts(VideoFacts(width, height, seconds, count, rate))
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
                if frames > MOST_FRAMES:
                    break
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, LabelingError):
            raise
        raise SourceError(f"the video cannot be read ({error}): send the whole file", "video_corrupt") from error
    length, shown = last - (first or 0.0), end - (first or 0.0)
    found = VideoFacts(width, height, length, frames, rate)
    # A last frame that says nothing of its duration may last a few of the usual ones.
    short = frames > 1 and rate > 0.0 and shown < _ENOUGH * seconds - _LAST_FRAMES / rate
    if damaged or frames < _ENOUGH * count or short:
        raise SourceError(
            f"the video ends after {frames} frames and {shown:.1f} of {seconds:.1f} s: send the whole file",
            "video_corrupt",
        )
    checked_facts(found)
    next(iter(video_frames(path, 0.0, kind, MOST_PIXELS)), None)
    return found


def _rate(stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else 0.0


def _seconds(container: Any, stream: Any) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return 0.0 if container.duration is None else container.duration / 1e6


def send_frames(path: Path, kind: str, every_s: float, out: BinaryIO) -> None:
    """Every frame as a line of JSON and its pixels.

    Raises:
        SourceError: it breaks off.
    """
    for source in video_frames(path, every_s, kind, MOST_PIXELS):
        _send(out, source.load(), int(source.name.rpartition("#")[2]), source.stamp_ns or 0)


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
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if every == FACTS:
        resource.setrlimit(resource.RLIMIT_CPU, (FACTS_CPU_S, FACTS_CPU_S))
    out = sys.stdout.buffer
    try:
        if every == FACTS:
            _tell(out, facts_of(path, kind).as_json())
        elif every.startswith(AT):
            stamp_ns = int(every.removeprefix(AT))
            image = video_frame_at(path, stamp_ns, kind, MOST_PIXELS)
            if image is not None:
                _send(out, image, 0, stamp_ns)
            _tell(out, {"end": True})
        else:
            send_frames(path, kind, float(every), out)
            _tell(out, {"end": True})
    except LabelingError as error:
        _tell(out, {"code": error.code, "message": str(error)})
    except MemoryError:
        _tell(out, {"code": "video_undecodable", "message": "the video asks for too much memory: encode it anew"})
    out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
