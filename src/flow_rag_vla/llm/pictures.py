# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that others sent, looked at before they cost anything: how many, how large, and whether they open."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from flow_rag_vla.llm.errors import BadRequestError, MissingPackageError
from flow_rag_vla.llm.request import LARGEST_PICTURE, MOST_PICTURES, Message, Picture

MOST_PIXELS = 25_000_000
"""Of one picture. Hosted models shrink larger ones, and a file of a few bytes can unpack to gigabytes."""

_MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class SentPicture:
    """As it came. shows: what is to be seen; format: of the file, as in sensor_msgs/CompressedImage; data: the file."""

    shows: str
    format: str
    data: bytes


def shown(sent: Sequence[SentPicture]) -> tuple[Message, ...]:
    """A message of role ``data`` that carries the pictures; none for none. For a slow thread: each is decoded.

    Raises:
        BadRequestError: naming the first that is of another format, too large, or does not decode; or if they are too
            many.
        MissingPackageError: if Pillow is not installed.
    """
    if not sent:
        return ()
    if len(sent) > MOST_PICTURES:
        raise BadRequestError(f"{len(sent)} images, at most {MOST_PICTURES} are taken; send those that matter")
    checked = tuple(_checked(number, picture) for number, picture in enumerate(sent))
    return (Message("data", "What cameras or files show:", "images", checked),)


def _checked(number: int, sent: SentPicture) -> Picture:
    name = f"images[{number}]"
    # "png", or as image_transport writes it: "rgb8; jpeg compressed bgr8".
    words = sent.format.lower().replace(";", " ").split()
    media_type = next((_MEDIA_TYPES[word] for word in words if word in _MEDIA_TYPES), None)
    if media_type is None:
        raise BadRequestError(f"{name} has format {sent.format[:80]!r}, expected 'jpeg' or 'png'; encode it as one")
    if len(sent.data) > LARGEST_PICTURE:
        raise BadRequestError(
            f"{name} has {len(sent.data)} bytes, at most {LARGEST_PICTURE} are taken; shrink or compress it"
        )
    _decode(name, media_type, sent.data)
    return Picture(sent.shows or "its sender did not say what", sent.data, media_type)


def _decode(name: str, media_type: str, data: bytes) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError(f"images are opened with Pillow ({error}); pip install pillow") from None
    kind = media_type.partition("/")[2]
    try:
        with warnings.catch_warnings():
            # Pixels are counted below, by the file's header, before any memory is spent on them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=(kind.upper(),)) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise BadRequestError(
                        f"{name} is {width} x {height} pixels, at most {MOST_PIXELS} are taken; shrink it"
                    )
                image.load()
    except Image.DecompressionBombError:
        raise BadRequestError(f"{name} has far too many pixels, at most {MOST_PIXELS} are taken; shrink it") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow raises all of these for files that are cut off, spoiled, or of another kind.
        raise BadRequestError(f"{name} does not decode as {kind} ({error}); send the whole file") from None
