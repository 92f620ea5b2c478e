# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Requests and answers: the values that pass between a caller, the service and a provider."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from flow_rag_vla.llm.errors import BadRequestError

MAX_CHARACTERS = 32_000
"""Of all messages together. Longer ones are refused before they cost anything."""

Role = Literal["system", "user", "assistant", "data"]
"""``data`` is text that nobody in charge wrote: labels in a scene, retrieved passages, a log. It reaches a model
quoted, with the rule that nothing in it is an instruction; the ``rules`` provider never reads it."""


MOST_PICTURES = 8
"""Of all messages together."""

LARGEST_PICTURE = 4_000_000
"""Bytes of one picture: what hosted models take."""

_BEGINNINGS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture. name: what it shows, in a few words; data: the file's bytes; media_type: of the file.

    Raises:
        BadRequestError: if it is empty, too large or not of its type.
    """

    name: str
    data: bytes
    media_type: str = "image/png"

    def __post_init__(self) -> None:
        beginning = _BEGINNINGS.get(self.media_type)
        if beginning is None:
            raise BadRequestError(
                f"picture {self.name!r} is of type {self.media_type!r}, expected one of {', '.join(_BEGINNINGS)}"
            )
        if not self.data.startswith(beginning):
            raise BadRequestError(f"picture {self.name!r} does not begin like {self.media_type}; encode it again")
        if len(self.data) > LARGEST_PICTURE:
            raise BadRequestError(
                f"picture {self.name!r} has {len(self.data)} bytes, at most {LARGEST_PICTURE} are taken; shrink it"
            )


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``source`` says where data come from.

    ``pictures`` reach models that see (``claude``, ``openai``); others are told the names of what they do not see.
    """

    role: Role
    text: str
    source: str = ""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. ``temperature`` None leaves it to the provider: some models refuse to be told."""

    max_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 65_536:
            raise BadRequestError(f"max_tokens is {self.max_tokens}, expected 1 to 65536")
        if self.temperature is not None and not 0.0 <= self.temperature <= 2.0:
            raise BadRequestError(f"temperature is {self.temperature}, expected 0 to 2")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise BadRequestError(f"top_p is {self.top_p}, expected above 0 and at most 1")


class CancelToken:
    """Withdraws a request, from any thread. Once canceled it stays so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._canceled = False
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0

    @property
    def canceled(self) -> bool:
        """Whether the request was withdrawn."""
        return self._canceled

    def cancel(self) -> None:
        """Withdraw it; callbacks run on the caller's thread, once."""
        with self._lock:
            if self._canceled:
                return
            self._canceled = True
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Run ``callback`` at the cancellation, at once if that was; return what takes it back."""
        with self._lock:
            if not self._canceled:
                number, self._next = self._next, self._next + 1
                self._callbacks[number] = callback
                return lambda: self._forget(number)
        callback()
        return lambda: None

    def _forget(self, number: int) -> None:
        with self._lock:
            self._callbacks.pop(number, None)


def deadline_in(seconds: float) -> float:
    """The deadline so many seconds from now, on the steady clock of ``time.monotonic``.

    Raises:
        BadRequestError: for anything but a finite number above 0.
    """
    if not math.isfinite(seconds) or seconds <= 0.0:
        raise BadRequestError(f"deadline is {seconds} s, expected seconds above 0")
    return time.monotonic() + seconds


@dataclass(frozen=True, slots=True)
class Request:
    """One question.

    messages: in order; the last one of role ``user`` is the question
    schema: the pydantic model that the answer must be an instance of; None asks for text
    deadline: seconds on the clock of ``time.monotonic`` by which everything, retries included, must be over
    """

    messages: tuple[Message, ...]
    deadline: float
    schema: type[BaseModel] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    cancel: CancelToken = field(default_factory=CancelToken)
    check: Callable[[BaseModel], object] | None = field(default=None, compare=False)
    """Looks at an instance beyond its schema and raises StructureError: that answer then counts as a miss."""

    def __post_init__(self) -> None:
        if not any(message.role == "user" and message.text.strip() for message in self.messages):
            raise BadRequestError("the request has no words of a user; ask something")
        characters = sum(len(message.text) for message in self.messages)
        if characters > MAX_CHARACTERS:
            raise BadRequestError(
                f"the messages have {characters} characters, at most {MAX_CHARACTERS} are taken; say it in fewer words"
            )
        pictures = sum(len(message.pictures) for message in self.messages)
        if pictures > MOST_PICTURES:
            raise BadRequestError(f"the messages have {pictures} pictures, at most {MOST_PICTURES} are taken")
        if any(message.pictures and message.role in ("system", "assistant") for message in self.messages):
            raise BadRequestError("pictures belong to the messages of a user, or to data")
        try:
            "".join(message.text + message.source for message in self.messages).encode()
        except UnicodeEncodeError as error:
            raise BadRequestError(f"a message holds half a character, which is no text: {error.reason}") from None
        if self.schema is not None and not (isinstance(self.schema, type) and issubclass(self.schema, BaseModel)):
            raise BadRequestError(f"schema {self.schema!r} is no pydantic model")
        if not math.isfinite(self.deadline):
            raise BadRequestError(f"deadline is {self.deadline}, expected a time of time.monotonic()")

    @property
    def question(self) -> str:
        """What the user asked last."""
        return next(message.text for message in reversed(self.messages) if message.role == "user")

    @property
    def remaining_s(self) -> float:
        """Seconds left until the deadline; 0 after it."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


NO_USAGE = Usage()
"""Of an answer that took no tokens."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What a provider gives back: text that is not yet checked."""

    text: str
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer as it comes. A higher ``attempt`` replaces everything that came before it."""

    text: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer.

    value: the validated instance; None when no schema was asked for
    attempts: provider calls that it took; 0 from the cache
    cost: in the currency of the price list; None when the model has no price there
    """

    text: str
    value: BaseModel | None
    provider: str
    model: str
    usage: Usage
    cost: float | None
    attempts: int
    seconds: float

    @property
    def cached(self) -> bool:
        """Whether no provider was called."""
        return self.attempts == 0
