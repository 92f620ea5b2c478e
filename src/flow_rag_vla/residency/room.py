# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether there is room for a request, and which idle models would make it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.eviction import Candidate, EvictionPolicy
from flow_rag_vla.residency.model import Place, State
from flow_rag_vla.residency.records import Request


class Room:
    """Counts bytes that are free, leaving, and promised. Under the books' lock."""

    def __init__(self, books: Books, policy: EvictionPolicy, min_resident_s: float) -> None:
        self.min_resident_s = min_resident_s
        self._books = books
        self._policy = policy
        self._listed: dict[tuple[Place, int, bool], tuple[list[Candidate], int]] = {}
        self._counted: dict[Place, int] = {}

    def forget(self) -> None:
        """Count bytes and list idle models anew: some were claimed, given back, or time has passed."""
        self._listed.clear()
        self._counted.clear()

    def available(self, place: Place) -> int:
        """Bytes that nobody was promised, counting what is leaving. Below 0 when promised room was lost."""
        ledger = self._books.ledger
        leaving = sum(
            ledger.of(name, place)
            for name, entry in self._books.models.entries.items()
            # What is being parked leaves the GPU and arrives in host memory.
            if entry.state is State.EVICTING and entry.transfer is not None and entry.transfer.target is not place
        )
        promised = sum(plan.need.get(place, 0) for plan in self._books.plans)
        return ledger.free(place) + leaving - promised

    def fits(self, place: Place, size: int) -> bool:
        """Whether so many bytes more can be charged this moment and are promised to nobody."""
        return size <= 0 or min(self.available(place), self._books.ledger.free(place)) >= size

    def victims(self, need: Mapping[Place, int], request: Request, now: float, *, aged: bool) -> list[str] | None:
        """Idle models whose leaving makes room for ``need``; empty when there is room; None when nothing makes it."""
        chosen: dict[str, None] = {}
        for place, size in need.items():
            # With a full memory all that waits finds the same room and the same idle models: counted once a look.
            if place not in self._counted:
                self._counted[place] = self.available(place)
            short = size - self._counted[place] - sum(self._books.ledger.of(name, place) for name in chosen)
            if short <= 0:
                continue
            key = place, request.priority, aged
            listed = self._listed.get(key)
            if listed is None:
                found = self.candidates(place, now, priority=request.priority, aged=aged)
                # Groups can overlap: no byte counts twice.
                most = sum({name: size for one in found for name, size in one.sizes.items()}.values())
                listed = self._listed[key] = found, most
            idle, most = listed
            if most < short:
                return None
            out = chosen.keys() | set(request.closure)
            victims = self.choose([one for one in idle if out.isdisjoint(one.sizes)], short)
            if victims is None:
                return None
            chosen.update(dict.fromkeys(victims))
        return list(chosen)

    def choose(self, candidates: Sequence[Candidate], need: int) -> list[str] | None:
        """The policy's victims by name; None when there are none, or when they would not make the room."""
        try:
            victims = self._policy.choose(candidates, need)
        except Exception as error:
            # Raised into whoever happened to look, it would end that one instead.
            self._books.note("policy_failed", logging.ERROR, error=f"{type(error).__name__}: {error}")
            return None
        if victims is None:
            return None
        freed = {name: size for victim in victims for name, size in victim.sizes.items()}
        # A policy that miscounts must not lead to an eviction that makes no room.
        return list(freed) if sum(freed.values()) >= need else None

    def candidates(self, place: Place, now: float, *, priority: int, aged: bool) -> list[Candidate]:
        """What may leave a place for a request: min-resident time holds against all but aged and more urgent ones."""
        books, found = self._books, []
        for name, entry in books.models.entries.items():
            if entry.state not in (State.RESIDENT, State.PARKED) or not books.ledger.of(name, place):
                continue
            group = books.models.group(name)
            if group is None:
                continue
            members = [books.models.entries[one] for one in group]
            if not aged and any(
                one.state is State.RESIDENT
                and now < one.loaded_at + self.min_resident_s
                and one.spec.priority >= priority
                for one in members
            ):
                continue
            found.append(
                Candidate(
                    {one: books.ledger.of(one, place) for one in group},
                    max(one.spec.priority for one in members),
                    min(now - one.used_at for one in members),
                    sum(one.load_s for one in members),
                    entry.state is State.PARKED,
                )
            )
        return found
