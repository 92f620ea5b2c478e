# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time

import pytest

from flow_rag_vla.residency.errors import (
    CanceledError,
    ClosedError,
    DeadlineError,
    DependencyCycleError,
    InUseError,
    LoadError,
    ModelTooLargeError,
    UnknownModelError,
)
from flow_rag_vla.residency.model import Cancel, ModelSpec, Place
from flow_rag_vla.residency.scheduling import Scheduler


def waiting(it, count=1):
    """Return when so many requests wait."""
    while it.manager.snapshot().waiting < count:
        time.sleep(0.001)


def test_many_requests_load_once(bench, background):
    it, go = bench(8), threading.Event()
    it.add("a", 4, fail=lambda place: go.wait(60.0))
    asking = [background(lambda: it.manager.lease("a").release()) for _ in range(20)]
    go.set()
    for one in asking:
        one.join()
    assert it.loaders["a"].loads == 1 and it.state("a") == "resident"


def test_a_leased_model_stays_until_it_is_given_back(bench, background):
    it = bench(4)
    it.add("a", 4)
    it.add("b", 4)
    lease = it.manager.lease("a")
    with pytest.raises(DeadlineError, match="leased, pinned or lost: a"):
        it.manager.lease("b", timeout_s=0.01)
    waits = background(lambda: it.manager.lease("b"))
    lease.release()
    waits.join().release()
    assert it.state("a") == "cold" and it.gpu.peak == 4


def test_a_loader_that_hangs_is_given_up_and_its_bytes_stay_charged(bench):
    it, go = bench(8), threading.Event()
    it.add("a", 4, fail=lambda place: go.wait(60.0) if place is Place.GPU else None, load_deadline_s=0.05)
    it.add("b", 6)
    with pytest.raises(LoadError, match=r"not done after 0\.05 s"):
        it.manager.lease("a")
    with pytest.raises(DeadlineError):
        it.manager.lease("b", timeout_s=0.01)
    go.set()
    with it.manager.lease("b"):
        assert it.gpu.used() == 6
    assert it.state("a") == "cold"


def test_a_withdrawn_request_holds_nothing(bench, background):
    it, began, cancel = bench(8), threading.Event(), Cancel()
    it.add("a", 4, fail=lambda place: began.set() or cancel._event.wait(60.0))
    asked = background(lambda: it.manager.lease("a", cancel=cancel))
    assert began.wait(60.0)
    cancel.cancel()
    with pytest.raises(CanceledError):
        asked.join()
    it.manager.settle()
    assert it.manager.snapshot().models["a"].leases == 0
    it.manager.evict("a")
    assert it.gpu.used() == 0


def test_a_model_larger_than_declared_corrects_its_declaration_and_evicts_further(bench):
    it = bench(8)
    it.add("other", 4)
    it.add("grows", 2, really=6)
    it.manager.prefetch("other")
    with it.manager.lease("grows"):
        assert it.gpu.used() == 6
    snapshot = it.manager.snapshot()
    assert snapshot.models["grows"].declared[Place.GPU] == 6 and snapshot.counts["outgrown"] == 1
    assert it.gpu.peak <= 8


def test_a_model_that_turns_out_larger_than_the_budget_is_refused(bench):
    it = bench(8)
    it.add("grows", 2, really=9)
    with pytest.raises(ModelTooLargeError, match="take 9 bytes in gpu"):
        it.manager.lease("grows")
    assert it.gpu.used() == 0


def test_nothing_overtakes_a_request_that_has_waited_too_long(bench, clock, background):
    it = bench(4, clock=clock, scheduler=Scheduler(max_wait_s=5.0))
    it.add("a", 4)
    it.add("b", 4)
    first = it.manager.lease("a")
    waits = background(lambda: it.manager.lease("b", timeout_s=1000.0))
    waiting(it)
    overtakes = background(lambda: it.manager.try_lease("a"))
    lease = overtakes.join()
    assert lease is not None
    clock.now += 6.0
    assert background(lambda: it.manager.try_lease("a")).join() is None
    lease.release()
    first.release()
    waits.join().release()


def test_a_model_just_loaded_stays_for_a_while(bench, clock):
    it = bench(4, clock=clock, min_resident_s=10.0, scheduler=Scheduler(max_wait_s=1000.0))
    it.add("a", 4)
    it.add("b", 4)
    it.manager.prefetch("a")
    with pytest.raises(DeadlineError):
        it.manager.lease("b", timeout_s=0.0)
    clock.now += 11.0
    with it.manager.lease("b", timeout_s=1000.0):
        assert it.state("a") == "cold"


