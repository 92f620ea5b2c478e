"""A video that somebody sent: its facts and its frames, by a process that may die of them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.pipeline import ImageSource
from flow_rag_vla.labeling.runs import VIDEO, LabelSource
from flow_rag_vla.labeling.video.frames import BagFrame, video_frames
from flow_rag_vla.labeling.video.limits import HEAD_BYTES, VideoFacts, container_of, was_sent

FACTS_PATIENCE_S = 60.0
FRAME_PATIENCE_S = 60.0
"""Seconds without a frame after which a decoder hangs."""
_LOOK_MS = 100
_LONGEST_LINE = 4096

_PROCESS = "flow_rag_vla.labeling.video.decoding"


def sent_facts(path: Path, kind: str, patience_s: float = FACTS_PATIENCE_S) -> VideoFacts:
    """What a video is, as a process of its own found it.

    Raises:
        SourceError: it is damaged, beyond what is taken, or its decoder died or hung (``video_undecodable``).
    """
    with _Decoder(path, kind, "facts", patience_s) as decoder:
        found = decoder.line()
    return VideoFacts(**found)


def sent_frame(path: Path, stamp_ns: int, patience_s: float = FRAME_PATIENCE_S) -> Image | None:
    """The frame of a video at exactly this time, (H, W, 3) uint8 RGB; None: there is none.

    Raises:
        SourceError: it is gone or damaged, or its decoder died or hung.
    """
    if not path.is_file():
        raise SourceError(f"there is no video {path}")
    with _Decoder(path, _container(path), f"at{stamp_ns}", patience_s) as decoder:
        found = decoder.frame()
    return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class SentVideo(LabelSource):
    """A video whose frames another process decodes.

    container: see ``limits.container_of``; ended: whether somebody withdrew it; patience_s: see ``FRAME_PATIENCE_S``
    """

    container: str = ""
    ended: Callable[[], bool] = field(default=lambda: False)
    patience_s: float = FRAME_PATIENCE_S

    def frames(self) -> Iterator[tuple[ImageSource, BagFrame | None]]:
        """As ``LabelSource.frames``; ends early when it was withdrawn.

        Raises:
            SourceError: it breaks off, or its decoder died or hung.
        """
        with _Decoder(self.path, self.container, repr(self.every_s), self.patience_s, self.ended) as decoder:
            while (found := decoder.frame()) is not None:
                head, image = found
                name = f"{self.path}#{int(head['number'])}"
                yield ImageSource(name, partial(_given, image), int(head["stamp_ns"])), None


def kept_frames(path: Path) -> Iterator[ImageSource]:
    """All frames of a registered video; one that was sent is decoded by another process, others as ``video_frames``.

    Raises:
        SourceError: see ``video_frames`` and ``SentVideo.frames``.
    """
    if not was_sent(path):
        yield from video_frames(path)
        return
    if not path.is_file():
        raise SourceError(f"there is no video {path}")
    for source, _ in SentVideo(VIDEO, path, None, container=_container(path)).frames():
        yield source


def _container(path: Path) -> str:
    with path.open("rb") as stream:
        return container_of(stream.read(HEAD_BYTES))[0]


class _Decoder:
    """The process, and what it says. The thread that starts it must live as long: the kernel ends it with that."""

    def __init__(
        self, path: Path, kind: str, every: str, patience_s: float, ended: Callable[[], bool] = lambda: False
    ) -> None:
        self._path, self._patience_s, self._ended = str(path), patience_s, ended
        self._held = bytearray()
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROCESS, str(path), kind, every],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def frame(self) -> tuple[dict[str, Any], Image] | None:
        """The next frame, (H, W, 3) uint8 RGB, and what it says of it; None at the end, or where it was withdrawn.

        Raises:
            SourceError: see ``line``.
        """
        head = self.line()
        if not head or "end" in head:
            return None
        height, width = int(head["height"]), int(head["width"])
        pixels = self.read(height * width * 3)
        if len(pixels) < height * width * 3:
            return None
        return head, np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def line(self) -> dict[str, Any]:
        """The next line; empty where it was withdrawn.

        Raises:
            SourceError: what the process says went wrong, or that it is gone.
        """
        until = time.monotonic() + self._patience_s
        while b"\n" not in self._held:
            if len(self._held) > _LONGEST_LINE or not self._more(until):
                if self._ended():
                    return {}
                raise self._gone()
        text, _, rest = bytes(self._held).partition(b"\n")
        self._held = bytearray(rest)
        found: dict[str, Any] = json.loads(text)
        if "code" in found:
            code = {"source_corrupt": "video_corrupt", "source_empty": "video_type"}.get(found["code"], found["code"])
            raise SourceError(str(found["message"]).replace(self._path, "the video"), code)
        return found

    def read(self, count: int) -> bytes:
        """So many bytes; fewer where it was withdrawn.

        Raises:
            SourceError: the process is gone.
        """
        until = time.monotonic() + self._patience_s
        while len(self._held) < count:
            if not self._more(until):
                if self._ended():
                    return b""
                raise self._gone()
        found = bytes(self._held[:count])
        del self._held[:count]
        return found

    def _more(self, until: float) -> bool:
        assert self._process.stdout is not None
        number, look = self._process.stdout.fileno(), select.poll()
        look.register(number, select.POLLIN)
        while time.monotonic() < until and not self._ended():
            if look.poll(_LOOK_MS):
                data = os.read(number, 1 << 20)
                self._held += data
                return bool(data)
        return False

    def _gone(self) -> SourceError:
        return SourceError("the decoder died or hung on the video: encode it anew", "video_undecodable")


def _given(image: Image) -> Image:
    return image
