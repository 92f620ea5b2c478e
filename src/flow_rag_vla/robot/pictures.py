# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed pictures of cameras to pixels, and back. What cannot be shown raises PictureError, never anything else."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_PIXELS = 2**25
"""Of one picture. A file of a few megabytes can hold gigabytes of pixels; no camera of an arm has a hundredth of it."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header, which holds its size (ITU-T T.81, table B.1)."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length behind them."""


class PictureError(ValueError):
    """An image, or what came with it, is not passed on; the text says why."""


def decoded(data: bytes | memoryview, most: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG or a PNG.

    Args:
        data: the file's bytes.
        most: pixels that it may have; more are refused before they take memory.

    Raises:
        PictureError: if it is something else, too large, or damaged.
    """
    whole = bytes(data)
    width, height = encoded_size(whole)
    if not 0 < width * height <= most:
        raise PictureError(f"a picture of {width} x {height} pixels, expected 1 to {most} of them")
    try:
        pixels = cv2.imdecode(np.frombuffer(whole, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise PictureError(f"a compressed picture of {len(whole)} bytes is damaged or cut off")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encoded_size(data: bytes) -> tuple[int, int]:
    """Width and height that the head of a JPEG or a PNG names, pixels.

    Raises:
        PictureError: if it is neither, or ends before it says so.
    """
    if data.startswith(_PNG) and len(data) >= 24 and data[12:16] == b"IHDR":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(_JPEG):
        place = 2
        while place + 9 <= len(data) and data[place] == 0xFF:
            marker = data[place + 1]
            if marker in _FRAMES:
                return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                    data[place + 5 : place + 7], "big"
                )
            if marker == 0xFF:
                # Markers may be filled up with as many of these as one likes.
                place += 1
            elif marker in _ALONE:
                place += 2
            else:
                place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise PictureError(f"{len(data)} bytes that are no JPEG and no PNG; set compressed_image_transport to one of them")


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """JPEG of an (H, W, 3) uint8 RGB array.

    Raises:
        PictureError: if OpenCV cannot make one.
    """
    good, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not good:
        raise PictureError(f"an image of shape {pixels.shape} cannot be encoded as JPEG")
    return bytes(data)
