# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures with what was found drawn over them."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline.images import Image

_MASK_SHARE = 0.45


def colour_of(name: str) -> tuple[int, int, int]:
    """RGB of a category or track: the same for the same name, everywhere."""
    hue = zlib.crc32(name.encode()) % 360 / 360.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(image: Image, found: Detections, tracks: Sequence[str] = ()) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: masks tinted, boxes outlined, label and score beside each; tracks give the colours if named.

    Raises:
        ValueError: if the picture is not of the size of what was found.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    if image.shape[:2] != (found.height, found.width):
        raise ValueError(
            f"the picture is {image.shape[1]} x {image.shape[0]}, what was found is in one of "
            f"{found.width} x {found.height}"
        )
    colours = [colour_of(tracks[row] if tracks else label) for row, label in enumerate(found.labels)]
    tinted = image.astype(np.float32)
    if found.masks is not None:
        for mask, colour in zip(found.masks, colours, strict=True):
            tinted[mask] = (1.0 - _MASK_SHARE) * tinted[mask] + _MASK_SHARE * np.asarray(colour, np.float32)
    picture = Pillow.fromarray(tinted.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    width = max(1, round(min(image.shape[:2]) / 240))
    for row, (box, colour) in enumerate(zip(found.boxes, colours, strict=True)):
        left, top, right, bottom = (float(value) for value in box)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=width)
        text = f"{found.labels[row]} {found.scores[row]:.2f}" + (f" #{tracks[row]}" if tracks else "")
        extent = pen.textbbox((left, top), text, anchor="lb" if top > 12 else "lt")
        pen.rectangle(extent, fill=(0, 0, 0))
        pen.text((left, top), text, fill=colour, anchor="lb" if top > 12 else "lt")
    return np.asarray(picture, np.uint8)
