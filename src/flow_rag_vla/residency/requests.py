# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Requests from their arrival to a lease, an error, or back into the queue; and what leases give back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.errors import LoadError, UnknownModelError
from flow_rag_vla.residency.lease import Lease, Note
from flow_rag_vla.residency.model import Place, State
from flow_rag_vla.residency.records import Entry, Request
from flow_rag_vla.residency.room import Room


class Requests:
    """Keeps claims and leases. Under the books' lock unless said otherwise."""

    def __init__(self, books: Books, room: Room) -> None:
        self._books = books
        self._room = room
        self._sequence = 0
        self._holders: dict[threading.Thread, int] = {}

    def make(
        self, names: tuple[str, ...], priority: int, now: float, deadline: float, *, keep: bool, nested: bool = False
    ) -> Request:
        """A request of the calling thread, not queued yet.

        Raises:
            UnknownModelError: for a name that is not registered, or none at all.
        """
        if not names:
            raise UnknownModelError("no model was named; name at least one")
        closure = self._books.models.closure(names)
        self._sequence += 1
        thread = threading.current_thread()
        nested = nested or self.holds(thread)
        return Request(self._sequence, names, closure, priority, now, deadline, thread, nested, keep)

    def holds(self, thread: threading.Thread) -> bool:
        """Whether a thread has a lease that is open."""
        return thread in self._holders

    def there(self, request: Request) -> bool:
        """Whether all its models are resident."""
        entries = self._books.models.entries
        # Asked of each that waits at each look: a loop, which is a third of the price of all() over a generator.
        for name in request.closure:  # noqa: SIM110
            if entries[name].state is not State.RESIDENT:
                return False
        return True

    def grant(self, request: Request, now: float) -> Lease:
        """A lease on models that are there."""
        books = self._books
        for name in request.closure:
            entry = books.models.entries[name]
            if not request.admitted:
                entry.claims += 1
            entry.leases += 1
            entry.used_at = now
        request.admitted = False
        self._holders[request.thread] = self._holders.get(request.thread, 0) + 1
        books.counts["leases"] += 1
        values = {name: books.models.entries[name].value for name in request.closure}
        return Lease(request.names, values, (request.closure, request.thread), self.release, books.orphans)

    def finish(self, request: Request, now: float) -> None:
        """End a request well."""
        if request.keep:
            request.result = self.grant(request, now)
        elif request.admitted:
            self._unclaim(request)
        request.done = True
        request.wake.set()

    def fail(self, request: Request, error: Exception) -> None:
        """End a request with an error of its own."""
        if request in self._books.queue:
            self._books.queue.remove(request)
        if request.admitted:
            self._unclaim(request)
            self.trim()
        request.error, request.done = error, True
        request.wake.set()

    def waiting_for(self, name: str) -> list[Request]:
        """The admitted requests that wait for a model."""
        return [one for one in self._books.queue if one.admitted and name in one.closure]

    def fail_all(self, name: str, error: Exception) -> None:
        """Fail the admitted requests that wait for a model."""
        for request in self.waiting_for(name):
            self.fail(request, another(error))

    def requeue(self, requests: Iterable[Request]) -> None:
        """Back to waiting, without a claim."""
        for request in list(requests):
            self._unclaim(request)
        self.trim()

    def replan(self) -> None:
        """When promised room was lost, take the promises back; their requests are planned anew."""
        books = self._books
        if any(self._room.available(place) < 0 for place in books.ledger.budgets):
            names = {name for plan in books.plans for name in plan.names}
            self.requeue(one for one in books.queue if one.admitted and not names.isdisjoint(one.closure))

    def trim(self) -> None:
        """Take back plans and loads that have not begun and that nobody claims any more; withdraw those that have."""
        books = self._books
        entries = books.models.entries
        for plan in tuple(books.plans):
            if not any(entries[name].claims for name in plan.names):
                books.plans.remove(plan)
                for name in plan.names:
                    self._to_rest(entries[name])
        planned = {name for plan in books.plans for name in plan.names}
        for name, entry in entries.items():
            if entry.state is State.LOADING and not entry.claims:
                if entry.transfer is not None:
                    entry.transfer.withdrawn.set()
                elif name not in planned:
                    self._to_rest(entry)

    def release(self, note: Note) -> None:
        """Take a lease back. Not under the lock."""
        books = self._books
        with books.lock:
            idle = self._give_back(note)
            # A model that others still hold makes no room for anybody.
            if books.orphans or (books.queue and idle):
                books.look()
            if books.gate or books.closed:
                books.idle.notify_all()

    def take_orphans(self) -> None:
        """Take back the leases that were forgotten."""
        books = self._books
        while books.orphans:
            note = books.orphans.popleft()
            books.counts["orphans"] += 1
            books.note("orphan", logging.WARNING, models=note[0], remedy="use leases in a with statement")
            self._give_back(note)

    def _unclaim(self, request: Request) -> None:
        request.admitted = False
        for name in request.closure:
            self._books.models.entries[name].claims -= 1

    def _give_back(self, note: Note) -> bool:
        """Whether one of its models is idle now."""
        closure, thread = note
        now, idle = self._books.clock(), False
        for name in closure:
            entry = self._books.models.entries[name]
            entry.claims -= 1
            entry.leases -= 1
            entry.used_at = now
            idle |= not entry.claims
        left = self._holders[thread] - 1
        if left:
            self._holders[thread] = left
        else:
            del self._holders[thread]
        return idle

    def _to_rest(self, entry: Entry) -> None:
        """Back from a load that did not begin."""
        name, ledger = entry.spec.name, self._books.ledger
        ledger.release(name, entry.spec.home)
        if entry.value is None:
            ledger.release(name, Place.HOST)
            entry.state = State.COLD
        else:
            entry.state = State.PARKED


def another(error: Exception) -> Exception:
    """An error of its own for each that waits: a raised one gets a trace."""
    if isinstance(error, LoadError):
        copy = LoadError(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error
