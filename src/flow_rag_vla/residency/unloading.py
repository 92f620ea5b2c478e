# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Transfers out: to host memory where a copy may wait there, else out of all memories."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.claims import Claims
from flow_rag_vla.residency.errors import LoadError
from flow_rag_vla.residency.model import Held, Place, State
from flow_rag_vla.residency.records import Entry, Transfer
from flow_rag_vla.residency.requests import Requests
from flow_rag_vla.residency.room import Room


class Unloading:
    """Starts evictions and writes down what became of them."""

    def __init__(self, books: Books, room: Room, requests: Requests, claims: Claims) -> None:
        self._books, self._room, self._requests, self._claims = books, room, requests, claims

    def start(self, entry: Entry, *, park: bool) -> None:
        """Let a model go that nobody claims, on a worker. Under the lock.

        Args:
            entry: resident or parked.
            park: whether a copy may stay in host memory; older copies make way for it.
        """
        now = self._books.clock()
        source = Place.HOST if entry.state is State.PARKED else entry.spec.home
        size = entry.declared.get(Place.HOST, 0)
        park = park and source is Place.GPU and bool(size) and Place.HOST in self._books.ledger.budgets
        makes_way: list[Entry] = []
        short = size - self._room.available(Place.HOST) if park else 0
        if short > 0:
            # Older parked copies go to disk first.
            candidates = [one for one in self._room.candidates(Place.HOST, now, priority=0, aged=True) if one.parked]
            names = self._room.choose(candidates, short)
            park = names is not None
            makes_way = [self._books.models.entries[name] for name in names or ()]
        transfer = self._leave(entry, Place.HOST if park else Place.DISK, now)
        for other in makes_way:
            self._leave(other, Place.DISK, now)
        self._books.workers.run(lambda: self._run(entry, transfer, source, makes_way))

    def drop(self, entry: Entry, held: Sequence[tuple[Any, Place]]) -> bool:
        """Free what a loader gave; False when it cannot. Not under the lock."""
        for value, place in held:
            try:
                entry.spec.loader.drop(value, place)
            except BaseException as error:
                told = f"{type(error).__name__}: {error}"
                self._books.note("drop_failed", logging.ERROR, model=entry.spec.name, error=told)
                return False
        return True

    def _leave(self, entry: Entry, target: Place, now: float) -> Transfer:
        entry.state = State.EVICTING
        deadline = now + entry.spec.load_deadline_s
        entry.transfer = Transfer(entry.spec.name, target, now, deadline, self._claims)
        return entry.transfer

    def _run(self, entry: Entry, transfer: Transfer, source: Place, makes_way: Sequence[Entry]) -> None:
        """On a worker, not under the lock."""
        books = self._books
        for other in makes_way:
            freed = self.drop(other, [(other.value, Place.HOST)])
            with books.lock:
                self._gone(other, freed=freed)
        copy = self._park(entry, transfer, source)
        if copy is not None:
            with books.lock:
                if self._settle(entry, transfer, source, copy):
                    books.look()
                    books.idle.notify_all()
                    return
            freed = self.drop(entry, [(copy.value, Place.HOST)])
        else:
            freed = self.drop(entry, [(entry.value, source)])
        with books.lock:
            self._gone(entry, freed=freed)
            books.look()
            books.idle.notify_all()

    def _park(self, entry: Entry, transfer: Transfer, source: Place) -> Held | None:
        """The copy in host memory; None when there is no room or the move fails: then it can still be dropped."""
        if transfer.target is not Place.HOST:
            return None
        with self._books.lock:
            size = entry.declared[Place.HOST]
            if transfer.abandoned or not self._room.fits(Place.HOST, size):
                return None
            self._books.ledger.charge(entry.spec.name, Place.HOST, size)
        try:
            return entry.spec.loader.move(entry.value, source, Place.HOST, transfer)
        except BaseException as error:
            self._books.note("park_failed", logging.WARNING, model=entry.spec.name, error=type(error).__name__)
            return None

    def _settle(self, entry: Entry, transfer: Transfer, source: Place, copy: Held) -> bool:
        """Keep the copy; False when it turned out too large or the move was given up."""
        name, ledger = entry.spec.name, self._books.ledger
        extra = copy.size - ledger.of(name, Place.HOST)
        if extra > 0:
            entry.declared[Place.HOST] = copy.size
        if transfer.abandoned or not self._room.fits(Place.HOST, extra):
            return False
        ledger.charge(name, Place.HOST, max(copy.size, 1))
        ledger.release(name, source)
        entry.value, entry.state, entry.transfer = copy.value, State.PARKED, None
        self._books.counts["parks"] += 1
        self._books.note("parked", model=name, size=copy.size)
        return True

    def _gone(self, entry: Entry, *, freed: bool) -> None:
        name = entry.spec.name
        entry.transfer = None
        if not freed:
            entry.state = State.LOST
            entry.error = LoadError(f"model {name!r} could not be freed; its bytes stay charged; restart the process")
            self._requests.replan()
            return
        for place in self._books.ledger.budgets:
            self._books.ledger.release(name, place)
        entry.state, entry.value, entry.error = State.COLD, None, None
        self._books.counts["evictions"] += 1
        self._books.note("evicted", model=name)
