# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reading what others wrote: nothing is believed, and each refusal names the file, the place and the value."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from flow_rag_vla.labeling.datasets.dataset import Box, Ring
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked

LARGEST_FILE = 1 << 30
"""Bytes of a file of annotations."""
SLACK = 0.01
"""Pixels by which a box or an outline may stand over the edge: other tools round. It is cut off."""
DECIMALS = 6
"""Of pixels that were shares: what was written with enough digits is found again exactly."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,90}\.[A-Za-z0-9]{1,8}")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


def read_bytes(path: Path) -> bytes:
    """The content of a file of annotations.

    Raises:
        DatasetError: ``dataset_missing``, or ``dataset_corrupt`` where it is too large.
    """
    if not path.is_file():
        raise DatasetError(f"there is no file {path}: is the copy complete?", "dataset_missing")
    with disk_checked(path):
        if path.stat().st_size > LARGEST_FILE:
            raise corrupt(path, f"it is larger than {LARGEST_FILE} bytes")
        return path.read_bytes()


def read_text(path: Path) -> str:
    """The text of a file of annotations; see ``read_bytes``."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise corrupt(path, f"it is no UTF-8 text ({error.reason} at byte {error.start})") from error


def read_json(path: Path) -> Any:
    """The JSON in a file; NaN and Infinity are refused.

    Raises:
        DatasetError: ``dataset_missing`` or ``dataset_corrupt``.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    content = read_text(path)
    try:
        return json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise corrupt(path, f"it is no JSON ({error or 'nested too deep'})") from error


def corrupt(place: object, problem: str) -> DatasetError:
    """The refusal of a damaged file."""
    return DatasetError(f"{place}: {problem}; copy it again, or correct it", "dataset_corrupt")


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, Mapping):
        raise corrupt(place, f"{_shown(value)} is no object")
    return value


def sequence(value: Any, place: str) -> Sequence[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise corrupt(place, f"{_shown(value)} is no list")
    return value


def text(value: Any, place: str, longest: int = 4_000) -> str:
    """A text without control characters."""
    if not isinstance(value, str) or len(value) > longest:
        raise corrupt(place, f"{_shown(value)} is no text of at most {longest} characters")
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t" for letter in value):
        raise corrupt(place, f"{_shown(value)} holds control characters")
    return value


def number(value: Any, place: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise corrupt(place, f"{_shown(value)} is no finite number")
    return float(value)


def decimal(value: str | None, place: str) -> float:
    """A finite number written as text."""
    try:
        found = float(value or "")
    except ValueError as error:
        raise corrupt(place, f"{_shown(value)} is no number") from error
    return number(found, place)


def whole(value: Any, place: str, least: int = 0, most: int = (1 << 63) - 1) -> int:
    """A whole number within limits; 3.0 counts as 3."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise corrupt(place, f"{_shown(value)} is no whole number of {least} to {most}")
    return value


def flag(value: Any, place: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise corrupt(place, f"{_shown(value)} is neither true nor false")
    return value


def inside_box(box: Box, width: int, height: int, place: str) -> Box:
    """A box cut to the picture, if it stands over by no more than rounding.

    Raises:
        DatasetError: ``box_outside_image`` or ``box_without_area``.
    """
    left, top, right, bottom = box
    over = max(-left, -top, right - width, bottom - height)
    if not over <= SLACK:
        raise DatasetError(
            f"{place}: box {[round(value, 3) for value in box]} is not inside 0, 0, {width}, {height}: "
            "cut it to the picture, or give the picture it belongs to",
            "box_outside_image",
        )
    left, right = max(0.0, left), min(float(width), right)
    top, bottom = max(0.0, top), min(float(height), bottom)
    if right <= left or bottom <= top:
        raise DatasetError(f"{place}: box {[round(value, 3) for value in box]} has no area", "box_without_area")
    return left, top, right, bottom


def inside_ring(values: Sequence[float], width: int, height: int, place: str) -> Ring:
    """An outline cut to the picture, if it stands over by no more than rounding.

    Raises:
        DatasetError: ``mask_invalid`` or ``box_outside_image``.
    """
    if len(values) < 6 or len(values) % 2:
        raise DatasetError(
            f"{place}: an outline of {len(values)} numbers; it needs three or more points", "mask_invalid"
        )
    limits = (float(width), float(height))
    for which, value in enumerate(values):
        if not -SLACK <= value <= limits[which % 2] + SLACK:
            raise DatasetError(
                f"{place}: a point of the outline at {value:g} is not inside {width} x {height} pixels",
                "box_outside_image",
            )
    return tuple(min(max(0.0, value), limits[which % 2]) for which, value in enumerate(values))


def image_file(root: Path, name: str, place: str) -> Path:
    """The file that a name leads to, if it stays below ``root``.

    Raises:
        DatasetError: ``unsafe_path``, whether or not anything is there; ``image_missing``.
    """
    path = PurePosixPath(name)
    refused = DatasetError(
        f"{place}: {name[:120]!r} leads out of {root}: use a path relative to it, without '..'", "unsafe_path"
    )
    odd = "\\" in name or "\0" in name or "://" in name
    if not name or odd or path.is_absolute() or ".." in path.parts or name.startswith("~"):
        raise refused
    try:
        found = (root / path).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, or a name that is too long
        raise refused from error
    if not found.is_relative_to(root.resolve()):
        raise refused
    if not found.is_file():
        raise DatasetError(f"{place}: there is no picture {name[:200]} in {root}: copy it there", "image_missing")
    return root / path


def plain_name(name: str, taken: set[str], number: int) -> str:
    """A name for a picture's file that is unique and plain, as near to ``name`` as it goes."""
    last = PurePosixPath(name).name
    if _PLAIN.fullmatch(last) and ".." not in last and last.lower() not in taken:
        taken.add(last.lower())
        return last
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
    suffix = suffix if _SUFFIX.fullmatch(suffix) else ".png"
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:80].strip("_-") or f"image_{number:06d}"
    wanted = f"{stem}{suffix}"
    if wanted.lower() in taken:
        wanted = f"{stem}_{number:06d}{suffix}"
    taken.add(wanted.lower())
    return wanted


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
