# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A memory that counts its bytes, and loaders that allocate in it: what a residency policy is tried out on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flow_rag_vla.residency.errors import DeviceMemoryError
from flow_rag_vla.residency.model import Held, Place, Ticket


class SimulatedDevice:
    """A memory of ``budget`` bytes that raises when more is taken. Safe between threads."""

    def __init__(self, place: Place, budget: int) -> None:
        self._place, self._budget = place, budget
        self._lock = threading.Lock()
        self._used = 0
        self._peak = 0
        self.synchronized = 0

    @property
    def place(self) -> Place:
        """Which one."""
        return self._place

    @property
    def budget(self) -> int:
        """Its size, bytes."""
        return self._budget

    @property
    def peak(self) -> int:
        """The most bytes that were ever taken at once."""
        return self._peak

    def used(self) -> int:
        """Bytes taken."""
        return self._used

    def synchronize(self) -> None:
        """Count that it was waited for."""
        self.synchronized += 1

    def take(self, size: int) -> None:
        """Allocate.

        Raises:
            DeviceMemoryError: when there is no room: the real device would be out of memory.
        """
        with self._lock:
            if self._used + size > self._budget:
                raise DeviceMemoryError(
                    f"{size} bytes beside {self._used} of {self._budget} in {self._place.value}: out of memory"
                )
            self._used += size
            self._peak = max(self._peak, self._used)

    def give(self, size: int) -> None:
        """Free."""
        with self._lock:
            if size > self._used:
                raise DeviceMemoryError(f"{size} bytes freed of {self._used} in {self._place.value}: freed twice")
            self._used -= size


@dataclass(slots=True)
class SimulatedLoader:
    """Allocates ``size`` bytes in simulated memories.

    Attributes:
        devices: by place.
        size: what the model really takes.
        staged: whether loading to the GPU passes through host memory.
        announces: whether it says its size before it allocates.
        work: called with the bytes of each transfer, for its cost.
        fail: called before each transfer with its target; what it raises is the loader's failure.
    """

    devices: Mapping[Place, SimulatedDevice]
    size: int
    staged: bool = False
    announces: bool = True
    work: Callable[[int], object] = lambda size: None
    fail: Callable[[Place], object] = lambda place: None
    loads: int = field(default=0, init=False)

    def load(self, place: Place, ticket: Ticket) -> Held:
        """See :class:`~flow_rag_vla.residency.model.Loader`."""
        self.fail(place)
        ticket.check()
        through = self.staged and place is Place.GPU
        if through:
            self.devices[Place.HOST].take(self.size)
        try:
            self._fill(place, ticket)
        finally:
            if through:
                self.devices[Place.HOST].give(self.size)
        self.loads += 1
        return Held(self, self.size)

    def move(self, value: object, source: Place, target: Place, ticket: Ticket) -> Held:
        """See :class:`~flow_rag_vla.residency.model.Loader`."""
        self.fail(target)
        self._fill(target, ticket)
        self.devices[source].give(self.size)
        return Held(value, self.size)

    def drop(self, value: object, place: Place) -> None:
        """See :class:`~flow_rag_vla.residency.model.Loader`."""
        self.fail(Place.DISK)
        self.devices[place].give(self.size)

    def _fill(self, place: Place, ticket: Ticket) -> None:
        if self.announces:
            ticket.claim(self.size)
        self.devices[place].take(self.size)
        try:
            self.work(self.size)
            ticket.check()
        except BaseException:
            self.devices[place].give(self.size)
            raise
