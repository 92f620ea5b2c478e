# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is moved: a model's declaration, the places it can be in, and the two ports, loader and device."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Place(str, enum.Enum):
    """Where a model's weights are. Disk is where their files always are: it has no budget."""

    GPU = "gpu"
    HOST = "host"
    DISK = "disk"


class State(str, enum.Enum):
    """What a model is doing."""

    COLD = "cold"
    PARKED = "parked"
    """In host memory, its own place being the GPU: not usable, quicker to bring back than from disk."""
    LOADING = "loading"
    RESIDENT = "resident"
    EVICTING = "evicting"
    FAILED = "failed"
    """Its loader raised; asked for again after a pause."""
    LOST = "lost"
    """Its loader did not come back, or could not free: its bytes stay charged until it does."""


class Cancel:
    """A withdrawal that the asking side makes and the working side looks at. Safe between threads."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    @property
    def canceled(self) -> bool:
        """Whether it was withdrawn."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Withdraw. Once is enough; more does nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self._event.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def when_canceled(self, call: Callable[[], None]) -> None:
        """Call this once at the withdrawal, at once if it is past."""
        with self._lock:
            if not self._event.is_set():
                self._calls.append(call)
                return
        call()

    def forget(self, call: Callable[[], None]) -> None:
        """Take a callback back."""
        with self._lock:
            if call in self._calls:
                self._calls.remove(call)


class Ticket(Protocol):
    """What a loader is given with each transfer."""

    @property
    def canceled(self) -> bool:
        """Whether nobody waits for the transfer any more."""

    def check(self) -> None:
        """Return if the transfer is still wanted.

        Raises:
            CanceledError: if not. A loader lets it through, after freeing what it has.
        """

    def claim(self, size: int) -> None:
        """Say how many bytes the model will really take in its target, *before* taking them.

        A loader that knows calls it. When there is no room for more than was declared it raises; the loader frees what
        it has and lets the error through: it is called again when more was evicted.
        """


@dataclass(frozen=True, slots=True)
class Held:
    """A loaded model: what a lease hands out, and the bytes measured where it is."""

    value: Any
    size: int


class Loader(Protocol):
    """Moves one model. Called from one thread at a time, never under the manager's lock."""

    def load(self, place: Place, ticket: Ticket) -> Held:
        """Bring the model from disk. If it raises, nothing of it is left in ``place``."""

    def move(self, value: Any, source: Place, target: Place, ticket: Ticket) -> Held:
        """Bring a loaded model from one memory to another. If it raises, it can still be dropped from ``source``."""

    def drop(self, value: Any, place: Place) -> None:
        """Free the model in ``place``."""


class Device(Protocol):
    """A memory with a budget."""

    @property
    def place(self) -> Place:
        """Which one."""

    @property
    def budget(self) -> int:
        """Bytes that models may take there together."""

    def used(self) -> int | None:
        """Bytes measured to be in use there, by whomever; None if that cannot be told."""

    def synchronize(self) -> None:
        """Return when all work queued on the device is done."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A device of which only the budget is known."""

    place: Place
    budget: int

    def used(self) -> int | None:
        """None: not measured."""
        return None

    def synchronize(self) -> None:
        """Nothing is queued."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model declares before anything of it is loaded.

    Attributes:
        name: what it is asked for as.
        loader: what moves it.
        declared: bytes by place. Its first memory of GPU, HOST is where it runs. Bytes for HOST beside GPU allow it to
            be parked there.
        priority: above 0 stays longer than others, below 0 shorter.
        pinned: once loaded, never evicted.
        needs: models that must be resident whenever this one is.
        staged: loading from disk to the GPU passes through host memory and takes the declared bytes there meanwhile.
        load_deadline_s: seconds after which a transfer that has not come back is given up.
    """

    name: str
    loader: Loader
    declared: Mapping[Place, int]
    priority: int = 0
    pinned: bool = False
    needs: tuple[str, ...] = ()
    staged: bool = False
    load_deadline_s: float = 120.0
    home: Place = field(init=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a model's name is empty; give it one")
        for place, size in self.declared.items():
            if not isinstance(place, Place) or place is Place.DISK:
                raise ValueError(f"model {self.name!r} declares bytes in {place!r}; expected Place.GPU or Place.HOST")
            if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
                raise ValueError(
                    f"model {self.name!r} declares {size!r} bytes in {place.value}; expected an int above 0"
                )
        if not self.declared:
            raise ValueError(f"model {self.name!r} declares no bytes; say how many it takes in GPU or HOST")
        if not (math.isfinite(self.load_deadline_s) and self.load_deadline_s > 0.0):
            raise ValueError(f"model {self.name!r} has a load deadline of {self.load_deadline_s} s; expected above 0")
        if self.staged and set(self.declared) != {Place.GPU, Place.HOST}:
            raise ValueError(f"model {self.name!r} is staged; declare its bytes in both GPU and HOST")
        object.__setattr__(self, "home", Place.GPU if Place.GPU in self.declared else Place.HOST)


def dependency_order(names: tuple[str, ...], needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """All of ``names`` and what they need, each once, a model after what it needs.

    Raises:
        KeyError: with the name of a model that ``needs`` does not have.
        ValueError: with the circle, "a -> b -> a".
    """
    order: dict[str, None] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in path:
            raise ValueError(" -> ".join([*path[path.index(name) :], name]))
        path.append(name)
        for other in needs[name]:
            visit(other)
        path.pop()
        order[name] = None

    for name in names:
        visit(name)
    return tuple(order)
