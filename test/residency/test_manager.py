from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from flow_rag_vla.residency.errors import (
    CanceledError,
    DeadlineError,
    DependencyCycleError,
    InUseError,
    LoadError,
    ModelTooLargeError,
    UnknownModelError,
)
from flow_rag_vla.residency.model import Cancel, ModelSpec, Place
from flow_rag_vla.residency.scheduling import Scheduler

GB = 1_000_000_000


def test_the_phases_of_a_deliberation_run_in_eight_gigabytes(bench):
    it = bench(8 * GB, 16 * GB)
    for name, size in (("llm", 4), ("analysis", 3), ("analyzers", 1), ("circuit", 1)):
        it.add(name, size * GB, parks=True)
    with it.manager.phase("first pass", "llm"):
        assert it.gpu.used() == 4 * GB
    with it.manager.phase("analysis", "analysis", "analyzers"):
        assert it.gpu.used() == 4 * GB
    with it.manager.phase("circuit", "circuit"):
        assert it.gpu.used() == 1 * GB
    with it.manager.phase("final", "llm"):
        assert it.gpu.used() == 4 * GB
    assert it.gpu.peak <= 8 * GB and it.gpu.synchronized == 4
    assert it.loaders["llm"].loads == 1, "the second time it comes back from host memory"


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
    while not it.manager.snapshot().waiting:
        waits.thread.join(0.001)
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


def test_a_barrier_that_cannot_drain_names_who_holds_and_lets_the_others_go_on(bench, background):
    it = bench(8)
    it.add("a", 4)
    it.add("b", 4)
    with it.manager.lease("a"):
        with pytest.raises(InUseError, match="holds a lease"):
            it.manager.enter_phase("next", "b")
        with pytest.raises(DeadlineError, match="a not back"):
            background(lambda: it.manager.enter_phase("next", "b", timeout_s=0.05)).join()
        with it.manager.lease("b"):
            pass


def test_a_forgotten_lease_is_given_back(bench):
    it = bench(4)
    it.add("a", 4)
    it.add("b", 4)
    it.manager.lease("a")
    gc.collect()
    it.manager.lease("b").release()
    assert it.manager.snapshot().counts["orphans"] == 1


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
