"""The pixels of registered pictures: files, uploads, frames of videos and images of bags.

A path that came over HTTP is only taken below the folders that the server was started with; what it names must decode
as a picture. Paths that the registry already holds were written by somebody with access to this machine.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.gateway.errors import GatewayError, not_found
from flow_rag_vla.gateway.labeling.uploads import Picture
from flow_rag_vla.labeling.pipeline.images import check_image, read_image
from flow_rag_vla.labeling.registry.errors import files_checked
from flow_rag_vla.labeling.registry.values import Box, Image, Source, SourceKind

Pixels = NDArray[np.uint8]

KEPT_BYTES = 128 << 20
"""Of decoded pictures."""
LOSSLESS_PIXELS = 1_000_000
"""Larger pictures are sent as JPEG."""
_ONE_FILE = (SourceKind.IMAGE, SourceKind.UPLOAD)


class Pictures:
    """Reads, keeps and cuts pictures; any thread may ask."""

    def __init__(self, uploads: Path, roots: Sequence[Path] = ()) -> None:
        """Keep uploads in one folder; take paths over HTTP below it and below ``roots``."""
        self._uploads = uploads
        self._roots = tuple(root.expanduser().resolve() for root in (*roots, uploads))
        self._kept: OrderedDict[str, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, picture: Picture) -> Path:
        """Keep an upload, durably, under the name of its content.

        Raises:
            RegistryError: no space is left, or the folder cannot be written.
        """
        path = self._uploads.resolve() / picture.digest[:2] / f"{picture.digest}{picture.suffix}"
        with files_checked(str(path)):
            if not path.is_file():
                with replaced_file(path) as temporary:
                    temporary.write_bytes(picture.data)
        return path

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
            found = (self._roots[0] / path).resolve()
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
        pixels = self.pixels(source, image)
        height, width = pixels.shape[:2]
        left, top, right, bottom = box
        margin = 0.15 * max(right - left, bottom - top) + 2.0
        rows = slice(max(0, int(top - margin)), min(height, int(bottom + margin) + 1))
        columns = slice(max(0, int(left - margin)), min(width, int(right + margin) + 1))
        part = Pillow.fromarray(np.ascontiguousarray(pixels[rows, columns]))
        scale = side / max(part.size)
        size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        return _file_of(part.resize(size, Pillow.Resampling.BILINEAR), "PNG")


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
    if source.kind in _ONE_FILE:
        return read_image(path)
    read = _READERS.get(source.kind)
    if read is None:
        file = path / image.name
        if not file.is_file():
            raise not_found("no_picture", f"{file} is not there", "copy the folder back to where it was registered")
        return read_image(file)
    return check_image(read(path, image), f"{path} {image.name}")


def _of_bag(path: Path, image: Image) -> Pixels:
    from flow_rag_vla.data.bag import Bag, BagError, image_near

    try:
        pixels = image_near(Bag(path), image.name, image.stamp_ns)
    except BagError as error:
        raise not_found("no_picture", str(error), "copy the bag back to where it was registered") from error
    if pixels is None:
        raise not_found("no_picture", f"{path} holds no image of {image.name} then", "copy the whole bag back")
    return pixels


_READERS: dict[SourceKind, Callable[[Path, Image], Pixels]] = {SourceKind.BAG: _of_bag}
