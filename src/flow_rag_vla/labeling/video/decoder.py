# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A video by the process that decodes it, which may die of it: its facts and its frames."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.labeling.pipeline.errors import ImageError, SourceError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.pipeline import ImageSource
from flow_rag_vla.labeling.video.limits import HEAD_BYTES, Taken, VideoFacts, container_of

FACTS_PATIENCE_S = 60.0
FRAME_PATIENCE_S = 60.0
"""Seconds without a frame after which a decoder hangs."""
_SLOWEST_DISK = 10e6
"""Bytes a second."""
_LOOK_MS = 100
_LONGEST_LINE = 4096

_PROCESS = "flow_rag_vla.labeling.video.decoding"


def sent_facts(path: Path, kind: str, patience_s: float = FACTS_PATIENCE_S) -> VideoFacts:
    """What a video that somebody sent is, as a process of its own found it.

    Raises:
        SourceError: it is damaged, beyond what is taken, or its decoder died or hung (``video_undecodable``).
    """
    with Decoder(path, kind, "facts", Taken.SENT, patience_s) as decoder:
        found = decoder.line()
    return VideoFacts(**found)


def own_video(path: Path) -> tuple[VideoFacts, str]:
    """What a video of this machine is, read to its end, and its container as FFmpeg calls it; of any length and rate.

    Raises:
        SourceError: ``video_type``, ``video_corrupt``, ``video_too_large`` (frames) or ``video_undecodable``.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            size = stream.seek(0, os.SEEK_END)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not head:
        raise SourceError(f"{path} has no bytes: copy it again", "video_corrupt")
    try:
        kind, _ = container_of(head)
    except SourceError as error:
        raise SourceError(f"{path}: {error}", error.code) from error
    patience_s = FACTS_PATIENCE_S + size / _SLOWEST_DISK
    with Decoder(path, kind, "facts", Taken.OWN, patience_s) as decoder:
        return VideoFacts(**decoder.line()), kind


def decoded_frames(
    path: Path,
    kind: str,
    every_s: float,
    taken: Taken,
    patience_s: float = FRAME_PATIENCE_S,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[ImageSource]:
    """The frames of a video in the order of their times, as ``video_frames``.

    Args:
        path: of it.
        kind: its container, as FFmpeg calls it.
        every_s: least seconds between frames, 0: all.
        taken: which limits hold.
        patience_s: see ``FRAME_PATIENCE_S``.
        ended: whether somebody withdrew it; then it just ends.

    Raises:
        SourceError: it breaks off, or its decoder died or hung.
    """
    with Decoder(path, kind, repr(every_s), taken, patience_s, ended) as decoder:
        while (found := decoder.frame()) is not None:
            head, image = found
            name = f"{path}#{int(head['number'])}"
            load = partial(_broken, name, str(head["broken"])) if image is None else partial(_given, image)
            yield ImageSource(name, load, int(head["stamp_ns"]))


class Decoder:
    """The process, and what it says. The thread that starts it must live as long: the kernel ends it with that."""

    def __init__(
        self,
        path: Path,
        kind: str,
        every: str,
        taken: Taken,
        patience_s: float,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start it; see ``decoding`` for ``every``, ``decoded_frames`` for the others."""
        self._name = "the video" if taken is Taken.SENT else str(path)
        self._path, self._patience_s, self._ended = str(path), patience_s, ended
        self._held = bytearray()
        self._process = subprocess.Popen(
            [sys.executable, "-m", _PROCESS, str(path), kind, every, taken.value],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def frame(self) -> tuple[dict[str, Any], Image | None] | None:
        """The next frame, (H, W, 3) uint8 RGB, and what it says of it; None at the end, or where it was withdrawn.

        Of a frame that cannot be decoded there are no pixels, and ``broken`` says why.

        Raises:
            SourceError: see ``line``.
        """
        head = self.line()
        if not head or "end" in head:
            return None
        if "broken" in head:
            return head, None
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
            raise SourceError(str(found["message"]).replace(self._path, self._name), code)
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
        return SourceError(f"the decoder died or hung on {self._name}: encode it anew", "video_undecodable")


def _given(image: Image) -> Image:
    return image


def _broken(name: str, why: str) -> Image:
    raise ImageError(f"{name} cannot be decoded ({why}): the video is damaged there", "frame_corrupt")
