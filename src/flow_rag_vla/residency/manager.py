"""The manager: leases on models, loaded once, evicted only when that makes room.

How a request goes. It names models; what they need is added. As soon as every one of them is there, or there is room
for those that are not beside what idle models can give up, it is *admitted*: its models are claimed, so that nothing
evicts them, and victims leave. Room that they give up is promised to it and to nobody else. When the room is there the
bytes are charged, and only then a loader runs. An admitted request waits for transfers only, never for another lease;
one that is not admitted holds nothing. So requests cannot lock each other up, except a thread that asks for a model
while it holds another: ask for both at once, or the deadline ends it.

No thread of its own decides anything: whoever asks, releases or finishes a transfer looks at the queue under one lock.
Loaders run on threads of their own, without it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from flow_rag_vla.residency.errors import (
    CanceledError,
    ClosedError,
    DeadlineError,
    DependencyCycleError,
    InUseError,
    LoadError,
    ModelTooLargeError,
    ResidencyError,
    UnknownModelError,
)
from flow_rag_vla.residency.eviction import Candidate, EvictionPolicy, cost_aware
from flow_rag_vla.residency.ledger import Ledger
from flow_rag_vla.residency.model import Cancel, Device, Held, ModelSpec, Place, State, dependency_order
from flow_rag_vla.residency.scheduling import Scheduler
from flow_rag_vla.residency.workers import Workers

_LOG = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 60.0
FOREIGN_STEP = 1.0 / 64.0
"""Share of a budget by which measured use must change before the limit follows: noise must not evict models."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model: bytes are those charged by place, ``declared`` with what was corrected."""

    name: str
    state: State
    leases: int
    pins: int
    charged: Mapping[Place, int]
    declared: Mapping[Place, int]
    error: str


@dataclass(frozen=True, slots=True)
class PlaceStatus:
    """One memory, in bytes. ``foreign`` was measured beside what is charged."""

    budget: int
    charged: int
    peak: int
    foreign: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manager at one moment. Counts are since it was made."""

    models: Mapping[str, ModelStatus]
    places: Mapping[Place, PlaceStatus]
    waiting: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What a barrier did: seconds waited for leases, models evicted, models brought in."""

    name: str
    drained_s: float
    evicted: tuple[str, ...]
    loaded: tuple[str, ...]


@dataclass(slots=True)
class _Entry:
    spec: ModelSpec
    declared: dict[Place, int]
    state: State = State.COLD
    value: Any = None
    claims: int = 0  # leases, and requests that are admitted and not granted
    leases: int = 0
    pins: int = 0
    loaded_at: float = 0.0
    used_at: float = 0.0
    load_s: float = 0.0
    retry_at: float = 0.0
    error: Exception | None = None
    ticket: _Ticket | None = None

    @property
    def pinned(self) -> bool:
        return self.pins > 0 or self.spec.pinned


@dataclass(slots=True, eq=False)
class _Request:
    """Somebody who waits: see :class:`~flow_rag_vla.residency.scheduling.Waiting`."""

    sequence: int
    names: tuple[str, ...]
    closure: tuple[str, ...]
    priority: int
    since: float
    deadline: float
    thread: int
    nested: bool
    keep: bool
    admitted: bool = False
    result: Lease | None = None
    error: Exception | None = None
    done: bool = False
    wake: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _Plan:
    """Models that one admission brings in, and the bytes promised to it until they are charged."""

    names: tuple[str, ...]
    need: dict[Place, int]


class _OutgrownError(ResidencyError):
    """There is no room for what a loader really needs; the manager evicts more and calls it again."""

    kind = "outgrown"


class _Ticket:
    """One transfer; see :class:`~flow_rag_vla.residency.model.Ticket`."""

    def __init__(self, manager: ResidencyManager, name: str, target: Place, started: float, deadline: float) -> None:
        self.name, self.target, self.started, self.deadline = name, target, started, deadline
        self.withdrawn = threading.Event()
        self.abandoned = False
        self._manager = manager

    @property
    def canceled(self) -> bool:
        return self.withdrawn.is_set()

    def check(self) -> None:
        if self.canceled:
            raise CanceledError(f"nobody waits for {self.name!r} any more; ask for it again if it is wanted")

    def claim(self, size: int) -> None:
        self._manager._claim(self, size)