def test_a_forgotten_lease_is_given_back_also_to_who_waits_already(bench, background):
    it = bench(4)
    it.add("a", 4)
    it.add("b", 4)
    kept = [it.manager.lease("a")]
    waits = background(lambda: it.manager.lease("b"))
    waiting(it)
    kept.clear()
    gc.collect()
    waits.join().release()
    assert it.manager.snapshot().counts["orphans"] == 1


def test_a_lease_gives_its_models_once(bench):
    it = bench(8)
    it.manager.register(it.spec("base", 2), it.spec("head", 2, needs=("base",)))
    with it.manager.lease("head") as lease:
        assert lease.value is lease["head"] is it.loaders["head"] and lease["base"] is it.loaders["base"]
        lease.release()
        with pytest.raises(ClosedError, match="was released"):
            lease.value  # noqa: B018
    assert it.manager.snapshot().models["base"].leases == 0


def test_a_loader_that_raises_is_told_to_all_who_wait_and_tried_again_after_a_pause(bench, clock, background):
    it, go, broken = bench(8, clock=clock, failure_pause_s=5.0), threading.Event(), [True]

    def fail(place):
        go.wait(60.0)
        if broken and place is Place.GPU:
            raise OSError("the file is gone")

    it.add("a", 4, fail=fail)
    asking = [background(lambda: it.manager.lease("a")) for _ in range(4)]
    waiting(it, 4)
    go.set()
    for one in asking:
        with pytest.raises(LoadError, match="OSError: the file is gone; mend the cause") as caught:
            one.join()
        assert isinstance(caught.value.__cause__, OSError)
    broken.clear()
    with pytest.raises(LoadError):
        it.manager.lease("a")
    clock.now += 6.0
    it.manager.lease("a").release()
    assert it.loaders["a"].loads == 1 and it.gpu.peak == 4


def test_who_waits_is_answered_at_its_deadline_although_nothing_happens(bench, clock, background):
    it = bench(4, clock=clock)
    it.add("a", 4)
    it.add("b", 4)
    with it.manager.lease("a"):
        asking = [background(lambda n=n: it.manager.lease("b", timeout_s=10.0 + n)) for n in range(3)]
        waiting(it, 3)
        clock.now += 11.5
        for one in asking[:2]:
            with pytest.raises(DeadlineError, match=r"b cold.*lost: a; release sooner"):
                one.join()
        assert it.manager.snapshot().waiting == 1
        clock.now += 10.0
        with pytest.raises(DeadlineError):
            asking[2].join()
    assert it.manager.snapshot().counts["timeouts"] == 3
    it.manager.lease("b").release()


def test_the_urgent_get_the_room_first(bench, clock, background):
    it = bench(4, clock=clock)
    for name in ("a", "low", "high"):
        it.add(name, 4)
    order = []

    def take(name, priority):
        with it.manager.lease(name, priority=priority, timeout_s=1000.0):
            order.append(name)

    with it.manager.lease("a"):
        low = background(lambda: take("low", 0))
        waiting(it, 1)
        high = background(lambda: take("high", 3))
        waiting(it, 2)
    low.join(), high.join()
    assert order == ["high", "low"]


def test_waiting_raises_a_priority(bench, clock, background):
    it = bench(4, clock=clock, scheduler=Scheduler(ageing_s=2.0, max_wait_s=100.0))
    for name in ("a", "old", "urgent"):
        it.add(name, 4)
    order = []

    def take(name, priority):
        with it.manager.lease(name, priority=priority, timeout_s=1000.0):
            order.append(name)

    with it.manager.lease("a"):
        old = background(lambda: take("old", 0))
        waiting(it, 1)
        clock.now += 9.0  # worth four levels
        urgent = background(lambda: take("urgent", 3))
        waiting(it, 2)
    old.join(), urgent.join()
    assert order == ["old", "urgent"]


def test_an_aged_request_for_much_room_is_not_starved_by_small_ones(bench, clock, background):
    it = bench(4, clock=clock, scheduler=Scheduler(max_wait_s=5.0))
    it.add("large", 4)
    it.add("small", 1)
    first = it.manager.lease("small")
    large = background(lambda: it.manager.lease("large", timeout_s=1000.0))
    waiting(it, 1)
    passing = background(lambda: it.manager.lease("small", timeout_s=1000.0)).join()
    clock.now += 6.0
    late = background(lambda: it.manager.lease("small", timeout_s=1000.0))
    waiting(it, 2)
    passing.release()
    first.release()
    lease = large.join()
    assert it.state("large") == "resident" and it.gpu.used() == 4
    lease.release()
    late.join().release()


def test_a_more_urgent_request_does_not_wait_for_the_min_resident_time(bench, clock):
    it = bench(4, clock=clock, min_resident_s=10.0, scheduler=Scheduler(max_wait_s=1000.0))
    it.add("a", 4)
    it.add("b", 4)
    it.manager.prefetch("a")
    with it.manager.lease("b", priority=1, timeout_s=1000.0):
        assert it.state("a") == "cold"


