# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that somebody sends: taken for what their bytes decode to, never for what their name says."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.labeling.pipeline.images import MAX_PIXELS, MIN_SIDE

MOST_BYTES = 20 << 20
"""Of one picture: a 24-megapixel photograph as JPEG, with room."""
MOST_PIXELS = MAX_PIXELS
LONGEST_SIDE = 16_384

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""By the suffix of a stored picture."""
_UPRIGHT = 1
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture that decodes.

    pixels: (height, width, 3) uint8 RGB, upright; data: the file that shows exactly these; suffix: of its kind
    """

    pixels: NDArray[np.uint8]
    data: bytes
    suffix: str


def decoded(data: bytes, name: str = "image") -> Picture:
    """The picture in these bytes.

    Raises:
        GatewayError: 400 ``image_empty``, 413 ``image_too_large`` (bytes or pixels; told from the header, before any
            memory is spent on the pixels), 415 ``image_type``, 422 ``image_corrupt``.
    """
    if not data:
        raise GatewayError(400, "image_empty", f"{name} has no bytes", "send the file itself")
    if len(data) > MOST_BYTES:
        raise GatewayError(413, "image_too_large", f"{name} has {len(data)} bytes, at most {MOST_BYTES} are taken",
                           "send a smaller or more compressed picture")  # fmt: skip
    with warnings.catch_warnings():
        # The limit on pixels is checked below, from the header.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=tuple(_SUFFIXES)) as image:
                _check_size(image.size, name)
                return _picture(image, data)
        except UnidentifiedImageError:
            kinds = ", ".join(_SUFFIXES)
            raise GatewayError(
                415, "image_type", f"{name} decodes as none of {kinds}", f"send one of {kinds}"
            ) from None
        except Image.DecompressionBombError:
            raise _too_many_pixels(name, "far too many") from None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            # Pillow raises all of these for files that are cut off or spoiled in the middle.
            raise GatewayError(
                422, "image_corrupt", f"{name} cannot be decoded: {error}", "send the whole file"
            ) from None


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise GatewayError(
            422, "image_empty", f"{name} is {width} x {height} pixels", f"send at least {MIN_SIDE} a side"
        )
    if width * height > MOST_PIXELS or max(size) > LONGEST_SIDE:
        raise _too_many_pixels(name, f"{width} x {height}")


def _too_many_pixels(name: str, size: str) -> GatewayError:
    return GatewayError(
        413,
        "image_too_large",
        f"{name} has {size} pixels, at most {MOST_PIXELS} and {LONGEST_SIDE} a side are taken",
        "send it scaled down or cut into tiles",
    )


def _picture(image: Image.Image, data: bytes) -> Picture:
    suffix = _SUFFIXES[str(image.format)]
    turned = image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
    animated = getattr(image, "n_frames", 1) > 1
    upright = ImageOps.exif_transpose(image).convert("RGB")
    if turned or animated:
        # Boxes count pixels as they are stored: a file that is shown turned, or moves, is kept as what was looked at.
        buffer = io.BytesIO()
        upright.save(buffer, "PNG")
        data, suffix = buffer.getvalue(), ".png"
    return Picture(np.asarray(upright, np.uint8), data, suffix)


def upload_of(pixels: NDArray[np.uint8]) -> Picture:
    """The picture of some pixels (H, W, 3) uint8 RGB, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return Picture(pixels, buffer.getvalue(), ".png")
