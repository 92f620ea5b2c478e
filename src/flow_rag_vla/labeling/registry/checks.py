# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What makes no sense is refused here, before a transaction begins; each refusal names the field and its value."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from flow_rag_vla.labeling.detections import UNIT_TOLERANCE, Origin
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.values import Attribute, Box, BoxConvention, Embedder, Mask, Vector

LONGEST_NAME = 200
LONGEST_PATH = 1_000
LONGEST_TEXT = 4_000
MOST_ATTRIBUTES = 64
MOST_NUMBERS = 16_384
LARGEST_SIDE = 65_536
LARGEST_INTEGER = (1 << 63) - 1
"""Of a 64 bit column."""
ROUNDING = 1e-3
"""Pixels by which a box may stand over the edge: conversions between conventions round; it is cut off."""

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def checked_name(value: str, field: str, *, empty: bool = False, longest: int = LONGEST_NAME) -> str:
    """A name without surrounding space, in Unicode's composed form.

    Raises:
        InvalidInputError: it is empty (unless allowed), too long, or holds control characters.
    """
    name = unicodedata.normalize("NFC", str(value)).strip()
    if not name and not empty:
        raise InvalidInputError(ErrorCode.INVALID_VALUE, f"{field} is empty", "give a name")
    if len(name) > longest:
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE, f"{field} has {len(name)} characters", f"use at most {longest}"
        )
    # Surrogates (a file name that is not UTF-8) cannot be stored as text.
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE, f"{field} {name!r} holds control characters", "use printable characters"
        )
    return name


def checked_path(value: str, field: str, *, relative: bool = False) -> str:
    """A POSIX path or URL that cannot climb: no ``..``, no backslash, no control characters.

    Args:
        value: the path.
        field: for the error.
        relative: refuse absolute paths and URLs too.

    Raises:
        InvalidInputError: with the code ``unsafe_path``.
    """
    path = str(value)
    climbs = ".." in PurePosixPath(path).parts
    odd = "\\" in path or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path)
    absolute = path.startswith(("/", "~")) or _SCHEME.match(path) is not None
    if not path or len(path) > LONGEST_PATH or climbs or odd or (relative and absolute):
        kind = "a relative POSIX path" if relative else "a POSIX path or URL"
        raise InvalidInputError(
            ErrorCode.UNSAFE_PATH,
            f"{field} {path[:80]!r} is not allowed",
            f"give {kind} of at most {LONGEST_PATH} characters without '..' and backslashes",
        )
    return path


def checked_origin(origin: Origin, place: str) -> Origin:
    """Who said so, with every part checked.

    Raises:
        InvalidInputError: a name that is none, or a threshold that is no share.
    """
    return Origin(
        checked_name(origin.model, f"{place}: model"),
        checked_name(origin.revision, f"{place}: revision", empty=True),
        checked_name(origin.prompt, f"{place}: prompt", empty=True, longest=LONGEST_TEXT),
        checked_share(origin.threshold, f"{place}: threshold"),
    )


def checked_whole(value: int, field: str, *, least: int = 0, most: int = LARGEST_INTEGER) -> int:
    """A whole number within limits.

    Raises:
        InvalidInputError: it is not.
    """
    if not least <= value <= most:
        raise InvalidInputError(ErrorCode.INVALID_VALUE, f"{field} is {value}", f"give {least} to {most}")
    return int(value)


def checked_share(value: float, field: str) -> float:
    """A number of 0 to 1.

    Raises:
        InvalidInputError: with the code ``invalid_score``.
    """
    number = float(value)
    # Also false for NaN.
    if not 0.0 <= number <= 1.0:
        raise InvalidInputError(ErrorCode.INVALID_SCORE, f"{field} is {number}", "give a number of 0 to 1")
    return number


def checked_area(value: float, field: str) -> float:
    """A number of square pixels.

    Raises:
        InvalidInputError: it is negative or not finite.
    """
    number = float(value)
    if not 0.0 <= number < math.inf:
        raise InvalidInputError(ErrorCode.INVALID_VALUE, f"{field} is {number}", "give square pixels, 0 or more")
    return number


