# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the manager remembers: models, requests and transfers while they live, and the reports it gives of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flow_rag_vla.residency.errors import CanceledError
from flow_rag_vla.residency.model import ModelSpec, Place, State

if TYPE_CHECKING:
    from flow_rag_vla.residency.lease import Lease


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model: bytes are those charged by place, ``declared`` with what was corrected."""

    name: str
    state: State
    leases: int
    pins: int
    charged: Mapping[Place, int]
    declared: Mapping[Place, int]
    error: str


@dataclass(frozen=True, slots=True)
class PlaceStatus:
    """One memory, in bytes. ``foreign`` was measured beside what is charged."""

    budget: int
    charged: int
    peak: int
    foreign: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manager at one moment. Counts are since it was made."""

    models: Mapping[str, ModelStatus]
    places: Mapping[Place, PlaceStatus]
    waiting: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What a barrier did: seconds waited for leases, models evicted, models brought in."""

    name: str
    drained_s: float
    evicted: tuple[str, ...]
    loaded: tuple[str, ...]


class Transfer:
    """One move of a model, given to its loader as :class:`~flow_rag_vla.residency.model.Ticket`.

    Attributes:
        target: where it goes; disk: out of all memories.
        started: seconds of the manager's clock.
        deadline: when it is given up.
        withdrawn: nobody waits for it any more.
        abandoned: it was given up; what it still brings is dropped.
    """

    def __init__(
        self, name: str, target: Place, started: float, deadline: float, claim: Callable[[Transfer, int], None]
    ) -> None:
        self.name, self.target, self.started, self.deadline = name, target, started, deadline
        self.withdrawn = threading.Event()
        self.abandoned = False
        self._claim = claim

    @property
    def canceled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.withdrawn.is_set()

    def check(self) -> None:
        """Return if it is still wanted; see :class:`~flow_rag_vla.residency.model.Ticket`."""
        if self.canceled:
            raise CanceledError(f"nobody waits for {self.name!r} any more; ask for it again if it is wanted")

    def claim(self, size: int) -> None:
        """Say the bytes before taking them; see :class:`~flow_rag_vla.residency.model.Ticket`."""
        self._claim(self, size)


@dataclass(slots=True)
class Entry:
    """A registered model.

    Attributes:
        declared: bytes by place, corrected by what its loader found.
        value: what the loader gave; None when it is in no memory.
        claims: leases, and requests that are admitted and not granted.
        retry_at: before that it is refused after a failure.
        transfer: on its way, if it is.
    """

    spec: ModelSpec
    declared: dict[Place, int]
    state: State = State.COLD
    value: Any = None
    claims: int = 0
    leases: int = 0
    pins: int = 0
    loaded_at: float = 0.0
    used_at: float = 0.0
    load_s: float = 0.0
    retry_at: float = 0.0
    error: Exception | None = None
    transfer: Transfer | None = None

    @property
    def pinned(self) -> bool:
        """Whether it stays."""
        return self.pins > 0 or self.spec.pinned

    @property
    def moving(self) -> bool:
        """Whether it is on its way and not given up."""
        return self.state in (State.LOADING, State.EVICTING)


@dataclass(slots=True, eq=False)
class Request:
    """Somebody who waits: see :class:`~flow_rag_vla.residency.scheduling.Waiting`.

    Attributes:
        closure: the models named and all that they need.
        nested: of a thread that holds a lease: a barrier must not keep it.
        keep: whether it ends in a lease.
        admitted: whether its models are claimed.
        wake: set whenever the thread that waits should look again.
    """

    sequence: int
    names: tuple[str, ...]
    closure: tuple[str, ...]
    priority: int
    since: float
    deadline: float
    thread: threading.Thread
    nested: bool
    keep: bool
    admitted: bool = False
    result: Lease | None = None
    error: Exception | None = None
    done: bool = False
    wake: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class Plan:
    """Models that one admission brings in, and the bytes promised to it until they are charged."""

    names: tuple[str, ...]
    need: dict[Place, int]
