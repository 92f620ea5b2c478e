# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Many threads at a full budget: never over it, no wakeup lost, nobody locked up."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.residency.errors import CanceledError, LoadError
from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.model import Cancel, ModelSpec, Place
from flow_rag_vla.residency.scheduling import Scheduler
from flow_rag_vla.residency.simulated import SimulatedDevice, SimulatedLoader

SIZES = {"base": 3, "head": 2, "large": 6, "small": 1, "medium": 4, "odd": 3}
NEEDS = {"head": ("base",)}
GPU, HOST = 8, 5

ASKS = st.tuples(
    st.sampled_from(["lease", "lease", "lease", "cancel", "prefetch", "try", "phase", "evict"]),
    st.lists(st.sampled_from(["base", "head", "small", "odd"]), min_size=1, max_size=2, unique=True).map(tuple)
    | st.sampled_from([("large",), ("medium",), ("large", "small"), ("medium", "odd")]),
    st.integers(0, 3),
)


class Crowd:
    """Threads that each do a list of asks; whatever can be given must be given."""

    def __init__(self, plans, flaky, understated):
        self.gpu, self.host = SimulatedDevice(Place.GPU, GPU), SimulatedDevice(Place.HOST, HOST)
        devices = {Place.GPU: self.gpu, Place.HOST: self.host}
        self.manager = ResidencyManager(
            [self.gpu, self.host], scheduler=Scheduler(ageing_s=0.01, max_wait_s=0.02), min_resident_s=0.001
        )
        self.turns = Counter()
        for name, size in SIZES.items():

            def fail(place, name=name):
                self.turns[name] += 1
                if flaky and place is Place.GPU and self.turns[name] % 5 == 0:
                    raise OSError("flaky")

            declared = {Place.GPU: 1 if understated and name == "odd" else size}
            if name in ("base", "medium"):
                declared[Place.HOST] = size
            loader = SimulatedLoader(devices, size, fail=fail, work=lambda size: time.sleep(0.0005))
            self.manager.register(ModelSpec(name, loader, declared, needs=NEEDS.get(name, ())))
        self.problems = []
        self.threads = [threading.Thread(target=self.run, args=(plan,), daemon=True) for plan in plans]

    def run(self, plan):
        for kind, names, priority in plan:
            try:
                self.ask(kind, names, priority)
            except (LoadError, CanceledError):
                pass
            except BaseException as error:
                self.problems.append(error)

    def ask(self, kind, names, priority):
        manager = self.manager
        if kind == "lease":
            with manager.lease(*names, priority=priority) as lease:
                assert all(lease[name] is not None for name in names)
        elif kind == "try":
            lease = manager.try_lease(*names)
            if lease is not None:
                lease.release()
        elif kind == "cancel":
            cancel = Cancel()
            timer = threading.Timer(0.001 * priority, cancel.cancel)
            timer.start()
            try:
                manager.lease(*names, cancel=cancel).release()
            finally:
                timer.join()
        elif kind == "prefetch":
            manager.prefetch(*names, priority=priority)
        elif kind == "phase":
            manager.enter_phase("p", *names)
        else:
            manager.settle()

    def finish(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join(90.0)
            assert not thread.is_alive(), f"locked up: {self.manager.snapshot()}"
        assert not self.problems, self.problems
        self.manager.settle()
        snapshot = self.manager.snapshot()
        assert snapshot.waiting == 0 and not any(one.leases for one in snapshot.models.values())
        for device in (self.gpu, self.host):
            assert snapshot.places[device.place].charged == device.used() <= device.budget
            assert snapshot.places[device.place].peak <= device.budget
        self.manager.close()
        assert self.gpu.used() == self.host.used() == 0


@pytest.fixture(autouse=True, scope="module")
def _hectic():
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100.0)
    yield
    sys.setswitchinterval(before)


# A request has 60 s and each lease is given back at once: a deadline that passes is a wakeup that was lost.
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    plans=st.lists(st.lists(ASKS, min_size=1, max_size=12), min_size=2, max_size=8),
    flaky=st.booleans(),
    understated=st.booleans(),
)
def test_whatever_threads_ask_together_ends_well_and_within_the_budgets(plans, flaky, understated):
    Crowd(plans, flaky, understated).finish()


def test_a_thread_that_holds_one_model_and_asks_for_another_is_ended_by_its_deadline(bench, background):
    it = bench(4)
    it.add("a", 2)
    it.add("b", 2)
    it.add("c", 2)
    both = threading.Barrier(2)

    def greedy(first, second):
        with it.manager.lease(first):
            both.wait(60.0)
            try:
                it.manager.lease(second, timeout_s=0.2).release()
            except Exception as error:
                return type(error).__name__
            return "got it"

    # Together they would need a, b and c twice: one of them must be ended, and then the other goes on or is ended too.
    asking = [background(lambda: greedy("a", "c")), background(lambda: greedy("b", "c"))]
    assert {one.join() for one in asking} <= {"DeadlineError", "got it"}
    it.manager.lease("c").release()
    assert it.gpu.peak <= 4
