# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Declarative parameters: one frozen dataclass a node says name, type, default, range, unit and meaning.

The same table declares the ROS parameters, checks YAML files and writes the reference page, so the three
cannot disagree.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_KEY = "flow_rag_vla.parameter"

T = TypeVar("T")


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type, or out of its range."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParameterInfo:
    """What is declared about one parameter."""

    name: str
    type: type
    default: Any
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    live: bool = False
    """Whether it may change while the node runs."""

    @property
    def is_list(self) -> bool:
        """Whether the value is a list (``type`` is then the type of its elements)."""
        return isinstance(self.default, tuple)

    def check(self, value: Any) -> Any:
        """Return the value in the declared type.

        Raises:
            ParameterError: naming the parameter, the value and what would be right.
        """
        if self.is_list:
            if isinstance(value, str) or not isinstance(value, (list, tuple)):
                raise ParameterError(f"{self.name}: {value!r} is no list of {self.type.__name__}")
            return tuple(self._check_one(item) for item in value)
        return self._check_one(value)

    def _check_one(self, value: Any) -> Any:
        if self.type is str and isinstance(value, bool):
            value = self._word(value)
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.type) or (self.type is not bool and isinstance(value, bool)):
            raise ParameterError(
                f"{self.name}: {value!r} is of type {type(value).__name__}, expected {self.type.__name__}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"{self.name}: {value!r} is not finite")
        if isinstance(value, (int, float)) and not self._in_range(value):
            low = "-inf" if self.minimum is None else f"{self.minimum:g}"
            high = "inf" if self.maximum is None else f"{self.maximum:g}"
            raise ParameterError(f"{self.name}: {value!r} is outside [{low}, {high}] {self.unit}".rstrip())
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name}: {value!r} is not one of {', '.join(map(str, self.choices))}")
        return value

    def _word(self, value: bool) -> str:
        """YAML reads off, no and false alike, and so does ROS on its command line."""
        words = ("on", "yes", "true") if value else ("off", "no", "false")
        meant = [word for word in words if word in self.choices]
        if len(meant) != 1:
            raise ParameterError(
                f"{self.name}: {value!r} is no text; YAML reads the words {', '.join(words)} as that: write "
                f"'\"{words[0]}\"', with both kinds of quotes on a command line"
            )
        return meant[0]

    def _in_range(self, value: float) -> bool:
        above = self.minimum is None or value >= self.minimum
        return above and (self.maximum is None or value <= self.maximum)


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    live: bool = False,
) -> Any:
    """Declare one field of a parameter dataclass."""
    metadata = {_KEY: (description, unit, minimum, maximum, choices, live)}
    return dataclasses.field(default=default, metadata=metadata)


def parameter_table(cls: type) -> tuple[ParameterInfo, ...]:
    """Every parameter that a dataclass declares, in order."""
    hints = get_type_hints(cls)
    table = []
    for entry in dataclasses.fields(cls):
        if _KEY not in entry.metadata:
            raise TypeError(f"{cls.__name__}.{entry.name} is not declared with parameter()")
        description, unit, minimum, maximum, choices, live = entry.metadata[_KEY]
        table.append(
            ParameterInfo(
                entry.name,
                _scalar_type(hints[entry.name]),
                entry.default,
                description,
                unit,
                minimum,
                maximum,
                choices,
                live,
            )
        )
    return tuple(table)


def load_parameters(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the dataclass from plain values; what is not named keeps its default.

    Raises:
        ParameterError: for an unknown name or a value that its declaration refuses.
    """
    table = {info.name: info for info in parameter_table(cls)}
    unknown = sorted(set(values) - set(table))
    if unknown:
        raise ParameterError(f"unknown parameter {unknown[0]!r}; known: {', '.join(table)}")
    return cls(**{name: table[name].check(value) for name, value in values.items()})


def _scalar_type(hint: Any) -> type:
    origin = get_origin(hint)
    if origin is tuple:
        return typing.cast(type, get_args(hint)[0])
    if origin in (typing.Union, types.UnionType) or not isinstance(hint, type):
        raise TypeError(f"{hint!r} is no parameter type; use bool, int, float, str or tuple[one of them, ...]")
    return hint
