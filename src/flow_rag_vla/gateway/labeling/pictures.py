# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The pixels of registered pictures: files, uploads, frames of videos and bags.

A path that came over HTTP is only taken below the folders that the server was started with; what it names must decode
as a picture. Paths that the registry already holds were written by somebody with access to this machine.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.data.message_values import image_pixels, stamp_ns
from flow_rag_vla.gateway.errors import GatewayError, not_found
from flow_rag_vla.labeling.curation.contact_sheet import surroundings
from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.pipeline.images import decode_image, read_image
from flow_rag_vla.labeling.registry.errors import files_checked
from flow_rag_vla.labeling.registry.values import Box, Image, Source, SourceKind
from flow_rag_vla.labeling.video.frames import COMPRESSED_TYPE, open_bag, video_frame_at
from flow_rag_vla.labeling.video.limits import was_sent
from flow_rag_vla.labeling.video.sent import sent_frame

Pixels = NDArray[np.uint8]

KEPT_BYTES = 128 << 20
"""Of decoded pictures."""
LOSSLESS_PIXELS = 1_000_000
"""Larger pictures are sent as JPEG."""
_NEAR_NS = 10_000_000_000
_ONE_FILE = (SourceKind.IMAGE, SourceKind.UPLOAD)


class Pictures:
    """Reads, keeps and cuts pictures; any thread may ask."""

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        """Take paths over HTTP below ``roots`` only; relative ones are of the first."""
        self._roots = tuple(root.expanduser().resolve() for root in roots)
        self._kept: OrderedDict[str, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders below which paths are taken."""
        return self._roots

    def allowed(self, path: str) -> Path:
        """Where a path that came over HTTP leads, if it stays below an allowed folder.

        Raises:
            GatewayError: 422 ``unsafe_path``, whether or not anything is there.
        """
        refused = GatewayError(
            422,
            "unsafe_path",
            f"{path[:80]!r} is not below a folder that this server shows",
            "upload the picture, or start the server with --media FOLDER",
        )
        if "\0" in path or "://" in path:
            raise refused
        try:
            found = Path(*self._roots[:1], path).resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name that is too long
            raise refused from None
        if not any(found.is_relative_to(root) for root in self._roots):
            raise refused
        return found

    def pixels(self, source: Source, image: Image) -> Pixels:
        """(H, W, 3) uint8 RGB of a registered picture.

        Raises:
            ImageError, SourceError: its file is gone or spoiled; GatewayError: 404 ``no_picture``.
        """
        with self._lock:
            kept = self._kept.get(image.image_id)
            if kept is not None:
                self._kept.move_to_end(image.image_id)
                return kept
        found = _read(source, image)
        with self._lock:
            self._kept[image.image_id] = found
            while len(self._kept) > 1 and sum(pixels.nbytes for pixels in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def crop(self, source: Source, image: Image, box: Box, side: int) -> bytes:
        """PNG of what is in a box with a margin, at most ``side`` pixels a side."""
        part = Pillow.fromarray(np.ascontiguousarray(surroundings(self.pixels(source, image), box)))
        scale = side / max(part.size)
        size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        return _file_of(part.resize(size, Pillow.Resampling.BILINEAR), "PNG")


def kept_file(folder: Path, data: bytes, suffix: str) -> str:
    """Keep a picture's file durably under the SHA-256 of its bytes; its path relative to the folder.

    Raises:
        RegistryError: no space is left, or the folder cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    name = f"{digest[:2]}/{digest[2:4]}/{digest}{suffix}"
    with files_checked(str(folder)):
        if not (folder / name).is_file():
            with replaced_file(folder / name) as temporary:
                temporary.write_bytes(data)
    return name


def encoded(pixels: Pixels) -> tuple[bytes, str]:
    """A picture as a browser takes it, and its media type; the pixels of small ones are exact."""
    image = Pillow.fromarray(pixels)
    if pixels.shape[0] * pixels.shape[1] <= LOSSLESS_PIXELS:
        return _file_of(image, "PNG", compress_level=1), "image/png"
    return _file_of(image, "JPEG", quality=92), "image/jpeg"


def _file_of(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _read(source: Source, image: Image) -> Pixels:
    path = Path(source.path)
    try:
        if source.kind is SourceKind.BAG:
            found = _of_bag(path, image)
        elif source.kind is SourceKind.VIDEO:
            found = sent_frame(path, image.stamp_ns) if was_sent(path) else video_frame_at(path, image.stamp_ns)
        else:
            file = path if source.kind in _ONE_FILE else path / image.name
            found = read_image(file) if file.is_file() else None
    except SourceError as error:
        raise not_found("no_picture", str(error), "copy it back to where it was registered") from error
    if found is None:
        raise not_found("no_picture", f"{path} holds no {image.name}", "copy it back to where it was registered")
    return found


def _of_bag(path: Path, image: Image) -> Pixels | None:
    bag = open_bag(path)
    topic = bag.find(image.name)
    # Log times are of the recorder's clock: near the stamp, unless the time was simulated.
    near = bag.messages([topic], image.stamp_ns - _NEAR_NS, image.stamp_ns + _NEAR_NS) if topic else ()
    for entry in chain(near, bag.messages([topic]) if topic else ()):
        if stamp_ns(entry.message.header) == image.stamp_ns:
            if entry.msgtype == COMPRESSED_TYPE:
                return decode_image(bytes(entry.message.data), f"{image.name} at {image.stamp_ns}")
            return image_pixels(entry.message)
    return None