def test_two_models_that_take_turns_are_not_swapped_at_each_request(bench, clock, background):
    it = bench(4, clock=clock, min_resident_s=10.0, scheduler=Scheduler(max_wait_s=1000.0))
    it.add("a", 4)
    it.add("b", 4)
    it.manager.prefetch("a")
    waits = background(lambda: it.manager.lease("b", timeout_s=1000.0))
    waiting(it, 1)
    for _ in range(20):
        it.manager.lease("a", timeout_s=1000.0).release()
    assert it.loaders["a"].loads == 1 and it.loaders["b"].loads == 0
    clock.now += 11.0
    waits.join().release()


def test_measured_pressure_makes_idle_models_leave_and_lets_them_back(bench):
    it = bench(8)
    it.add("a", 3)
    it.add("b", 3)
    it.manager.prefetch("a")
    it.manager.prefetch("b")
    it.gpu.take(2)
    assert it.manager.relieve(Place.GPU) == 2, "both still fit beside it"
    it.gpu.give(2)
    it.manager.evict("a")
    it.gpu.take(4)
    assert it.manager.relieve(Place.GPU) == 4
    with pytest.raises(DeadlineError), it.manager.lease("b"):
        it.manager.lease("a", timeout_s=0.01)
    it.gpu.give(4)
    assert it.manager.relieve(Place.GPU) == 0
    it.manager.lease("a", "b").release()
    assert it.gpu.peak <= 8


def test_a_pin_holds_a_model_with_what_it_needs(bench):
    it = bench(4)
    it.manager.register(it.spec("base", 2), it.spec("head", 1, needs=("base",)))
    it.add("other", 4)
    it.manager.pin("head")
    with pytest.raises(ModelTooLargeError, match=r"beside 3 of what is pinned \(base, head\)"):
        it.manager.lease("other")
    with pytest.raises(InUseError, match="release them first"):
        it.manager.evict("base")
    it.manager.unpin("head")
    with pytest.raises(InUseError, match="no pin to take back"):
        it.manager.unpin("head")
    it.manager.lease("other").release()


def test_a_model_is_forgotten_when_nobody_needs_it(bench):
    it = bench(4)
    it.manager.register(it.spec("base", 2), it.spec("head", 1, needs=("base",)))
    with pytest.raises(InUseError, match="needed by: head"):
        it.manager.forget("base")
    it.manager.forget("head")
    it.manager.forget("base")
    assert it.manager.snapshot().models == {}


def test_a_policy_that_fails_or_miscounts_evicts_nothing(bench):
    class Wrong:
        def choose(self, candidates, need):
            if need == 1:
                raise ZeroDivisionError
            return tuple(candidates[:1])

    it = bench(8, policy=Wrong())
    it.add("a", 2)
    it.add("b", 6)
    it.add("one", 1)
    it.add("six", 6)
    it.manager.prefetch("a")
    it.manager.prefetch("b")
    for name in ("one", "six"):
        with pytest.raises(DeadlineError):
            it.manager.lease(name, timeout_s=0.01)
    assert it.state("a") == it.state("b") == "resident"


def test_a_closed_manager_has_freed_everything_and_refuses(bench, background):
    it = bench(4)
    it.add("a", 4, pinned=True)
    it.add("b", 2)
    lease = it.manager.lease("a")
    with pytest.raises(DeadlineError, match="a not back"):
        it.manager.close(timeout_s=0.01)
    lease.release()
    it.manager.close()
    assert it.gpu.used() == 0
    with pytest.raises(ClosedError):
        it.manager.lease("b")


def test_bad_models_are_refused_with_the_remedy(bench):
    it = bench(8)
    with pytest.raises(DependencyCycleError, match="a -> b -> a"):
        it.manager.register(it.spec("a", 1, needs=("b",)), it.spec("b", 1, needs=("a",)))
    with pytest.raises(ModelTooLargeError, match="declares 9 bytes in gpu, the budget is 8"):
        it.add("large", 9)
    with pytest.raises(UnknownModelError, match="no model 'ghost'"):
        it.add("c", 1, needs=("ghost",))
    with pytest.raises(UnknownModelError, match="registered: none"):
        it.manager.lease("nothing")
    with pytest.raises(ValueError, match="expected an int above 0"):
        ModelSpec("x", None, {Place.GPU: 0})


def test_the_core_imports_no_torch():
    code = (
        "import sys, flow_rag_vla.residency.manager, flow_rag_vla.residency.pipeline, flow_rag_vla.residency.simulated;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
