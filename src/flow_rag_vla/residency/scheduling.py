# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When: the order in which waiting requests are looked at. Whom to evict is :mod:`~flow_rag_vla.residency.eviction`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """What a scheduler sees of a request: times in seconds of the manager's clock."""

    @property
    def sequence(self) -> int:
        """Order of arrival."""

    @property
    def priority(self) -> int:
        """Higher first."""

    @property
    def since(self) -> float:
        """When it came."""

    @property
    def deadline(self) -> float:
        """When it is given up."""


W = TypeVar("W", bound=Waiting)


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Priority, then the nearest deadline, then arrival; waiting raises the priority.

    Attributes:
        ageing_s: seconds of waiting that are worth one level of priority.
        max_wait_s: after so long nothing overtakes a request any more, neither one that needs less room nor one whose
            model happens to be there.
    """

    ageing_s: float = 2.0
    max_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.ageing_s <= 0.0 or self.max_wait_s < 0.0:
            raise ValueError(f"ageing {self.ageing_s} s, longest wait {self.max_wait_s} s: expected above 0, from 0")

    def order(self, requests: Iterable[W], now: float) -> list[W]:
        """The requests, the one to serve first in front."""
        return sorted(requests, key=lambda one: (-self.level(one, now), one.deadline, one.sequence))

    def level(self, request: Waiting, now: float) -> int:
        """Its priority with what waiting added. An aged request is above any priority."""
        waited = now - request.since
        raised = request.priority + int(max(0.0, waited) / self.ageing_s)
        return raised + (1 << 32) if waited >= self.max_wait_s else raised

    def aged(self, request: Waiting, now: float) -> bool:
        """Whether nothing may overtake it."""
        return now - request.since >= self.max_wait_s
