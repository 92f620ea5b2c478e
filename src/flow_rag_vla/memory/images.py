# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Small pictures of a situation, as they are kept beside its case."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.case import CaseError

MOST_BYTES = 65_536
"""Of one picture: a thousand cases with two each stay below 130 MB."""

MOST_IMAGES = 4
"""Pictures a case."""

LONGEST_SIDE = 128
"""Pixels: enough for a person to see what went wrong."""

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}
"""How the files of each format begin."""


@dataclass(frozen=True, slots=True)
class CaseImage:
    """One encoded picture. name: the camera; format: ``png`` or ``jpeg``; data: the file's bytes.

    Raises:
        CaseError: if it is empty, too large, or not of its format.
    """

    name: str
    format: str
    data: bytes

    def __post_init__(self) -> None:
        magic = MAGIC.get(self.format)
        if magic is None:
            raise CaseError(f"image {self.name!r} has format {self.format!r}, expected png or jpeg")
        if not self.name:
            raise CaseError("an image has no name; name its camera")
        if len(self.data) > MOST_BYTES:
            raise CaseError(f"image {self.name!r} has {len(self.data)} bytes, expected at most {MOST_BYTES}; shrink it")
        if not self.data.startswith(magic):
            raise CaseError(f"image {self.name!r} says {self.format} but does not begin like one; encode it again")


def checked_images(images: tuple[CaseImage, ...]) -> tuple[CaseImage, ...]:
    """Themselves.

    Raises:
        CaseError: if they are too many, or two have one name.
    """
    if len(images) > MOST_IMAGES:
        raise CaseError(f"{len(images)} images, expected at most {MOST_IMAGES}")
    if len({image.name for image in images}) != len(images):
        raise CaseError("two images have one name; name each by its camera")
    return images


def put_images(connection: sqlite3.Connection, case_id: int, images: tuple[CaseImage, ...]) -> None:
    """Replace the pictures of a case.

    Raises:
        CaseError: if they are too many, or two have one name.
    """
    checked = checked_images(images)
    connection.execute("DELETE FROM images WHERE case_id = ?", (case_id,))
    connection.executemany(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?)",
        [(case_id, item.name, item.format, item.data, zlib.crc32(item.data)) for item in checked],
    )


def thinned(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy (h, w, 3) of an (H, W, 3) uint8 picture, every n-th pixel, neither side longer than ``LONGEST_SIDE``.

    ``encoded`` gives the same of both, so that of pictures of which most are never encoded only this need be kept.

    Raises:
        CaseError: if it is no such picture.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise CaseError(f"image {name!r} has shape {pixels.shape} of {pixels.dtype}, expected (H, W, 3) of uint8")
    step = -(-max(pixels.shape[:2]) // LONGEST_SIDE)
    return pixels[::step, ::step].copy()


def encoded(name: str, pixels: NDArray[np.uint8]) -> CaseImage:
    """PNG of an (H, W, 3) uint8 picture, thinned out until neither side is longer than ``LONGEST_SIDE``.

    Raises:
        CaseError: if it is no such picture.
    """
    # At most 128 x 128 x 3 bytes before they are compressed: never more than MOST_BYTES.
    return CaseImage(name, "png", _png(thinned(name, pixels)))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """8-bit RGB, each row as the difference from the one above (PNG, ISO/IEC 15948, filter 2)."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + width * 3), dtype=np.uint8)
    flat = pixels.reshape(height, width * 3)
    rows[:, 0] = 2
    rows[0, 1:] = flat[0]
    rows[1:, 1:] = flat[1:] - flat[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return MAGIC["png"] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
