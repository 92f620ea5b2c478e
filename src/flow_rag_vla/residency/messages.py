# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What travels through the pipeline: a task in, a result out. Both are plain JSON outside the process."""

from __future__ import annotations

import enum
import json
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

MAX_BYTES = 1_000_000
"""Longest message; what is larger belongs in a file that the message names."""


class MessageError(ValueError):
    """A message is malformed; the text names the field, the value and what is expected."""


class Status(str, enum.Enum):
    """How a task ended."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SHED = "shed"
    """Pushed out of a full queue by a more urgent one."""
    NO_HANDLER = "no_handler"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """Work for one module.

    Attributes:
        module: which handler.
        kind: what it is asked to do.
        data: JSON object.
        priority: higher first.
        step: the barrier it counts for; empty: none.
        task_id: unique; repeated in the result.
        created_ns: wall clock.
    """

    module: str
    kind: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    step: str = ""
    task_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created_ns: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        _check_text(self, "module", "kind", "step", "task_id")
        _check_ints(self, "priority", "created_ns")
        _check(bool(self.module), "module", self.module, "a name")
        _check(isinstance(self.data, Mapping), "data", self.data, "an object")

    def to_json(self) -> str:
        """One line."""
        return _write(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> TaskMessage:
        """Read what :meth:`to_json` wrote.

        Raises:
            MessageError: for anything else.
        """
        return _read(cls, text)


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """How a task ended. ``error`` is the error's type and text; times are seconds in the queue and in the handler."""

    task_id: str
    module: str
    status: Status
    data: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    attempts: int = 0
    queued_s: float = 0.0
    run_s: float = 0.0

    def __post_init__(self) -> None:
        _check_text(self, "task_id", "module", "error")
        _check_ints(self, "attempts")
        try:
            object.__setattr__(self, "status", Status(self.status))
        except ValueError:
            _check(False, "status", self.status, "one of " + ", ".join(Status))
        for name in ("queued_s", "run_s"):
            value = getattr(self, name)
            fine = (
                isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
            )
            _check(fine, name, value, "seconds from 0")
        _check(isinstance(self.data, Mapping), "data", self.data, "an object")

    def to_json(self) -> str:
        """One line."""
        return _write({**asdict(self), "status": self.status.value})

    @classmethod
    def from_json(cls, text: str | bytes) -> ResultMessage:
        """Read what :meth:`to_json` wrote.

        Raises:
            MessageError: for anything else.
        """
        return _read(cls, text)


M = TypeVar("M", TaskMessage, ResultMessage)


def _check(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise MessageError(f"{name} is {value!r:.80}, expected {expected}")


def _check_text(message: object, *names: str) -> None:
    for name in names:
        value = getattr(message, name)
        _check(isinstance(value, str), name, value, "text")


def _check_ints(message: object, *names: str) -> None:
    for name in names:
        value = getattr(message, name)
        _check(isinstance(value, int) and not isinstance(value, bool), name, value, "a whole number")


def _write(content: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"the message is no JSON: {error}; data may hold numbers, text, lists, objects") from None
    if size > MAX_BYTES:
        raise MessageError(f"the message has {size} bytes, at most {MAX_BYTES}; name a file instead")
    return text


def _read(kind: type[M], text: str | bytes) -> M:
    if len(text) > MAX_BYTES:
        raise MessageError(f"the message has {len(text)} bytes, at most {MAX_BYTES}; name a file instead")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the message is no JSON: {error}") from None
    _check(isinstance(content, dict), "the message", content, "an object")
    known = {one.name for one in fields(kind)}
    for name in content:
        _check(name in known, "a field", name, "one of " + ", ".join(sorted(known)))
    try:
        return kind(**content)
    except TypeError as error:
        raise MessageError(f"the message lacks fields: {error}") from None
