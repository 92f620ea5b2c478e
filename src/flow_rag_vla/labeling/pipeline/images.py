# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as the pipeline takes them, and reading them from files without trusting what the files say."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.pipeline.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

MAX_PIXELS = 50_000_000
"""A picture of more pixels is refused before it is decoded: 150 MB of RGB."""
MIN_SIDE = 8
"""Pixels; a smaller picture shows nothing that could be labelled."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


def check_image(image: object, name: str = "image") -> Image:
    """The picture, if it is (H, W, 3) uint8 of at least ``MIN_SIDE`` pixels a side.

    Raises:
        ImageError: naming what was found and the remedy.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} is a {type(image).__name__}, expected an (H, W, 3) uint8 array", "image_shape")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{name} has the shape {image.shape}, expected (H, W, 3): convert it to RGB", "image_shape")
    if image.dtype != np.uint8:
        raise ImageError(f"{name} has the dtype {image.dtype}, expected uint8 of 0 to 255", "image_dtype")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"{name} is {width} x {height} pixels, expected at least {MIN_SIDE} a side", "image_empty")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} pixels, more than {MAX_PIXELS}: scale it down or cut it", "image_too_large"
        )
    return image


def decode_image(data: bytes, name: str = "image") -> Image:
    """(H, W, 3) uint8 RGB of an encoded picture: any mode that Pillow reads; transparency is dropped, EXIF turns it.

    Raises:
        ImageError: for bytes that are no whole picture, or one of more than ``MAX_PIXELS``.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    if not data:
        raise ImageError(f"{name} is empty (0 bytes): copy it again", "image_empty")
    try:
        with warnings.catch_warnings():
            # Pillow's own limit only warns between once and twice its value; the one below is exact.
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(data)) as opened:
                width, height = opened.size
                if width * height > MAX_PIXELS:
                    raise ImageError(
                        f"{name} says that it is {width} x {height} pixels, more than {MAX_PIXELS}: scale it down",
                        "image_too_large",
                    )
                pixels = np.array(ImageOps.exif_transpose(_eight_bit(opened)).convert("RGB"), dtype=np.uint8)
    except ImageError:
        raise
    except Pillow.DecompressionBombError as error:
        raise ImageError(
            f"{name} would unpack to too many pixels ({error}): scale it down", "image_too_large"
        ) from error
    except UnidentifiedImageError as error:
        # Its own words name the buffer, not the file.
        raise ImageError(f"{name} is no picture of a known format: save it as PNG or JPEG") from error
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead them to
        raise ImageError(f"{name} is no readable picture ({error}): save it again as PNG or JPEG") from error
    return check_image(pixels, name)


def read_image(path: str | Path) -> Image:
    """(H, W, 3) uint8 RGB of a file; see ``decode_image``.

    Raises:
        ImageError: for a file that is not there or is no picture.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error})", "image_missing") from error
    return decode_image(data, str(path))


def _eight_bit(opened: Picture) -> Picture:
    """16-bit grey is scaled: Pillow's own conversion clips it to white."""
    from PIL import Image as Pillow

    if not opened.mode.startswith("I;16"):
        return opened
    return Pillow.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
