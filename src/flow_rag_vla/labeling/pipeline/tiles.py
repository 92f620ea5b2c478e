# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Detection in tiles: small things in large pictures are seen at the size at which a detector knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline.errors import SettingError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.stages import Detector

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom exclusive."""

_EDGE = 1.5
"""Pixels from an inner edge within which a box counts as cut by it."""
MOST_TILES = 64
"""Of one picture, where models are shared: nobody else's picture is looked at meanwhile."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a picture is cut. ``width``, ``height``: of a tile, pixels; ``overlap``: share of a tile, 0 to 0.9.

    Raises:
        SettingError: for a tile of under 32 pixels or an overlap out of range.
    """

    width: int = 640
    height: int = 480
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 32:
            raise SettingError(f"a tile of {self.width} x {self.height} pixels is too small: at least 32 a side")
        if not 0.0 <= self.overlap <= 0.9:
            raise SettingError(f"tiles overlap by {self.overlap}, expected 0 to 0.9 of a tile")


def parse_tiling(text: str) -> Tiling:
    """Tiles of a text such as ``640x480``.

    Raises:
        SettingError: it is of another form, or they are too small.
    """
    width, _, height = text.lower().partition("x")
    if not (text.isascii() and width.isdigit() and height.isdigit()):
        raise SettingError(f"tiles of {text!r} are not of the form WIDTHxHEIGHT, such as 640x480")
    return Tiling(int(width), int(height))


def windows(width: int, height: int, tiling: Tiling) -> list[Window]:
    """Tiles of one size that cover a picture; one window, the picture, where it is no larger than a tile."""
    columns = _starts(width, tiling.width, tiling.overlap)
    rows = _starts(height, tiling.height, tiling.overlap)
    return [
        (left, top, min(left + tiling.width, width), min(top + tiling.height, height))
        for top, left in product(rows, columns)
    ]


def check_tiles(width: int, height: int, tiling: Tiling | None) -> None:
    """Refuse a picture that would be cut into more than ``MOST_TILES`` tiles; pixels.

    Raises:
        SettingError: ``too_many_tiles``.
    """
    if tiling is not None and len(windows(width, height, tiling)) > MOST_TILES:
        raise SettingError(
            f"a picture of {width} x {height} has more than {MOST_TILES} tiles of {tiling.width} x {tiling.height}: "
            "send larger tiles, or a part of the picture",
            "too_many_tiles",
        )


def detect_tiled(
    detector: Detector, image: Image, prompts: Sequence[str], threshold: float, tiling: Tiling
) -> Detections:
    """What is found in the tiles and in the picture as a whole, doubles included, in the picture's pixels.

    What an inner edge of a tile cuts is left out: a neighbour has it whole if it is smaller than the overlap, the whole
    picture if it is larger.
    """
    height, width = image.shape[:2]
    cuts = windows(width, height, tiling)
    whole = detector.detect([image], prompts, threshold)[0]
    if len(cuts) == 1:
        return whole
    parts = [whole]
    for window in cuts:
        left, top, right, bottom = window
        tile = np.ascontiguousarray(image[top:bottom, left:right])
        parts.append(_placed(detector.detect([tile], prompts, threshold)[0], window, width, height))
    return _joined(parts)


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / max(1.0, tile * (1.0 - overlap)))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _placed(found: Detections, window: Window, width: int, height: int) -> Detections:
    left, top, right, bottom = window
    boxes = found.boxes
    cut = (boxes[:, 0] < _EDGE) & (left > 0) | (boxes[:, 1] < _EDGE) & (top > 0)
    cut |= (boxes[:, 2] > right - left - _EDGE) & (right < width)
    cut |= (boxes[:, 3] > bottom - top - _EDGE) & (bottom < height)
    rows = np.flatnonzero(~cut)
    masks = None
    if found.masks is not None:
        masks = np.zeros((len(rows), height, width), np.bool_)
        masks[:, top:bottom, left:right] = found.masks[rows]
    return replace(
        found,
        width=width,
        height=height,
        boxes=boxes[rows] + np.asarray([left, top, left, top], np.float32),
        scores=found.scores[rows],
        labels=tuple(found.labels[row] for row in rows),
        masks=masks,
        embeddings=None if found.embeddings is None else found.embeddings[rows],
    )


def _joined(parts: Sequence[Detections]) -> Detections:
    first = parts[0]
    masks = [part.masks for part in parts if part.masks is not None]
    embeddings = [part.embeddings for part in parts if part.embeddings is not None]
    return replace(
        first,
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        labels=tuple(label for part in parts for label in part.labels),
        masks=np.concatenate(masks) if len(masks) == len(parts) else None,
        embeddings=np.concatenate(embeddings) if len(embeddings) == len(parts) else None,
    )
