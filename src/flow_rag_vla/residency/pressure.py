# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pressure: bytes that others use in a place, measured beside what is charged there."""

from __future__ import annotations

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.model import Place, State
from flow_rag_vla.residency.requests import Requests
from flow_rag_vla.residency.room import Room
from flow_rag_vla.residency.unloading import Unloading

FOREIGN_STEP = 1.0 / 64.0
"""Share of a budget by which measured use must change before the limit follows: noise must not evict models."""


class Pressure:
    """Lowers a place's limit by what others use, and makes idle models leave that no longer fit."""

    def __init__(self, books: Books, room: Room, requests: Requests, unloading: Unloading) -> None:
        self._books, self._room, self._requests, self._unloading = books, room, requests, unloading

    def measure(self, place: Place) -> None:
        """Look at a place. While transfers are on their way nothing is told from the figure. Under the lock."""
        books = self._books
        used = books.devices[place].used()
        if used is None or any(entry.transfer is not None for entry in books.models.entries.values()):
            return
        foreign = max(0, used - books.ledger.charged(place))
        if abs(foreign - books.ledger.foreign[place]) < FOREIGN_STEP * books.ledger.budgets[place]:
            return
        books.ledger.foreign[place] = foreign
        books.note("pressure", place=place.value, foreign=foreign, charged=books.ledger.charged(place))
        self._requests.replan()
        over = -self._room.available(place)
        if over > 0:
            self._evict(place, over)

    def _evict(self, place: Place, over: int) -> None:
        entries = self._books.models.entries
        candidates = self._room.candidates(place, self._books.clock(), priority=0, aged=True)
        victims = self._room.choose(candidates, over)
        if victims is None:  # not enough, and yet the nearest to it
            victims = list(dict.fromkeys(name for one in candidates for name in one.sizes))
        for name in victims:
            if entries[name].state in (State.RESIDENT, State.PARKED):
                self._unloading.start(entries[name], park=True)