def checked_box(box: Box, convention: BoxConvention, width: int, height: int, field: str) -> Box:
    """A box as left, top, right, bottom in pixels, right and bottom exclusive.

    Args:
        box: four numbers.
        convention: what they mean.
        width: of the image, pixels.
        height: of the image, pixels.
        field: for the error.

    Raises:
        InvalidInputError: ``box_not_finite``, ``box_without_area`` or ``box_outside_image``.
    """
    first, second, third, fourth = (float(number) for number in box)
    if not all(math.isfinite(number) for number in (first, second, third, fourth)):
        raise InvalidInputError(ErrorCode.BOX_NOT_FINITE, f"{field} is {tuple(box)}", "give finite numbers")
    if convention is BoxConvention.LTRB_INCLUSIVE:
        third, fourth = third + 1.0, fourth + 1.0
    elif convention is BoxConvention.XYWH:
        third, fourth = first + third, second + fourth
    elif convention is BoxConvention.CXCYWH_NORMALISED:
        wide, high = third * width, fourth * height
        first, second = first * width - wide / 2, second * height - high / 2
        third, fourth = first + wide, second + high
    outside = min(first, second) < -ROUNDING or third > width + ROUNDING or fourth > height + ROUNDING
    if not outside:
        first, second = max(first, 0.0), max(second, 0.0)
        third, fourth = min(third, float(width)), min(fourth, float(height))
    if third <= first or fourth <= second:
        raise InvalidInputError(
            ErrorCode.BOX_WITHOUT_AREA,
            f"{field} is {tuple(box)} ({convention.value}): it has no area",
            "give a box of positive width and height, and the convention that it is in",
        )
    if outside:
        raise InvalidInputError(
            ErrorCode.BOX_OUTSIDE_IMAGE,
            f"{field} is {tuple(box)} ({convention.value}): outside the image of {width} x {height} pixels",
            "cut it at the image's edge, or give the convention that it is in",
        )
    return first, second, third, fourth


def checked_mask(mask: Mask, width: int, height: int, field: str) -> Mask:
    """A mask of the image's size with something in it.

    Raises:
        InvalidInputError: with the code ``invalid_mask``.
    """
    array = np.asarray(mask)
    if array.shape != (height, width) or array.dtype != np.bool_:
        raise InvalidInputError(
            ErrorCode.INVALID_MASK,
            f"{field} has the shape {array.shape} and type {array.dtype}",
            f"give ({height}, {width}) bool, the size of the image",
        )
    if not array.any():
        raise InvalidInputError(ErrorCode.INVALID_MASK, f"{field} is empty", "give no mask where nothing was found")
    return array


def checked_vector(vector: Vector, embedder: Embedder, field: str) -> bytes:
    """A vector as little-endian float32.

    Raises:
        InvalidInputError: ``wrong_dimension``, or ``invalid_embedding`` where its length is not 1.
    """
    array = np.asarray(vector, dtype="<f4")
    if array.shape != (embedder.dimension,):
        raise InvalidInputError(
            ErrorCode.WRONG_DIMENSION,
            f"{field} has the shape {array.shape}, but {embedder} gives ({embedder.dimension},)",
            "name the embedder that made it",
        )
    length = float(np.linalg.norm(array.astype(np.float64)))
    if not abs(length - 1.0) <= UNIT_TOLERANCE:
        raise InvalidInputError(
            ErrorCode.INVALID_EMBEDDING, f"{field} has the length {length:.4g}", "scale it to the length 1"
        )
    return array.tobytes()


def checked_embedder(embedder: Embedder, field: str = "embedder") -> Embedder:
    """An embedder with a name and a dimension.

    Raises:
        InvalidInputError: it has none.
    """
    dimension = checked_whole(embedder.dimension, f"{field}.dimension", least=1, most=MOST_NUMBERS)
    name = checked_name(embedder.name, f"{field}.name")
    return Embedder(name, checked_name(embedder.revision, f"{field}.revision", empty=True), dimension)


def checked_attributes(attributes: Mapping[str, Attribute], field: str) -> dict[str, Attribute]:
    """Attributes with plain names and finite values.

    Raises:
        InvalidInputError: too many, a name that is not an identifier, or a value that is not plain or too long.
    """
    if len(attributes) > MOST_ATTRIBUTES:
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE, f"{field} has {len(attributes)} names", f"use at most {MOST_ATTRIBUTES}"
        )
    for name, value in attributes.items():
        if not _ATTRIBUTE.fullmatch(name):
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE,
                f"{field} has the name {name[:80]!r}",
                "use letters, digits, '_', '.' and '-', beginning with a letter, at most 64",
            )
        plain = isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))
        if not plain or len(json.dumps(value)) > LONGEST_TEXT or (isinstance(value, str) and "\x00" in value):
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE,
                f"{field}[{name!r}] is {str(value)[:80]!r}",
                f"give a text of at most {LONGEST_TEXT} characters, a finite number, or true or false",
            )
    return dict(attributes)
