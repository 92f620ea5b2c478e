# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a mapping field by field; what is wrong is said with file, field, value and remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any


class ProfileError(ValueError):
    """A robot profile cannot be used; the text names file, field, value and remedy."""


class Fields:
    """The fields of one mapping of a YAML file. Read each once, then call ``end``."""

    def __init__(self, values: Any, file: str, place: str = "") -> None:
        """Take a mapping that stands at ``place`` of ``file``.

        Raises:
            ProfileError: if it is no mapping.
        """
        self._file, self._place = file, place
        if not isinstance(values, dict):
            raise ProfileError(f"{file}: {place or 'the file'} is {_short(values)}, expected `field: value` lines")
        self._values: dict[Any, Any] = values
        self._known: list[str] = []

    def text(self, name: str, default: str | None = None, choices: Sequence[str] = ()) -> str:
        """A string; without a default it must be there and not be empty."""
        value = self._take(name, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.wrong(name, value, "a text")
        if choices and value not in choices:
            near = difflib.get_close_matches(value, choices, 1)
            raise self.wrong(name, value, f"one of {', '.join(choices)}", f"did you mean {near[0]!r}?" if near else "")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number from ``low`` to ``high``."""
        return self._number(name, self._take(name, default), low, high)

    def numbers(self, name: str, count: int, low: float, high: float) -> tuple[float, ...]:
        """So many finite numbers, each from ``low`` to ``high``."""
        value = self._take(name, None)
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(name, value, f"a list of {count} numbers")
        return tuple(self._number(f"{name}[{index}]", item, low, high) for index, item in enumerate(value))

    def inner(self, name: str, optional: bool = False) -> Fields:
        """A mapping inside this one; an empty one if it is optional and not there."""
        return Fields(self._take(name, {} if optional else None), self._file, self._path(name))

    def each(self, name: str, optional: bool = False) -> list[Fields]:
        """A list of mappings."""
        value = self._take(name, [] if optional else None)
        if not isinstance(value, list) or not (value or optional):
            raise self.wrong(name, value, "a list with one `- ` a piece")
        return [Fields(item, self._file, f"{self._path(name)}[{index}]") for index, item in enumerate(value)]

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._values

    def wrong(self, name: str, value: object, expected: str, remedy: str = "") -> ProfileError:
        """The error for a field whose value is not what was expected."""
        return ProfileError(f"{self._file}: {self._path(name)} is {_short(value)}, expected {expected}"
                            + (f"; {remedy}" if remedy else ""))  # fmt: skip

    def end(self) -> None:
        """Say that every field was read.

        Raises:
            ProfileError: for a field that nobody knows, naming the nearest known one.
        """
        for name in self._values:
            if name not in self._known:
                near = difflib.get_close_matches(str(name), self._known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self._known)}"
                raise ProfileError(f"{self._file}: {self._path(str(name))} is not a field of a profile; {hint}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        if name in self._values:
            return self._values[name]
        if default is None:
            # A misspelt field is the usual reason for a missing one.
            near = difflib.get_close_matches(name, [str(key) for key in self._values], 1)
            hint = f"; {near[0]!r} is there, did you mean that?" if near else ""
            raise ProfileError(f"{self._file}: {self._path(name)} is missing{hint}; add it (docs/robot.md)")
        return default

    def _number(self, name: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.wrong(name, value, "a finite number")
        if not low <= value <= high:
            raise self.wrong(name, value, f"{low:g} to {high:g}")
        return float(value)

    def _path(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
