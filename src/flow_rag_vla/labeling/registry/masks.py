# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Masks as one-bit PNG files, two levels of folders deep: ``ab/cd/<object id>-<random>.png``.

A file is written under a temporary name, synced and renamed before the row that names it is committed: after a crash
there may be a file without a row (``doctor`` removes it), but never a row without its file. The random part lets two
writers change one object at once, and keeps the old mask for an undo. Masks of one batch share a folder: one folder is
made and synced instead of hundreds.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from flow_rag_vla.labeling.registry.errors import (
    ErrorCode,
    InvalidInputError,
    StorageError,
    disk_error,
    files_checked,
)
from flow_rag_vla.labeling.registry.values import Mask

LARGEST_MASK = 100_000
"""Bytes a mask: what is larger is noise and no object."""
WRITERS = 8
"""Threads that wait for the disk at once."""
MASKS_A_FOLDER = 1_000
"""Masks of one batch that share a folder at most."""
_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{32}-[0-9a-f]{8}\.png")
_TEMPORARY = ".writing-"


def mask_png(mask: Mask) -> bytes:
    """A mask (height, width) as PNG of one bit a pixel: Pillow's encoder takes four times as long and writes more.

    Raises:
        InvalidInputError: the file would be larger than 100 kB.
    """
    height, width = mask.shape
    # A row begins with the number of its filter: 0, none.
    rows = np.zeros((height, 1 + (width + 7) // 8), np.uint8)
    rows[:, 1:] = np.packbits(mask, axis=1)
    # One bit a pixel, grey, not interlaced.
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)
    if len(data) > LARGEST_MASK:
        raise InvalidInputError(
            ErrorCode.MASK_TOO_LARGE,
            f"the mask takes {len(data)} bytes as PNG, more than {LARGEST_MASK}",
            "remove its specks: a mask this rough is noise",
        )
    return data


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file (ISO/IEC 15948, 5.3): length, kind, content, check sum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def mask_name(object_id: str, together: str = "") -> str:
    """A new path for a mask of an object, relative to the folder of masks.

    Args:
        object_id: whose mask.
        together: the same text gives the same folder; "" chooses one by the object.
    """
    digest = hashlib.sha256((together or object_id).encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{object_id}-{secrets.token_hex(4)}.png"


class MaskFolder:
    """The folder of masks of one registry."""

    def __init__(self, root: Path) -> None:
        """Refer to a folder; it is made when the first mask is written."""
        self.root = root

    def file(self, name: str) -> Path:
        """Where a mask is.

        Raises:
            StorageError: the name is not one that this class gives out, and might lead elsewhere.
        """
        if not _NAME.fullmatch(name):
            remedy = "someone changed the database by hand; restore a backup"
            raise StorageError(ErrorCode.UNSAFE_PATH, f"mask path {name[:80]!r} is not one of the registry's", remedy)
        return self.root / name

    def write(self, files: dict[str, bytes]) -> None:
        """Write masks by name; on return all are durable, on an error none is left.

        Raises:
            DiskFullError, StorageError: with the reason.
        """
        if not files:
            return
        try:
            with ThreadPoolExecutor(min(WRITERS, len(files))) as pool:
                folders = set(pool.map(lambda item: self._write_one(*item), files.items()))
                list(pool.map(_sync_folder, sorted(folders)))
        except OSError as error:
            self.remove(list(files))
            raise disk_error(error, str(self.root)) from error

    def _write_one(self, name: str, data: bytes) -> Path:
        target = self.file(name)
        if not target.parent.is_dir():
            _make_folder(target.parent)
        temporary = target.with_name(f"{_TEMPORARY}{target.name}")
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target.parent

    def read(self, name: str) -> Mask:
        """A mask (height, width) bool.

        Raises:
            StorageError: its file is missing or damaged.
        """
        path = self.file(name)
        try:
            with PillowImage.open(path) as image:
                return np.asarray(image.convert("1"), dtype=np.bool_)
        except (OSError, SyntaxError) as error:
            remedy = "'registry doctor --repair' drops masks that are lost; segment the object again"
            raise StorageError(ErrorCode.MASK_LOST, f"{path}: the mask cannot be read ({error})", remedy) from error

    def remove(self, names: list[str]) -> None:
        """Remove masks that no row names; those that are not there are ignored."""
        for name in names:
            with files_checked(str(self.root)):
                self.file(name).unlink(missing_ok=True)

    def names(self) -> Iterator[tuple[str, float]]:
        """Every file below the folder with its time of change in seconds, unfinished ones too."""
        for folder, _, files in os.walk(self.root):
            for file in files:
                path = Path(folder, file)
                try:
                    yield path.relative_to(self.root).as_posix(), path.stat().st_mtime
                except FileNotFoundError:
                    continue  # A writer renamed it meanwhile.


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each entry on disk."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for item in reversed(missing):
        item.mkdir(exist_ok=True)
        _sync_folder(item.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
