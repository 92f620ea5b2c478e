# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Admission: who of those that wait gets room now. Looked at under the lock whenever anything changed."""

from __future__ import annotations

import logging

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.errors import DeadlineError, LoadError
from flow_rag_vla.residency.loading import Loading
from flow_rag_vla.residency.model import Place, State
from flow_rag_vla.residency.records import Entry, Plan, Request
from flow_rag_vla.residency.requests import Requests, another
from flow_rag_vla.residency.room import Room
from flow_rag_vla.residency.scheduling import Scheduler
from flow_rag_vla.residency.unloading import Unloading


class Admission:
    """Admits requests, charges what has room, starts what can start, grants what is there, ends what is overdue."""

    def __init__(
        self,
        books: Books,
        scheduler: Scheduler,
        room: Room,
        requests: Requests,
        loading: Loading,
        unloading: Unloading,
    ) -> None:
        self._books, self._scheduler, self._room, self._requests = books, scheduler, room, requests
        self._loading, self._unloading = loading, unloading
        books.look = self.look

    def look(self) -> None:
        """Look at everything that waits."""
        books = self._books
        now = books.clock()
        self._requests.take_orphans()
        self.expire(now)
        blocked = False
        refused: set[tuple[tuple[str, ...], int, bool]] = set()
        self._room.forget()
        for request in self._scheduler.order([one for one in books.queue if not one.admitted], now):
            if (blocked or books.gate) and not request.nested:
                continue
            aged = self._scheduler.aged(request, now)
            # Until somebody is admitted, who asks for the same gets the same answer.
            same = request.closure, request.priority, aged
            if same not in refused:
                if self._admit(request, now, aged=aged):
                    refused.clear()
                    continue
                refused.add(same)
            blocked = blocked or aged
        self._advance(now)

    def arrive(self, request: Request) -> None:
        """Look at one that has just come.

        Its coming changes nothing for those whom the last look left waiting: a look at each of them for each that comes
        would be most of what the manager does.
        """
        books = self._books
        if books.orphans:
            self.look()
            return
        now = books.clock()
        if not request.nested and (books.gate or self.overtakes(request, now)):
            return
        self._room.forget()
        # One whose model is there has its lease now; for others room is to be made.
        if self._admit(request, now, aged=self._scheduler.aged(request, now)) and not request.done:
            self.look()

    def overtakes(self, request: Request, now: float) -> bool:
        """Whether a request that came this moment would pass one that nothing may pass any more."""
        return not request.nested and any(
            one is not request and self._scheduler.aged(one, now) for one in self._books.queue
        )

    def expire(self, now: float) -> None:
        """Give up transfers and requests whose deadline passed."""
        books = self._books
        for entry in books.models.entries.values():
            transfer = entry.transfer
            if transfer is not None and not transfer.abandoned and now >= transfer.deadline:
                self._give_up(entry)
        for request in [one for one in books.queue if now >= one.deadline]:
            books.counts["timeouts"] += 1
            self._requests.fail(request, self._overdue(request, now))

    def next_event(self, request: Request) -> float:
        """When time alone may change something for a request."""
        now = self._books.clock()
        times = [request.deadline, request.since + self._scheduler.max_wait_s]
        for entry in self._books.models.entries.values():
            if entry.transfer is not None:
                times.append(entry.transfer.deadline)
            if entry.state is State.RESIDENT and self._room.min_resident_s > 0.0:
                times.append(entry.loaded_at + self._room.min_resident_s)
        return min([moment for moment in times if moment > now], default=now)

    def _give_up(self, entry: Entry) -> None:
        books, name = self._books, entry.spec.name
        assert entry.transfer is not None
        entry.transfer.abandoned = True
        entry.transfer.withdrawn.set()
        doing = entry.state.value
        entry.state = State.LOST
        entry.error = LoadError(
            f"{doing} model {name!r} is not done after {entry.spec.load_deadline_s} s; its bytes stay charged "
            "until its loader comes back; end what it waits for, or restart the process"
        )
        books.counts["failures"] += 1
        books.note("lost", logging.ERROR, model=name, while_=doing)
        self._requests.fail_all(name, entry.error)
        self._requests.replan()
        books.idle.notify_all()

    def _overdue(self, request: Request, now: float) -> DeadlineError:
        entries = self._books.models.entries
        held = sorted(
            name for name, entry in entries.items() if entry.leases or entry.pinned or entry.state is State.LOST
        )
        states = ", ".join(f"{name} {entries[name].state.value}" for name in request.closure)
        return DeadlineError(
            f"no lease on {', '.join(request.names)} after {now - request.since:.3g} s ({states}); leased, pinned or "
            f"lost: {', '.join(held) or 'none'}; release sooner, ask for models together, or allow more time"
        )

    def _admit(self, request: Request, now: float, *, aged: bool) -> bool:
        """Claim a request's models and make room for them; False when that is not possible now."""
        books = self._books
        entries = [books.models.entries[name] for name in request.closure]
        for entry in entries:
            if entry.state is State.LOST or (entry.state is State.FAILED and now < entry.retry_at):
                assert entry.error is not None
                self._requests.fail(request, another(entry.error))
                return True
            if entry.state is State.EVICTING:
                return False
        missing = [entry for entry in entries if entry.state in (State.COLD, State.PARKED, State.FAILED)]
        need = _need(missing)
        victims = self._room.victims(need, request, now, aged=aged)
        if victims is None:
            return False
        # Claimed before anything leaves: parking a victim must not push out a parked model that is wanted here.
        for entry in entries:
            entry.claims += 1
        request.admitted = True
        self._room.forget()
        if missing:
            for entry in missing:
                entry.state, entry.error = State.LOADING, None
            books.plans.append(Plan(tuple(entry.spec.name for entry in missing), need))
        for name in victims:
            self._unloading.start(books.models.entries[name], park=True)
        if not missing and self._requests.there(request):
            books.queue.remove(request)
            books.counts["hits"] += 1
            self._requests.finish(request, now)
        return True

    def _advance(self, now: float) -> None:
        books, ledger = self._books, self._books.ledger
        entries = books.models.entries
        for plan in tuple(books.plans):
            if all(ledger.free(place) >= size for place, size in plan.need.items()):
                books.plans.remove(plan)
                for name in plan.names:
                    self._charge(entries[name])
        for entry in entries.values():
            if (
                entry.state is State.LOADING
                and entry.transfer is None
                and ledger.of(entry.spec.name, entry.spec.home)
                and all(entries[one].state is State.RESIDENT for one in entry.spec.needs)
            ):
                self._loading.start(entry)
        for request in [one for one in books.queue if one.admitted]:
            if self._requests.there(request):
                books.queue.remove(request)
                self._requests.finish(request, now)
        if books.gate or books.closed:
            books.idle.notify_all()

    def _charge(self, entry: Entry) -> None:
        name, ledger = entry.spec.name, self._books.ledger
        ledger.charge(name, entry.spec.home, entry.declared[entry.spec.home])
        if entry.spec.staged and not ledger.of(name, Place.HOST):
            ledger.charge(name, Place.HOST, entry.declared[Place.HOST])


def _need(missing: list[Entry]) -> dict[Place, int]:
    """Bytes by place that bringing models in takes."""
    need: dict[Place, int] = {}
    for entry in missing:
        home = entry.spec.home
        need[home] = need.get(home, 0) + entry.declared[home]
        if entry.spec.staged and entry.state is not State.PARKED:
            need[Place.HOST] = need.get(Place.HOST, 0) + entry.declared[Place.HOST]
    return need
