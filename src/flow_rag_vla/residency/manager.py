# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The manager: leases on models, loaded once, evicted only when that makes room.

How a request goes. It names models; what they need is added. As soon as every one of them is there, or there is room
for those that are not beside what idle models can give up, it is *admitted*: its models are claimed, so that nothing
evicts them, and victims leave. Room that they give up is promised to it and to nobody else. When the room is there the
bytes are charged, and only then a loader runs. An admitted request waits for transfers only, never for another lease;
one that is not admitted holds nothing. So requests cannot lock each other up, except a thread that asks for a model
while it holds another: ask for both at once, or the deadline ends it.

No thread of its own decides anything: whoever asks, releases or finishes a transfer looks at the queue under one lock.
Loaders run on threads of their own, without it. The order of locks is in :mod:`~flow_rag_vla.residency.books`.

The parts: ``requests`` (from arrival to lease), ``admission`` (who gets room now), ``room`` (is there any, who makes
it), ``loading`` and ``unloading`` (transfers), ``pressure`` (what others use), ``phases`` (barriers), ``waiting`` (how
a thread waits). When is decided in ``scheduling``, whom in ``eviction``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flow_rag_vla.residency.admission import Admission
from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.claims import Claims
from flow_rag_vla.residency.errors import ClosedError, DeadlineError, InUseError
from flow_rag_vla.residency.eviction import EvictionPolicy, cost_aware
from flow_rag_vla.residency.lease import Lease
from flow_rag_vla.residency.loading import Loading
from flow_rag_vla.residency.model import Cancel, Device, ModelSpec, Place, State
from flow_rag_vla.residency.phases import Phases
from flow_rag_vla.residency.pressure import Pressure
from flow_rag_vla.residency.records import ModelStatus, PhaseReport, PlaceStatus, Request, Snapshot
from flow_rag_vla.residency.requests import Requests
from flow_rag_vla.residency.room import Room
from flow_rag_vla.residency.scheduling import Scheduler
from flow_rag_vla.residency.unloading import Unloading
from flow_rag_vla.residency.waiting import Waiting

DEFAULT_TIMEOUT_S = 60.0

BESIDE_A_LOOP_S = 1.0
"""``min_resident_s`` where a control loop runs on the same machine: what is copied takes memory traffic from everybody,
and no priority gives that back."""


