# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whom: which idle models leave to make room. When is :mod:`~flow_rag_vla.residency.scheduling`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Candidate:
    """Models that can leave together: one, and those resident that need it.

    Attributes:
        sizes: their names, dependents first, and the bytes that the leaving of each frees in the place asked about.
        priority: the highest of them.
        idle_s: seconds since the last of them was used.
        reload_s: seconds that their last loading took together.
        parked: whether it only waits in host memory to be brought back.
    """

    sizes: Mapping[str, int]
    priority: int
    idle_s: float
    reload_s: float
    parked: bool


class EvictionPolicy(Protocol):
    """Chooses victims."""

    def choose(self, candidates: Sequence[Candidate], need: int) -> tuple[Candidate, ...] | None:
        """Victims that together free at least ``need`` bytes, or None when no choice does; then nothing is evicted."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Takes candidates by rank until there is room, then spares every one that turns out not to be needed.

    ``rank`` gives a sort key; the lowest leaves first.
    """

    rank: Callable[[Candidate], tuple[float, ...]]

    def choose(self, candidates: Sequence[Candidate], need: int) -> tuple[Candidate, ...] | None:
        """See :class:`EvictionPolicy`."""
        chosen: list[Candidate] = []
        for candidate in sorted(candidates, key=self.rank):
            if _freed(chosen) >= need:
                break
            chosen.append(candidate)
        if _freed(chosen) < need:
            return None
        for spared in reversed(tuple(chosen)):
            rest = [one for one in chosen if one is not spared]
            if _freed(rest) >= need:
                chosen = rest
        return tuple(chosen)


def _freed(chosen: Sequence[Candidate]) -> int:
    # Groups can overlap: two models that are needed by a third. No byte may be counted twice.
    return sum({name: size for one in chosen for name, size in one.sizes.items()}.values())


def cost_aware() -> Ranked:
    """Parked copies first, then low priority, then long idle for what it costs to load again. The default."""
    return Ranked(lambda one: (not one.parked, one.priority, -one.idle_s / max(one.reload_s, 1e-3)))


def least_recently_used() -> Ranked:
    """The longest idle first, whatever its priority and cost."""
    return Ranked(lambda one: (-one.idle_s,))
