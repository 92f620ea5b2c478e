# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Barriers between phases: leases drain, devices finish, what is not needed leaves, what is needed comes in."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flow_rag_vla.residency.admission import Admission
from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.errors import DeadlineError, InUseError, ResidencyError
from flow_rag_vla.residency.model import Device, Place, State
from flow_rag_vla.residency.records import PhaseReport, Request
from flow_rag_vla.residency.requests import Requests
from flow_rag_vla.residency.unloading import Unloading


class Phases:
    """One barrier at a time."""

    def __init__(self, books: Books, requests: Requests, admission: Admission, unloading: Unloading) -> None:
        self.turn = threading.Lock()
        self._books, self._requests, self._admission, self._unloading = books, requests, admission, unloading

    def enter(
        self, name: str, models: tuple[str, ...], timeout_s: float, wait: Callable[[Request], object]
    ) -> PhaseReport:
        """See :meth:`~flow_rag_vla.residency.manager.ResidencyManager.enter_phase`. ``wait`` waits for a request."""
        books = self._books
        started = books.clock()
        deadline = started + timeout_s
        if not self.turn.acquire(timeout=max(0.0, timeout_s)):
            raise DeadlineError(f"phase {name!r}: another barrier is not through after {timeout_s} s")
        try:
            with books.lock:
                books.check_open()
                closure = books.models.closure(models) if models else ()
                books.models.check_fits(closure)
                if self._requests.holds(threading.current_thread()):
                    raise InUseError(f"phase {name!r}: this thread holds a lease; release it before the barrier")
                books.gate = name or "phase"
                self.drain(name, deadline, timeout_s)
            drained = books.clock()
            self._synchronize(name, deadline, timeout_s)
            with books.lock:
                leaving = self._leave(closure)
                self.wait_out(leaving, deadline, f"phase {name!r}: models are not out of memory after {timeout_s} s")
                loaded = tuple(one for one in closure if books.models.entries[one].state is not State.RESIDENT)
                request = None
                if models:
                    request = self._requests.make(models, 0, books.clock(), deadline, keep=False, nested=True)
                    books.queue.append(request)
                    books.look()
            if request is not None:
                wait(request)
        finally:
            with books.lock:
                books.gate = ""
                books.look()
            self.turn.release()
        report = PhaseReport(name, drained - started, tuple(sorted(leaving)), loaded)
        books.note("phase", phase=name, drained_s=round(report.drained_s, 6), evicted=report.evicted, loaded=loaded)
        return report

    def drain(self, name: str, deadline: float, timeout_s: float) -> None:
        """Wait until nothing is leased or on its way for an admitted request. Under the lock.

        Raises:
            DeadlineError: naming what is not back.
        """
        books = self._books
        while True:
            self._admission.expire(books.clock())
            self._requests.take_orphans()
            entries = books.models.entries
            held = sorted(one for one, entry in entries.items() if entry.claims)
            if not held and not any(entry.moving for entry in entries.values()):
                return
            if books.clock() >= deadline:
                held = held or ["transfers"]
                raise DeadlineError(f"{name}: {', '.join(held)} not back after {timeout_s} s; release the leases")
            soonest = min([entry.transfer.deadline for entry in entries.values() if entry.transfer], default=deadline)
            books.sleep(min(deadline, soonest))

    def wait_out(self, names: set[str], deadline: float, late: str) -> None:
        """Wait until models have left. Under the lock.

        Raises:
            DeadlineError: with the text ``late``.
        """
        books = self._books
        while any(books.models.entries[one].state is State.EVICTING for one in names):
            if books.clock() >= deadline:
                raise DeadlineError(f"{late}; a loader may hang")
            books.sleep(deadline)
            self._admission.expire(books.clock())

    def _leave(self, closure: tuple[str, ...]) -> set[str]:
        """Start the leaving of everything in the scarce memory that the phase does not need."""
        books = self._books
        scarce = Place.GPU if Place.GPU in books.devices else Place.HOST
        groups = [
            books.models.group(one)
            for one, entry in books.models.entries.items()
            if one not in closure and entry.spec.home is scarce and entry.state is State.RESIDENT
        ]
        # A model goes with those that need it; what the phase needs is in its closure with all that needs.
        leaving = {one for group in groups for one in group or ()} - set(closure)
        for one in leaving:
            self._unloading.start(books.models.entries[one], park=True)
        return leaving

    def _synchronize(self, name: str, deadline: float, timeout_s: float) -> None:
        """Wait for all devices, on workers: one that does not answer must not hold the barrier. Not under the lock."""
        waits = [_Synchronizing(device) for device in self._books.devices.values()]
        for one in waits:
            self._books.workers.run(one.run)
        for one in waits:
            if not one.done.wait(max(0.0, deadline - self._books.clock())):
                raise DeadlineError(
                    f"phase {name!r}: {one.device.place.value} has not finished its work after {timeout_s} s; see "
                    "what runs there"
                )
            if one.error is not None:
                raise ResidencyError(
                    f"phase {name!r}: synchronizing {one.device.place.value} failed: {one.error}"
                ) from one.error


class _Synchronizing:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.done = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.device.synchronize()
        except BaseException as error:
            self.error = error
        self.done.set()