class ResidencyManager:
    """Decides which model is in which memory. Safe between threads.

    Args:
        devices: the memories, at most one a place.
        scheduler: when.
        policy: whom to evict.
        min_resident_s: seconds for which a loaded model stays, unless a more urgent or an aged request needs its room.
        failure_pause_s: seconds after a loader failed in which the model is refused at once.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        scheduler: Scheduler | None = None,
        policy: EvictionPolicy | None = None,
        min_resident_s: float = 0.0,
        failure_pause_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        books = self._books = Books(devices, clock)
        room = Room(books, policy or cost_aware(), min_resident_s)
        claims = Claims(books, room)
        self._requests = Requests(books, room)
        self._unloading = Unloading(books, room, self._requests, claims)
        self._pressure = Pressure(books, room, self._requests, self._unloading)
        loading = Loading(books, room, self._requests, claims, self._unloading, self._pressure, failure_pause_s)
        when = scheduler or Scheduler()
        self._admission = Admission(books, when, room, self._requests, loading, self._unloading)
        self._waiting = Waiting(books, self._requests, self._admission)
        self._phases = Phases(books, self._requests, self._admission, self._unloading)

    # What there is.

    def register(self, *specs: ModelSpec) -> None:
        """Make models known; nothing is loaded. Models given together may need each other in any order.

        Raises:
            DependencyCycleError, UnknownModelError, ModelTooLargeError: then none of them is registered.
            ValueError: for a name that is taken.
        """
        with self._books.lock:
            self._books.models.add(specs)

    def forget(self, name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Evict a model and take its name off the list.

        Raises:
            InUseError: when it is leased, pinned or needed by another that is registered.
        """
        self.evict(name, timeout_s=timeout_s)
        with self._books.lock:
            self._books.models.remove(name)

    def snapshot(self) -> Snapshot:
        """Where everything is now."""
        books = self._books
        with books.lock:
            ledger = books.ledger
            models = {
                name: ModelStatus(
                    name,
                    entry.state,
                    entry.leases,
                    entry.pins + entry.spec.pinned,
                    {place: ledger.of(name, place) for place in ledger.budgets if ledger.of(name, place)},
                    dict(entry.declared),
                    str(entry.error or ""),
                )
                for name, entry in books.models.entries.items()
            }
            places = {
                place: PlaceStatus(budget, ledger.charged(place), ledger.peaks[place], ledger.foreign[place])
                for place, budget in ledger.budgets.items()
            }
            return Snapshot(models, places, len(books.queue), dict(books.counts))

    # Asking.

    def lease(
        self,
        *names: str,
        priority: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        cancel: Cancel | None = None,
    ) -> Lease:
        """Hold models, and what they need, loaded. Blocks until they are.

        Raises:
            UnknownModelError, ModelTooLargeError: at once.
            LoadError: a loader failed or hangs.
            DeadlineError, CanceledError, ClosedError: nothing is held then.
        """
        lease = self._waiting.wait(self._ask(names, priority, timeout_s, keep=True), cancel)
        assert lease is not None
        return lease

    def try_lease(self, *names: str) -> Lease | None:
        """Hold models if all of them are there now; None otherwise. Loads nothing and waits for nothing.

        None as well while a barrier drains, or when somebody has waited so long that nothing may overtake.
        """
        books, now = self._books, self._books.clock()
        with books.lock:
            books.check_open()
            request = self._requests.make(names, 0, now, now, keep=True)
            if books.gate or self._admission.overtakes(request, now) or not self._requests.there(request):
                return None
            return self._requests.grant(request, now)

    def prefetch(
        self, *names: str, priority: int = 0, timeout_s: float = DEFAULT_TIMEOUT_S, cancel: Cancel | None = None
    ) -> None:
        """Bring models in without holding them. Errors as of :meth:`lease`."""
        self._waiting.wait(self._ask(names, priority, timeout_s, keep=False), cancel)

    def pin(self, name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Load a model and never evict it, nor what it needs, until :meth:`unpin`. Counted."""
        with self.lease(name, timeout_s=timeout_s), self._books.lock:
            for one in self._books.models.closure((name,)):
                self._books.models[one].pins += 1

    def unpin(self, name: str) -> None:
        """Take one pin back.

        Raises:
            InUseError: when there is none.
        """
        with self._books.lock:
            entries = [self._books.models[one] for one in self._books.models.closure((name,))]
            if any(entry.pins < 1 for entry in entries):
                raise InUseError(f"model {name!r} has no pin to take back; pin and unpin in pairs")
            for entry in entries:
                entry.pins -= 1
            self._books.look()

    # Letting go.

    def evict(self, name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
        """Take a model, and those that need it, out of all memories. Returns whether there was anything to take.

        Raises:
            InUseError: when it is leased, pinned, asked for, or its loader hangs.
            DeadlineError: when it is not out by then.
        """
        books = self._books
        deadline = books.clock() + timeout_s
        with books.lock:
            entry = books.models[name]
            if entry.state in (State.COLD, State.FAILED):
                return False
            if entry.state is not State.EVICTING:
                group = books.models.group(name)
                if group is None or not books.models.can_leave(entry):
                    raise InUseError(
                        f"model {name!r} is {entry.state.value} with {entry.claims} leases and requests and "
                        f"{entry.pins + entry.spec.pinned} pins, or a model that needs it is; release them first"
                    )
                for one in group:
                    self._unloading.start(books.models[one], park=False)
            self._phases.wait_out({name}, deadline, f"model {name!r} is not out of memory after {timeout_s} s")
            return True

    @contextmanager
    def phase(self, name: str, *models: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[Lease]:
        """Barrier, then a lease on ``models`` for the time of the block: see :meth:`enter_phase`."""
        started = self._books.clock()
        self.enter_phase(name, *models, timeout_s=timeout_s)
        with self.lease(*models, timeout_s=max(0.0, timeout_s - (self._books.clock() - started))) as lease:
            yield lease

    def enter_phase(self, name: str, *models: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> PhaseReport:
        """Drain the leases, synchronize the devices, evict what the phase does not need, bring in what it does.

        While it drains, requests wait, except of threads that hold a lease and need more to finish. Pinned models stay,
        and so do those that run in host memory when there is a GPU: they leave when their room is needed.

        Raises:
            InUseError: when the calling thread holds a lease itself: it would wait for itself.
            DeadlineError: when leases are not back, or a device is not done, by then; waiting requests go on.
        """
        return self._phases.enter(name, models, timeout_s, self._waiting.wait)

    def relieve(self, place: Place) -> int:
        """Measure a place, lower its limit by what others use there, and evict idle models that no longer fit.

        Returns the bytes that others use. With transfers on their way, or a device that cannot tell, nothing changes.
        """
        with self._books.lock:
            self._pressure.measure(place)
            self._books.look()
            return self._books.ledger.foreign[place]

    def settle(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Return when no transfer is on its way; one that was given up is not waited for.

        Raises:
            DeadlineError: when one still is by then.
        """
        books = self._books
        deadline = books.clock() + timeout_s
        with books.lock:
            books.look()
            while moving := [name for name, entry in books.models.entries.items() if entry.moving]:
                if books.clock() >= deadline:
                    raise DeadlineError(f"{', '.join(moving)} still on the way after {timeout_s} s; a loader may hang")
                books.sleep(deadline)
                books.look()

    def close(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Refuse what waits, drain the leases, evict everything, pins too. May be called again after an error.

        Raises:
            DeadlineError: when leases or transfers are not back by then.
        """
        books = self._books
        deadline = books.clock() + timeout_s
        with books.lock:
            books.closed = True
            for request in tuple(books.queue):
                self._requests.fail(request, ClosedError("the manager was closed; make a new one"))
            self._phases.drain("close", deadline, timeout_s)
            for entry in books.models.entries.values():
                if entry.state in (State.RESIDENT, State.PARKED):
                    self._unloading.start(entry, park=False)
            self._phases.wait_out(
                set(books.models.entries), deadline, f"models are not out of memory after {timeout_s} s"
            )
        books.workers.close()

    def _ask(self, names: tuple[str, ...], priority: int, timeout_s: float, *, keep: bool) -> Request:
        books, now = self._books, self._books.clock()
        with books.lock:
            books.check_open()
            request = self._requests.make(names, priority, now, now + timeout_s, keep=keep)
            if not books.queue and not books.gate and self._requests.there(request):
                books.counts["hits"] += 1
                self._requests.finish(request, now)
                return request
            books.models.check_fits(request.closure)
            books.queue.append(request)
            self._admission.arrive(request)
        return request
