# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Transfers in: from disk, or from host memory where a copy waits."""

from __future__ import annotations

import logging
from typing import Any

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.claims import Claims, OutgrownError
from flow_rag_vla.residency.errors import CanceledError, LoadError, ModelTooLargeError
from flow_rag_vla.residency.model import Held, Place, State
from flow_rag_vla.residency.pressure import Pressure
from flow_rag_vla.residency.records import Entry, Transfer
from flow_rag_vla.residency.requests import Requests
from flow_rag_vla.residency.room import Room
from flow_rag_vla.residency.unloading import Unloading


class Loading:
    """Runs loaders and writes down what became of them.

    Args:
        failure_pause_s: seconds after a loader failed in which the model is refused at once.
    """

    def __init__(
        self,
        books: Books,
        room: Room,
        requests: Requests,
        claims: Claims,
        unloading: Unloading,
        pressure: Pressure,
        failure_pause_s: float,
    ) -> None:
        self._books, self._room, self._requests, self._claims = books, room, requests, claims
        self._unloading, self._pressure = unloading, pressure
        self._failure_pause_s = failure_pause_s

    def start(self, entry: Entry) -> None:
        """Bring a model in whose bytes are charged, on a worker. Under the lock."""
        now = self._books.clock()
        spec = entry.spec
        transfer = Transfer(spec.name, spec.home, now, now + spec.load_deadline_s, self._claims)
        entry.transfer = transfer
        self._books.workers.run(lambda: self._run(entry, transfer))

    def _run(self, entry: Entry, transfer: Transfer) -> None:
        """On a worker, not under the lock."""
        books, home = self._books, entry.spec.home
        copy = entry.value
        held, error = _called(entry, transfer)
        drop: list[tuple[Any, Place]] = []
        with books.lock:
            entry.load_s = books.clock() - transfer.started
            if held is not None and error is None and not transfer.abandoned and self._settle(entry, held):
                entry.transfer = None
                if not books.plans:
                    self._pressure.measure(home)
                books.look()
                books.idle.notify_all()
                return
            if held is not None:
                drop.append((held.value, home))
            elif copy is not None:
                drop.append((copy, Place.HOST))
        freed = self._unloading.drop(entry, drop)
        with books.lock:
            entry.transfer = entry.value = None
            if freed:
                for place in books.ledger.budgets:
                    books.ledger.release(entry.spec.name, place)
            self._not_there(entry, transfer, error, freed=freed)
            books.look()
            books.idle.notify_all()

    def _settle(self, entry: Entry, held: Held) -> bool:
        """Make a loaded model resident; False when it turned out larger than there is room for."""
        books, name, home = self._books, entry.spec.name, entry.spec.home
        extra = held.size - books.ledger.of(name, home)
        if extra > 0:
            entry.declared[home] = held.size
            if not self._room.fits(home, extra):
                return False
        books.ledger.charge(name, home, max(held.size, 1))
        if home is not Place.HOST:
            books.ledger.release(name, Place.HOST)
        entry.value, entry.state, entry.loaded_at = held.value, State.RESIDENT, books.clock()
        entry.used_at = entry.loaded_at
        books.counts["loads"] += 1
        books.note(
            "loaded", model=name, place=home.value, size=held.size, seconds=round(entry.load_s, 6),
            charged=books.ledger.charged(home),
        )  # fmt: skip
        return True

    def _not_there(self, entry: Entry, transfer: Transfer, error: BaseException | None, *, freed: bool) -> None:
        """Write down why a model is not resident, and answer who waited for it."""
        books, name = self._books, entry.spec.name
        if not freed:
            entry.state = State.LOST
            entry.error = LoadError(f"model {name!r} could not be freed after its load failed; restart the process")
            self._requests.fail_all(name, entry.error)
            self._requests.replan()
            return
        entry.state = State.COLD
        if transfer.abandoned:
            entry.error = None
            books.note("returned", logging.WARNING, model=name, after_s=round(entry.load_s, 3))
            return
        waiting = self._requests.waiting_for(name)
        if error is None or isinstance(error, OutgrownError):
            books.counts["outgrown"] += 1
            books.note(
                "outgrown", logging.WARNING, model=name, declared={k.value: v for k, v in entry.declared.items()}
            )
            self._requests.requeue(waiting)
            for request in waiting:
                try:
                    books.models.check_fits(request.closure)
                except ModelTooLargeError as large:
                    self._requests.fail(request, large)
            return
        if isinstance(error, CanceledError) and transfer.canceled:
            self._requests.requeue(waiting)
            return
        books.counts["failures"] += 1
        entry.state = State.FAILED
        entry.retry_at = books.clock() + self._failure_pause_s
        entry.error = LoadError(
            f"loading model {name!r} to {transfer.target.value} failed: {type(error).__name__}: {error}; "
            "mend the cause and ask again"
        )
        entry.error.__cause__ = error
        books.note("failed", logging.ERROR, model=name, error=type(error).__name__)
        self._requests.fail_all(name, entry.error)


def _called(entry: Entry, transfer: Transfer) -> tuple[Held | None, BaseException | None]:
    """What the loader gave, or raised. Not under the lock."""
    loader, home = entry.spec.loader, entry.spec.home
    try:
        if entry.value is None:
            held = loader.load(home, transfer)
        else:
            held = loader.move(entry.value, Place.HOST, home, transfer)
    except BaseException as error:
        return None, error
    if held.size < 0:
        name = entry.spec.name
        return held, ValueError(f"loader of {name!r} measured {held.size} bytes; expected from 0")
    return held, None
