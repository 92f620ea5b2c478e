# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A video that somebody sent and that is kept: its frames, by a process that may die of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.pipeline import ImageSource
from flow_rag_vla.labeling.runs import VIDEO, LabelSource
from flow_rag_vla.labeling.video.decoder import FRAME_PATIENCE_S, Decoder, decoded_frames
from flow_rag_vla.labeling.video.frames import BagFrame, video_frames
from flow_rag_vla.labeling.video.limits import HEAD_BYTES, Taken, container_of, was_sent


def sent_frame(path: Path, stamp_ns: int, patience_s: float = FRAME_PATIENCE_S) -> Image | None:
    """The frame of a video at exactly this time, (H, W, 3) uint8 RGB; None: there is none.

    Raises:
        SourceError: it is gone or damaged, or its decoder died or hung.
    """
    if not path.is_file():
        raise SourceError(f"there is no video {path}")
    with Decoder(path, _container(path), f"at{stamp_ns}", Taken.SENT, patience_s) as decoder:
        found = decoder.frame()
    return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class SentVideo(LabelSource):
    """A video whose frames another process decodes.

    ended: whether somebody withdrew it; patience_s: see ``FRAME_PATIENCE_S``
    """

    ended: Callable[[], bool] = field(default=lambda: False)
    patience_s: float = FRAME_PATIENCE_S

    def frames(self) -> Iterator[tuple[ImageSource, BagFrame | None]]:
        """As ``LabelSource.frames``; ends early when it was withdrawn.

        Raises:
            SourceError: it breaks off, or its decoder died or hung.
        """
        for source in decoded_frames(self.path, self.container, self.every_s, Taken.SENT, self.patience_s, self.ended):
            yield source, None


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