class Lease:
    """A hold on loaded models: while it is open none of them is evicted.

    A context manager. Releasing twice does nothing. One that is forgotten is released when it is collected.
    """

    __slots__ = ("__weakref__", "_finalizer", "_values", "names")

    def __init__(self, manager: ResidencyManager, request: _Request, values: Mapping[str, Any]) -> None:
        self.names = request.names
        self._values: Mapping[str, Any] | None = values
        # The collector runs at any moment, also under the manager's lock: it only leaves a note there.
        self._finalizer = weakref.finalize(self, manager._orphans.append, (manager, request.closure, request.thread))
        self._finalizer.atexit = False

    @property
    def value(self) -> Any:
        """The model that was named first."""
        return self[self.names[0]]

    def __getitem__(self, name: str) -> Any:
        if self._values is None:
            raise ClosedError(f"the lease on {', '.join(self.names)} was released; take a new one")
        return self._values[name]

    def release(self) -> None:
        """Let the models go."""
        note = self._finalizer.detach()
        self._values = None
        if note is not None:
            manager, closure, thread = note[2][0]
            manager._release(closure, thread)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


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
        self._ledger = Ledger(devices)
        self._devices = {device.place: device for device in devices}
        self._scheduler = scheduler or Scheduler()
        self._policy = policy or cost_aware()
        self._min_resident_s = min_resident_s
        self._failure_pause_s = failure_pause_s
        self._clock = clock
        self._workers = Workers("residency")
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._entries: dict[str, _Entry] = {}
        self._queue: list[_Request] = []
        self._plans: list[_Plan] = []
        self._holders: dict[int, int] = {}
        self._orphans: deque[tuple[ResidencyManager, tuple[str, ...], int]] = deque()
        self._sequence = 0
        self._idle_now: dict[tuple[Place, int, bool], list[Candidate]] = {}
        self._gate: str = ""
        self._phases = threading.Lock()
        self._closed = False
        self._counts = dict.fromkeys(
            ("leases", "hits", "loads", "parks", "evictions", "failures", "outgrown", "timeouts", "orphans"), 0
        )

    # What there is.

    def register(self, *specs: ModelSpec) -> None:
        """Make models known; nothing is loaded. Models given together may need each other in any order.

        Raises:
            DependencyCycleError, UnknownModelError, ModelTooLargeError: then none of them is registered.
            ValueError: for a name that is taken.
        """
        with self._lock:
            needs = {name: entry.spec.needs for name, entry in self._entries.items()}
            for spec in specs:
                if spec.name in needs:
                    raise ValueError(f"model {spec.name!r} is registered already; forget it first")
                needs[spec.name] = spec.needs
                for place, size in spec.declared.items():
                    if place not in self._ledger.budgets and (place is spec.home or spec.staged):
                        raise ModelTooLargeError(f"model {spec.name!r} needs {place.value}, of which there is none")
                    if place in self._ledger.budgets and size > self._ledger.budgets[place] and place is spec.home:
                        raise ModelTooLargeError(
                            f"model {spec.name!r} declares {size} bytes in {place.value}, the budget is "
                            f"{self._ledger.budgets[place]}; raise the budget or use a smaller or quantized model"
                        )
            added = {spec.name: _Entry(spec, dict(spec.declared)) for spec in specs}
            known = {**self._entries, **added}
            for spec in specs:
                self._check_fits(self._closure((spec.name,), needs), known, pins=False)
            self._entries.update(added)

    def forget(self, name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Evict a model and take its name off the list.

        Raises:
            InUseError: when it is leased, pinned or needed by another that is registered.
        """
        self.evict(name, timeout_s=timeout_s)
        with self._lock:
            entry = self._entry(name)
            users = [other for other, one in self._entries.items() if name in one.spec.needs]
            if users or entry.state not in (State.COLD, State.FAILED) or entry.claims:
                raise InUseError(f"model {name!r} is {entry.state.value}, needed by: {', '.join(users) or 'a request'}")
            del self._entries[name]

    def snapshot(self) -> Snapshot:
        """Where everything is now."""
        with self._lock:
            ledger = self._ledger
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
                for name, entry in self._entries.items()
            }
            places = {
                place: PlaceStatus(budget, ledger.charged(place), ledger.peaks[place], ledger.foreign[place])
                for place, budget in ledger.budgets.items()
            }
            return Snapshot(models, places, len(self._queue), dict(self._counts))

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
        lease = self._wait(self._ask(names, priority, timeout_s, keep=True), cancel)
        assert lease is not None
        return lease

    def try_lease(self, *names: str) -> Lease | None:
        """Hold models if all of them are there now; None otherwise. Loads nothing and waits for nothing.

        None as well while a barrier drains, or when somebody has waited so long that nothing may overtake.
        """
        now = self._clock()
        with self._lock:
            self._open()
            request = self._request(names, 0, now, now, keep=True)
            overtakes = any(self._scheduler.aged(one, now) for one in self._queue) and not request.nested
            if self._gate or overtakes:
                return None
            if all(self._entries[name].state is State.RESIDENT for name in request.closure):
                return self._grant(request, now)
            return None

    def prefetch(
        self, *names: str, priority: int = 0, timeout_s: float = DEFAULT_TIMEOUT_S, cancel: Cancel | None = None
    ) -> None:
        """Bring models in without holding them. Errors as of :meth:`lease`."""
        self._wait(self._ask(names, priority, timeout_s, keep=False), cancel)

    def pin(self, name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Load a model and never evict it, nor what it needs, until :meth:`unpin`. Counted."""
        with self.lease(name, timeout_s=timeout_s), self._lock:
            for one in self._closure((name,)):
                self._entries[one].pins += 1

    def unpin(self, name: str) -> None:
        """Take one pin back.

        Raises:
            InUseError: when there is none.
        """
        with self._lock:
            closure = self._closure((name,))
            if any(self._entries[one].pins < 1 for one in closure):
                raise InUseError(f"model {name!r} has no pin to take back; pin and unpin in pairs")
            for one in closure:
                self._entries[one].pins -= 1
            self._pump()

    def evict(self, name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
        """Take a model, and those that need it, out of all memories. Returns whether there was anything to take.

        Raises:
            InUseError: when it is leased, pinned, asked for, or its loader hangs.
            DeadlineError: when it is not out by then.
        """
        deadline = self._clock() + timeout_s
        with self._lock:
            entry = self._entry(name)
            if entry.state in (State.COLD, State.FAILED):
                return False
            if entry.state is not State.EVICTING:
                group = self._group(name)
                if group is None or not self._evictable(entry):
                    raise InUseError(
                        f"model {name!r} is {entry.state.value} with {entry.claims} leases and requests and "
                        f"{entry.pins + entry.spec.pinned} pins, or a model that needs it is; release them first"
                    )
                for one in group:
                    self._start_eviction(self._entries[one], park=False)
            while entry.state is State.EVICTING:
                if not self._idle.wait(max(0.0, deadline - self._clock())) and self._clock() >= deadline:
                    raise DeadlineError(f"model {name!r} is not out of memory after {timeout_s} s; its loader may hang")
                self._expire(self._clock())
            return True

    @contextmanager
    def phase(self, name: str, *models: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[Lease]:
        """Barrier, then a lease on ``models`` for the time of the block: see :meth:`enter_phase`."""
        started = self._clock()
        self.enter_phase(name, *models, timeout_s=timeout_s)
        with self.lease(*models, timeout_s=max(0.0, timeout_s - (self._clock() - started))) as lease:
            yield lease

    def enter_phase(self, name: str, *models: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> PhaseReport:
        """Drain the leases, synchronize the devices, evict what the phase does not need, bring in what it does.

        While it drains, requests wait, except of threads that hold a lease and need more to finish. Pinned models stay,
        and so do those that run in host memory when there is a GPU: they leave when their room is needed.

        Raises:
            InUseError: when the calling thread holds a lease itself: it would wait for itself.
            DeadlineError: when leases are not back by then; nothing was evicted, waiting requests go on.
        """
        started = self._clock()
        deadline = started + timeout_s
        if not self._phases.acquire(timeout=max(0.0, timeout_s)):
            raise DeadlineError(f"phase {name!r}: another barrier is not through after {timeout_s} s")
        try:
            with self._lock:
                self._open()
                closure = self._closure(models) if models else ()
                self._check_fits(closure, self._entries, pins=True)
                if self._holders.get(threading.get_ident()):
                    raise InUseError(f"phase {name!r}: this thread holds a lease; release it before the barrier")
                self._gate = name
                self._drain(name, deadline, timeout_s)
            drained = self._clock()
            scarce = Place.GPU if Place.GPU in self._devices else Place.HOST
            for device in self._devices.values():
                device.synchronize()
            with self._lock:
                evicted = [
                    one
                    for one, entry in self._entries.items()
                    if one not in closure
                    and entry.spec.home is scarce
                    and entry.state is State.RESIDENT
                    and self._group(one) is not None
                ]
                leaving = {one for start in evicted for one in self._group(start) or ()} - set(closure)
                # A model goes with those that need it, which were in the list themselves.
                for one in leaving:
                    self._start_eviction(self._entries[one], park=True)
                while any(self._entries[one].state is State.EVICTING for one in leaving):
                    if not self._idle.wait(max(0.0, deadline - self._clock())) and self._clock() >= deadline:
                        raise DeadlineError(f"phase {name!r}: models are not out of memory after {timeout_s} s")
                    self._expire(self._clock())
                loaded = tuple(one for one in closure if self._entries[one].state is not State.RESIDENT)
                request = None
                if models:
                    request = self._request(models, 0, self._clock(), deadline, keep=False, nested=True)
                    self._queue.append(request)
                    self._pump()
            if request is not None:
                self._wait(request, None)
        finally:
            with self._lock:
                self._gate = ""
                self._pump()
            self._phases.release()
        report = PhaseReport(name, drained - started, tuple(sorted(leaving)), loaded)
        self._note("phase", phase=name, drained_s=round(report.drained_s, 6), evicted=report.evicted, loaded=loaded)
        return report

    def relieve(self, place: Place) -> int:
        """Measure a place, lower its limit by what others use there, and evict idle models that no longer fit.

        Returns the bytes that others use. With transfers on their way, or a device that cannot tell, nothing changes.
        """
        with self._lock:
            self._measure(place)
            self._pump()
            return self._ledger.foreign[place]

    def settle(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Return when no transfer is on its way; one that was given up is not waited for.

        Raises:
            DeadlineError: when one still is by then.
        """
        deadline = self._clock() + timeout_s
        with self._lock:
            self._pump()
            while moving := [name for name, entry in self._entries.items() if _moving(entry)]:
                if not self._idle.wait(max(0.0, deadline - self._clock())) and self._clock() >= deadline:
                    raise DeadlineError(f"{', '.join(moving)} still on the way after {timeout_s} s; a loader may hang")
                self._expire(self._clock())

    def close(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Refuse what waits, drain the leases, evict everything, pins too.

        Raises:
            DeadlineError: when leases or transfers are not back by then.
        """
        deadline = self._clock() + timeout_s
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for request in tuple(self._queue):
                self._fail(request, ClosedError("the manager was closed; make a new one"))
            self._drain("close", deadline, timeout_s)
            for entry in self._entries.values():
                if entry.state in (State.RESIDENT, State.PARKED):
                    self._start_eviction(entry, park=False)
            while any(entry.state is State.EVICTING for entry in self._entries.values()):
                if not self._idle.wait(max(0.0, deadline - self._clock())) and self._clock() >= deadline:
                    raise DeadlineError(f"models are not out of memory after {timeout_s} s; a loader may hang")
                self._expire(self._clock())
        self._workers.close()

    # Requests; all below runs under the lock unless it says otherwise.

    def _open(self) -> None:
        if self._closed:
            raise ClosedError("the manager was closed; make a new one")

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(sorted(self._entries)) or "none"
            raise UnknownModelError(f"no model {name!r}; registered: {known}") from None

    def _closure(self, names: tuple[str, ...], needs: Mapping[str, tuple[str, ...]] | None = None) -> tuple[str, ...]:
        if needs is None:
            if len(names) == 1 and not self._entry(names[0]).spec.needs:
                return names
            needs = {name: entry.spec.needs for name, entry in self._entries.items()}
        try:
            return dependency_order(names, needs)
        except KeyError as error:
            known = ", ".join(sorted(needs)) or "none"
            raise UnknownModelError(f"no model {error.args[0]!r}; registered: {known}") from None
        except ValueError as error:
            raise DependencyCycleError(f"models need each other in a circle: {error}; remove one of these") from None

    def _check_fits(self, closure: tuple[str, ...], entries: Mapping[str, _Entry], *, pins: bool) -> None:
        beside = [
            name
            for name, entry in entries.items()
            if pins
            and name not in closure
            and (entry.state is State.LOST or (entry.pinned and entry.state is not State.COLD))
        ]
        for place in self._ledger.budgets:
            wanted = sum(
                entries[name].declared[place]
                for name in closure
                if entries[name].spec.home is place or (entries[name].spec.staged and place is Place.HOST)
            )
            taken = sum(self._ledger.of(name, place) for name in beside)
            if wanted + taken > self._ledger.budgets[place]:
                raise ModelTooLargeError(
                    f"{', '.join(closure)} take {wanted} bytes in {place.value} together, beside {taken} of what is "
                    f"pinned or lost ({', '.join(beside) or 'none'}), the budget is {self._ledger.budgets[place]}; "
                    "raise the budget, unpin, or use smaller models"
                )

    def _request(
        self, names: tuple[str, ...], priority: int, now: float, deadline: float, *, keep: bool, nested: bool = False
    ) -> _Request:
        if not names:
            raise UnknownModelError("no model was named; name at least one")
        closure = self._closure(names)
        self._sequence += 1
        thread = threading.get_ident()
        nested = nested or bool(self._holders.get(thread))
        return _Request(self._sequence, names, closure, priority, now, deadline, thread, nested, keep)

    def _ask(self, names: tuple[str, ...], priority: int, timeout_s: float, *, keep: bool) -> _Request:
        """Not under the lock."""
        now = self._clock()
        with self._lock:
            self._open()
            request = self._request(names, priority, now, now + timeout_s, keep=keep)
            if (
                not self._queue
                and not self._gate
                and all(self._entries[name].state is State.RESIDENT for name in request.closure)
            ):
                self._counts["hits"] += 1
                self._finish(request, now)
                return request
            self._check_fits(request.closure, self._entries, pins=True)
            self._queue.append(request)
            self._pump()
        return request

    def _wait(self, request: _Request, cancel: Cancel | None) -> Lease | None:
        """Not under the lock."""
        if cancel is not None:
            cancel.when_canceled(request.wake.set)
        try:
            while True:
                with self._lock:
                    if not request.done and cancel is not None and cancel.canceled:
                        names = ", ".join(request.names)
                        self._fail(request, CanceledError(f"the request for {names} was withdrawn"))
                        self._pump()
                    if not request.done:
                        self._pump()
                    if request.done:
                        break
                    request.wake.clear()
                    pause = self._next_event(request) - self._clock()
                    if cancel is not None and cancel.canceled:
                        continue
                request.wake.wait(max(0.0, pause))
        except BaseException:
            # An interrupt, say: nobody will come for what is granted from here on.
            with self._lock:
                if not request.done:
                    self._fail(request, CanceledError("interrupted"))
            if request.result is not None:
                request.result.release()
            raise
        finally:
            if cancel is not None:
                cancel.forget(request.wake.set)
        if request.error is not None:
            raise request.error
        if request.result is not None and cancel is not None and cancel.canceled:
            request.result.release()
            raise CanceledError(f"the request for {', '.join(request.names)} was withdrawn")
        return request.result

    def _next_event(self, request: _Request) -> float:
        """When time alone may change something for a request."""
        now = self._clock()
        times = [request.deadline, request.since + self._scheduler.max_wait_s]
        for entry in self._entries.values():
            if entry.ticket is not None:
                times.append(entry.ticket.deadline)
            if entry.state is State.RESIDENT:
                times.append(entry.loaded_at + self._min_resident_s)
        return min([moment for moment in times if moment > now], default=now)

    def _grant(self, request: _Request, now: float) -> Lease:
        for name in request.closure:
            entry = self._entries[name]
            if not request.admitted:
                entry.claims += 1
            entry.leases += 1
            entry.used_at = now
        request.admitted = False
        self._holders[request.thread] = self._holders.get(request.thread, 0) + 1
        self._counts["leases"] += 1
        return Lease(self, request, {name: self._entries[name].value for name in request.closure})

    def _finish(self, request: _Request, now: float) -> None:
        if request.keep:
            request.result = self._grant(request, now)
        elif request.admitted:
            self._unclaim(request)
        request.done = True
        request.wake.set()

    def _fail(self, request: _Request, error: Exception) -> None:
        if request in self._queue:
            self._queue.remove(request)
        if request.admitted:
            self._unclaim(request)
            self._trim()
        request.error, request.done = error, True
        request.wake.set()

    def _unclaim(self, request: _Request) -> None:
        request.admitted = False
        for name in request.closure:
            self._entries[name].claims -= 1

    def _release(self, closure: tuple[str, ...], thread: int) -> None:
        """Not under the lock."""
        with self._lock:
            self._give_back(closure, thread)
            if self._queue or self._orphans:
                self._pump()
            if self._gate or self._closed:
                self._idle.notify_all()

    def _give_back(self, closure: tuple[str, ...], thread: int) -> None:
        now = self._clock()
        for name in closure:
            entry = self._entries[name]
            entry.claims -= 1
            entry.leases -= 1
            entry.used_at = now
        left = self._holders[thread] - 1
        if left:
            self._holders[thread] = left
        else:
            del self._holders[thread]

    def _drain(self, name: str, deadline: float, timeout_s: float) -> None:
        """Wait until nothing is leased or on its way for an admitted request."""
        while True:
            self._expire(self._clock())
            self._take_orphans()
            held = sorted(one for one, entry in self._entries.items() if entry.claims)
            moving = any(_moving(entry) for entry in self._entries.values())
            if not held and not moving:
                return
            if self._clock() >= deadline:
                held = held or ["transfers"]
                raise DeadlineError(f"{name}: {', '.join(held)} not back after {timeout_s} s; release the leases")
            soonest = min([entry.ticket.deadline for entry in self._entries.values() if entry.ticket], default=deadline)
            self._idle.wait(max(0.001, min(deadline, soonest) - self._clock()))

    # Deciding.

    def _pump(self) -> None:
        """Look at everything that waits."""
        now = self._clock()
        self._take_orphans()
        self._expire(now)
        blocked = False
        self._idle_now.clear()
        for request in self._scheduler.order([one for one in self._queue if not one.admitted], now):
            if (blocked or self._gate) and not request.nested:
                continue
            aged = self._scheduler.aged(request, now)
            if not self._admit(request, now, aged=aged) and aged:
                blocked = True
        self._advance()

    def _take_orphans(self) -> None:
        while self._orphans:
            _, closure, thread = self._orphans.popleft()
            self._counts["orphans"] += 1
            self._note("orphan", logging.WARNING, models=closure, remedy="use leases in a with statement")
            self._give_back(closure, thread)

    def _expire(self, now: float) -> None:
        for name, entry in self._entries.items():
            ticket = entry.ticket
            if ticket is not None and not ticket.abandoned and now >= ticket.deadline:
                ticket.abandoned = True
                ticket.withdrawn.set()
                doing = entry.state.value
                entry.state = State.LOST
                entry.error = LoadError(
                    f"{doing} model {name!r} is not done after {entry.spec.load_deadline_s} s; its bytes stay charged "
                    "until its loader comes back; end what it waits for, or restart the process"
                )
                self._counts["failures"] += 1
                self._note("lost", logging.ERROR, model=name, while_=doing)
                self._fail_all(name, entry.error)
                self._recheck()
                self._idle.notify_all()
        for request in [one for one in self._queue if now >= one.deadline]:
            self._counts["timeouts"] += 1
            held = sorted(name for name, entry in self._entries.items() if entry.leases or entry.pinned)
            states = ", ".join(f"{name} {self._entries[name].state.value}" for name in request.closure)
            self._fail(
                request,
                DeadlineError(
                    f"no lease on {', '.join(request.names)} after {now - request.since:.3g} s ({states}); leased or "
                    f"pinned: {', '.join(held) or 'none'}; release sooner, ask for models together, or allow more time"
                ),
            )

    def _admit(self, request: _Request, now: float, *, aged: bool) -> bool:
        entries = [self._entries[name] for name in request.closure]
        for entry in entries:
            if entry.state is State.LOST or (entry.state is State.FAILED and now < entry.retry_at):
                assert entry.error is not None
                self._fail(request, _again(entry.error))
                return True
            if entry.state is State.EVICTING:
                return False
        missing = [entry for entry in entries if entry.state in (State.COLD, State.PARKED, State.FAILED)]
        need: dict[Place, int] = {}
        for entry in missing:
            home = entry.spec.home
            need[home] = need.get(home, 0) + entry.declared[home]
            if entry.spec.staged and entry.state is not State.PARKED:
                need[Place.HOST] = need.get(Place.HOST, 0) + entry.declared[Place.HOST]
        victims = self._victims(need, request, now, aged=aged)
        if victims is None:
            return False
        # Claimed before anything leaves: parking a victim must not push out a parked model that is wanted here.
        for entry in entries:
            entry.claims += 1
        request.admitted = True
        self._idle_now.clear()
        if missing:
            for entry in missing:
                entry.state, entry.error = State.LOADING, None
            self._plans.append(_Plan(tuple(entry.spec.name for entry in missing), need))
        for name in victims:
            self._start_eviction(self._entries[name], park=True)
        if missing:
            return True
        if all(entry.state is State.RESIDENT for entry in entries):
            self._queue.remove(request)
            self._counts["hits"] += 1
            self._finish(request, now)
        return True

    def _available(self, place: Place) -> int:
        """Bytes that nobody was promised, counting what is leaving."""
        leaving = sum(
            self._ledger.of(name, place)
            for name, entry in self._entries.items()
            # What is being parked leaves the GPU and arrives here.
            if entry.state is State.EVICTING and entry.ticket is not None and entry.ticket.target is not place
        )
        promised = sum(plan.need.get(place, 0) for plan in self._plans)
        return self._ledger.free(place) + leaving - promised

    def _victims(self, need: Mapping[Place, int], request: _Request, now: float, *, aged: bool) -> list[str] | None:
        chosen: dict[str, None] = {}
        for place, size in need.items():
            short = size - self._available(place) - sum(self._ledger.of(name, place) for name in chosen)
            if short <= 0:
                continue
            # With a full memory all that waits finds the same few idle models, or none: listed once a look.
            key = place, request.priority, aged
            idle = self._idle_now.get(key)
            if idle is None:
                idle = self._idle_now[key] = self._candidates(place, now, priority=request.priority, aged=aged)
            out = chosen.keys() | set(request.closure)
            candidates = [one for one in idle if out.isdisjoint(one.sizes)]
            victims = self._policy.choose(candidates, short)
            if victims is None:
                return None
            freed = {name: bytes_ for victim in victims for name, bytes_ in victim.sizes.items()}
            if sum(freed.values()) < short:
                return None  # a policy that miscounts must not lead to an eviction that makes no room
            chosen.update(dict.fromkeys(freed))
        return list(chosen)

    def _candidates(self, place: Place, now: float, *, priority: int, aged: bool) -> list[Candidate]:
        found = []
        for name, entry in self._entries.items():
            if entry.state not in (State.RESIDENT, State.PARKED) or not self._ledger.of(name, place):
                continue
            group = self._group(name)
            if group is None:
                continue
            members = [self._entries[one] for one in group]
            if not aged and any(
                one.state is State.RESIDENT
                and now < one.loaded_at + self._min_resident_s
                and one.spec.priority >= priority
                for one in members
            ):
                continue
            found.append(
                Candidate(
                    {one: self._ledger.of(one, place) for one in group},
                    max(one.spec.priority for one in members),
                    min(now - one.used_at for one in members),
                    sum(one.load_s for one in members),
                    entry.state is State.PARKED,
                )
            )
        return found

    def _evictable(self, entry: _Entry) -> bool:
        return entry.state in (State.RESIDENT, State.PARKED) and not entry.claims and not entry.pinned

    def _group(self, name: str) -> tuple[str, ...] | None:
        """A model and all resident ones that need it, dependents first; None if one of them cannot leave."""
        group: dict[str, None] = {}
        todo = [name]
        while todo:
            one = todo.pop()
            entry = self._entries[one]
            if entry.state in (State.COLD, State.FAILED, State.EVICTING) or (
                one != name and entry.state is State.PARKED
            ):
                continue
            if not self._evictable(entry):
                return None
            group[one] = None
            if entry.state is State.RESIDENT:
                todo.extend(other for other, user in self._entries.items() if one in user.spec.needs)
        return tuple(reversed(group))

    def _advance(self) -> None:
        """Charge what has room, start what can start, grant what is there."""
        now = self._clock()
        for plan in tuple(self._plans):
            if all(self._ledger.free(place) >= size for place, size in plan.need.items()):
                self._plans.remove(plan)
                for name in plan.names:
                    entry = self._entries[name]
                    self._ledger.charge(name, entry.spec.home, entry.declared[entry.spec.home])
                    if entry.spec.staged and not self._ledger.of(name, Place.HOST):
                        self._ledger.charge(name, Place.HOST, entry.declared[Place.HOST])
        for entry in self._entries.values():
            if (
                entry.state is State.LOADING
                and entry.ticket is None
                and self._ledger.of(entry.spec.name, entry.spec.home)
                and all(self._entries[one].state is State.RESIDENT for one in entry.spec.needs)
            ):
                self._start_load(entry)
        for request in [one for one in self._queue if one.admitted]:
            if all(self._entries[name].state is State.RESIDENT for name in request.closure):
                self._queue.remove(request)
                self._finish(request, now)
        if self._gate or self._closed:
            self._idle.notify_all()

    def _trim(self) -> None:
        """Take back plans and loads that have not begun and that nobody claims any more."""
        for plan in tuple(self._plans):
            if not any(self._entries[name].claims for name in plan.names):
                self._plans.remove(plan)
                for name in plan.names:
                    self._to_rest(self._entries[name])
        planned = {name for plan in self._plans for name in plan.names}
        for name, entry in self._entries.items():
            if entry.state is State.LOADING and not entry.claims:
                if entry.ticket is not None:
                    entry.ticket.withdrawn.set()
                elif name not in planned:
                    self._to_rest(entry)

    def _to_rest(self, entry: _Entry) -> None:
        """Back from a load that did not begin."""
        name = entry.spec.name
        self._ledger.release(name, entry.spec.home)
        if entry.value is None:
            self._ledger.release(name, Place.HOST)
            entry.state = State.COLD
        else:
            entry.state = State.PARKED

    def _fail_all(self, name: str, error: Exception) -> None:
        """Fail the admitted requests that wait for a model."""
        for request in [one for one in self._queue if one.admitted and name in one.closure]:
            self._fail(request, _again(error))

    def _requeue(self, requests: Iterable[_Request]) -> None:
        """Back to waiting, without a claim."""
        for request in list(requests):
            self._unclaim(request)
        self._trim()

    def _recheck(self) -> None:
        """When promised room was lost, take the promises back; the requests are planned anew."""
        if any(self._available(place) < 0 for place in self._ledger.budgets):
            names = {name for plan in self._plans for name in plan.names}
            self._requeue(one for one in self._queue if one.admitted and not names.isdisjoint(one.closure))

    def _measure(self, place: Place) -> None:
        used = self._devices[place].used()
        if used is None or any(entry.ticket is not None for entry in self._entries.values()):
            return
        foreign = max(0, used - self._ledger.charged(place))
        if abs(foreign - self._ledger.foreign[place]) < FOREIGN_STEP * self._ledger.budgets[place]:
            return
        self._ledger.foreign[place] = foreign
        self._note("pressure", place=place.value, foreign=foreign, charged=self._ledger.charged(place))
        self._recheck()
        over = -self._available(place)
        if over > 0:
            candidates = self._candidates(place, self._clock(), priority=0, aged=True)
            victims = self._policy.choose(candidates, over)
            for victim in victims or tuple(candidates):
                for name in victim.sizes:
                    if self._entries[name].state in (State.RESIDENT, State.PARKED):
                        self._start_eviction(self._entries[name], park=True)

    # Transfers.

    def _start_load(self, entry: _Entry) -> None:
        now = self._clock()
        ticket = _Ticket(self, entry.spec.name, entry.spec.home, now, now + entry.spec.load_deadline_s)
        entry.ticket = ticket
        self._workers.run(lambda: self._load(entry, ticket))

    def _load(self, entry: _Entry, ticket: _Ticket) -> None:
        """On a worker, not under the lock."""
        loader, home = entry.spec.loader, entry.spec.home
        value, source = entry.value, Place.HOST if entry.value is not None else Place.DISK
        held: Held | None = None
        error: BaseException | None = None
        try:
            held = loader.load(home, ticket) if source is Place.DISK else loader.move(value, source, home, ticket)
            if held.size < 0:
                raise ValueError(f"loader of {entry.spec.name!r} measured {held.size} bytes; expected from 0")
        except BaseException as caught:
            error = caught
        drop: list[tuple[Any, Place]] = []
        with self._lock:
            entry.load_s = self._clock() - ticket.started
            if held is not None and error is None and not ticket.abandoned and self._settle(entry, held):
                entry.ticket = None
                if not self._plans:
                    self._measure(home)
                self._pump()
                self._idle.notify_all()
                return
            if held is not None:
                drop.append((held.value, home))
            elif source is Place.HOST:
                drop.append((value, source))
        freed = self._drop(entry, drop)
        with self._lock:
            entry.ticket = None
            entry.value = None
            if freed:
                for place in self._ledger.budgets:
                    self._ledger.release(entry.spec.name, place)
            self._after_failed_load(entry, ticket, error, freed=freed)
            self._pump()
            self._idle.notify_all()

    def _settle(self, entry: _Entry, held: Held) -> bool:
        """Make a loaded model resident; False when it turned out larger than there is room for."""
        name, home = entry.spec.name, entry.spec.home
        extra = held.size - self._ledger.of(name, home)
        if extra > 0:
            entry.declared[home] = held.size
            if extra > self._available(home) or extra > self._ledger.free(home):
                return False
        self._ledger.charge(name, home, max(held.size, 1))
        if home is not Place.HOST:
            self._ledger.release(name, Place.HOST)
        entry.value, entry.state, entry.loaded_at = held.value, State.RESIDENT, self._clock()
        entry.used_at = entry.loaded_at
        self._counts["loads"] += 1
        self._note(
            "loaded", model=name, place=home.value, size=held.size, seconds=round(entry.load_s, 6),
            charged=self._ledger.charged(home),
        )  # fmt: skip
        return True

    def _claim(self, ticket: _Ticket, size: int) -> None:
        """A loader knows its size. Not under the lock."""
        with self._lock:
            entry = self._entries[ticket.name]
            if entry.ticket is not ticket or ticket.abandoned:
                raise CanceledError(f"the transfer of {ticket.name!r} was given up")
            extra = size - self._ledger.of(ticket.name, ticket.target)
            if extra <= 0:
                return
            entry.declared[ticket.target] = max(size, entry.declared.get(ticket.target, 0))
            if extra > self._available(ticket.target) or extra > self._ledger.free(ticket.target):
                raise _OutgrownError(f"model {ticket.name!r} needs {size} bytes in {ticket.target.value}")
            self._ledger.charge(ticket.name, ticket.target, size)

    def _after_failed_load(self, entry: _Entry, ticket: _Ticket, error: BaseException | None, *, freed: bool) -> None:
        name = entry.spec.name
        waiting = [one for one in self._queue if one.admitted and name in one.closure]
        if not freed:
            entry.state = State.LOST
            entry.error = LoadError(f"model {name!r} could not be freed after its load failed; restart the process")
            self._fail_all(name, entry.error)
            self._recheck()
            return
        if ticket.abandoned:
            entry.state, entry.error = State.COLD, None
            self._note("returned", logging.WARNING, model=name, after_s=round(entry.load_s, 3))
            return
        entry.state = State.COLD
        if error is None or isinstance(error, _OutgrownError):
            self._counts["outgrown"] += 1
            self._note(
                "outgrown", logging.WARNING, model=name, declared={k.value: v for k, v in entry.declared.items()}
            )
            self._requeue(waiting)
            for request in waiting:
                try:
                    self._check_fits(request.closure, self._entries, pins=True)
                except ModelTooLargeError as large:
                    self._fail(request, large)
            return
        if isinstance(error, CanceledError) and ticket.canceled:
            self._requeue(waiting)
            return
        self._counts["failures"] += 1
        entry.state = State.FAILED
        entry.retry_at = self._clock() + self._failure_pause_s
        entry.error = LoadError(
            f"loading model {name!r} to {ticket.target.value} failed: {type(error).__name__}: {error}; "
            "mend the cause and ask again"
        )
        entry.error.__cause__ = error
        self._note("failed", logging.ERROR, model=name, error=type(error).__name__)
        self._fail_all(name, entry.error)

    def _start_eviction(self, entry: _Entry, *, park: bool) -> None:
        now = self._clock()
        source = Place.HOST if entry.state is State.PARKED else entry.spec.home
        size = entry.declared.get(Place.HOST, 0)
        park = park and source is Place.GPU and bool(size) and Place.HOST in self._ledger.budgets
        makes_way: list[_Entry] = []
        if park and self._available(Place.HOST) < size:
            # Older parked copies go to disk first.
            candidates = [one for one in self._candidates(Place.HOST, now, priority=0, aged=True) if one.parked]
            victims = self._policy.choose(candidates, size - self._available(Place.HOST))
            park = victims is not None
            makes_way = [self._entries[name] for victim in victims or () for name in victim.sizes]
        ticket = _Ticket(
            self, entry.spec.name, Place.HOST if park else Place.DISK, now, now + entry.spec.load_deadline_s
        )
        entry.state, entry.ticket = State.EVICTING, ticket
        for other in makes_way:
            other.state = State.EVICTING
            other.ticket = _Ticket(self, other.spec.name, Place.DISK, now, now + other.spec.load_deadline_s)
        self._workers.run(lambda: self._evict(entry, ticket, source, makes_way))

    def _evict(self, entry: _Entry, ticket: _Ticket, source: Place, makes_way: Sequence[_Entry]) -> None:
        """On a worker, not under the lock."""
        name = entry.spec.name
        for other in makes_way:
            freed = self._drop(other, [(other.value, Place.HOST)])
            with self._lock:
                self._evicted(other, freed=freed)
        parked: Held | None = None
        if ticket.target is Place.HOST:
            with self._lock:
                size = entry.declared[Place.HOST]
                room = not ticket.abandoned and min(self._available(Place.HOST), self._ledger.free(Place.HOST)) >= size
                if room:
                    self._ledger.charge(name, Place.HOST, size)
            if room:
                try:
                    parked = entry.spec.loader.move(entry.value, source, Place.HOST, ticket)
                except BaseException as error:
                    self._note("park_failed", logging.WARNING, model=name, error=type(error).__name__)
        if parked is not None:
            with self._lock:
                extra = parked.size - self._ledger.of(name, Place.HOST)
                fits = extra <= 0 or min(self._available(Place.HOST), self._ledger.free(Place.HOST)) >= extra
                if extra > 0:
                    entry.declared[Place.HOST] = parked.size
                if fits and not ticket.abandoned:
                    self._ledger.charge(name, Place.HOST, max(parked.size, 1))
                    self._ledger.release(name, source)
                    entry.value, entry.state, entry.ticket = parked.value, State.PARKED, None
                    self._counts["parks"] += 1
                    self._note("parked", model=name, size=parked.size)
                    self._pump()
                    self._idle.notify_all()
                    return
            freed = self._drop(entry, [(parked.value, Place.HOST)])
        else:
            freed = self._drop(entry, [(entry.value, source)])
        with self._lock:
            self._evicted(entry, freed=freed)
            self._pump()
            self._idle.notify_all()

    def _evicted(self, entry: _Entry, *, freed: bool) -> None:
        name = entry.spec.name
        entry.ticket = None
        if not freed:
            entry.state = State.LOST
            entry.error = LoadError(f"model {name!r} could not be freed; its bytes stay charged; restart the process")
            self._recheck()
            return
        for place in self._ledger.budgets:
            self._ledger.release(name, place)
        entry.state, entry.value, entry.error = State.COLD, None, None
        self._counts["evictions"] += 1
        self._note("evicted", model=name)

    def _drop(self, entry: _Entry, held: Sequence[tuple[Any, Place]]) -> bool:
        """Free what a loader gave; False when it cannot. Not under the lock."""
        for value, place in held:
            try:
                entry.spec.loader.drop(value, place)
            except BaseException as error:
                self._note(
                    "drop_failed", logging.ERROR, model=entry.spec.name, error=f"{type(error).__name__}: {error}"
                )
                return False
        return True

    def _note(self, event: str, level: int = logging.DEBUG, **fields: Any) -> None:
        """One line of JSON a transfer; leases that find their model are not told."""
        if _LOG.isEnabledFor(level):
            _LOG.log(level, "%s", json.dumps({"event": event, **fields}, default=str))


def _moving(entry: _Entry) -> bool:
    return entry.state in (State.LOADING, State.EVICTING)


def _again(error: Exception) -> Exception:
    """An error of its own for each that waits: a raised one gets a trace."""
    if isinstance(error, LoadError):
        copy = LoadError(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error
