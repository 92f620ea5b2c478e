# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Barriers: the seed's phases in 8 GB, and what can keep one from being through."""

from __future__ import annotations

import threading

import pytest

from flow_rag_vla.residency.errors import DeadlineError, InUseError, ResidencyError
from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.model import Memory, ModelSpec, Place
from flow_rag_vla.residency.simulated import SimulatedDevice, SimulatedLoader

GB = 1_000_000_000


def test_the_phases_of_a_deliberation_run_in_eight_gigabytes(bench):
    it = bench(8 * GB, 16 * GB)
    for name, size in (("llm", 4), ("analysis", 3), ("analyzers", 1), ("circuit", 1)):
        it.add(name, size * GB, parks=True)
    for _ in range(3):
        with it.manager.phase("first pass", "llm"):
            assert it.gpu.used() == 4 * GB
        with it.manager.phase("analysis", "analysis", "analyzers"):
            assert it.gpu.used() == 4 * GB
        with it.manager.phase("circuit", "circuit"):
            assert it.gpu.used() == 1 * GB
        with it.manager.phase("final", "llm"):
            assert it.gpu.used() == 4 * GB
    assert it.gpu.peak <= 8 * GB and it.gpu.synchronized == 12
    # A model that takes more than the device has would have raised DeviceMemoryError in its loader.
    assert it.manager.snapshot().counts["failures"] == it.manager.snapshot().counts["outgrown"] == 0
    assert all(loader.loads == 1 for loader in it.loaders.values()), "later they come back from host memory"


def test_without_host_memory_the_phases_load_from_disk_again(bench):
    it = bench(4 * GB)
    for name, size in (("llm", 4), ("analysis", 3), ("analyzers", 1)):
        it.add(name, size * GB)
    for name, models in (("first", ("llm",)), ("middle", ("analysis", "analyzers")), ("final", ("llm",))):
        report = it.manager.enter_phase(name, *models)
        assert report.loaded == models
    assert it.loaders["llm"].loads == 2 and it.gpu.peak == 4 * GB


def test_a_barrier_waits_for_leases_and_keeps_new_ones_out_until_it_is_through(bench, background):
    it = bench(8)
    it.add("a", 4)
    it.add("b", 4)
    lease = it.manager.lease("a")
    enters = background(lambda: it.manager.enter_phase("next", "b"))
    while it.manager._books.gate != "next":
        enters.thread.join(0.001)
    assert background(lambda: it.manager.try_lease("a")).join() is None
    asks = background(lambda: it.manager.lease("a"))
    while not it.manager.snapshot().waiting:
        asks.thread.join(0.001)
    assert it.gpu.synchronized == 0
    lease.release()
    report = enters.join()
    assert report.evicted == ("a",) and report.loaded == ("b",) and it.gpu.synchronized == 1
    asks.join().release()


def test_a_thread_that_holds_a_lease_may_take_another_while_a_barrier_drains(bench, background):
    it = bench(8)
    it.add("a", 4)
    it.add("b", 4)
    go = threading.Event()

    def work():
        with it.manager.lease("a"):
            go.wait(60.0)
            with it.manager.lease("b"):
                return it.gpu.used()

    working = background(work)
    while not it.manager.snapshot().models["a"].leases:
        working.thread.join(0.001)
    enters = background(lambda: it.manager.enter_phase("next"))
    while it.manager._books.gate != "next":
        enters.thread.join(0.001)
    go.set()
    assert working.join() == 8
    assert enters.join().evicted == ("a", "b")


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
    assert it.manager.enter_phase("next", "b").evicted == ("a",)


def test_one_barrier_at_a_time(bench, background):
    it = bench(8)
    it.add("a", 4)
    with it.manager.lease("a"):
        first = background(lambda: it.manager.enter_phase("first"))
        while it.manager._books.gate != "first":
            first.thread.join(0.001)
        with pytest.raises(DeadlineError, match="another barrier"):
            background(lambda: it.manager.enter_phase("second", timeout_s=0.02)).join()
    assert first.join().name == "first"


class Stubborn(SimulatedDevice):
    def __init__(self, synchronize):
        super().__init__(Place.GPU, 8)
        self.how = synchronize

    def synchronize(self):
        self.how()


def broken():
    raise RuntimeError("device lost")


def test_a_device_that_hangs_or_fails_ends_the_barrier_with_its_name():
    go = threading.Event()
    for how, error, said in (
        (lambda: go.wait(60.0), DeadlineError, "gpu has not finished its work"),
        (broken, ResidencyError, "synchronizing gpu failed: device lost"),
    ):
        device = Stubborn(how)
        manager = ResidencyManager([device])
        manager.register(ModelSpec("a", SimulatedLoader({Place.GPU: device}, 4), {Place.GPU: 4}))
        with pytest.raises(error, match=said):
            manager.enter_phase("next", "a", timeout_s=0.05)
        with manager.lease("a"):
            assert device.used() == 4, "requests go on"
    go.set()


def test_what_runs_in_host_memory_stays_through_the_phases_of_the_gpu():
    gpu, host = SimulatedDevice(Place.GPU, 8), SimulatedDevice(Place.HOST, 8)
    devices = {Place.GPU: gpu, Place.HOST: host}
    manager = ResidencyManager([gpu, host])
    manager.register(
        ModelSpec("embedder", SimulatedLoader(devices, 3), {Place.HOST: 3}),
        ModelSpec("llm", SimulatedLoader(devices, 6), {Place.GPU: 6}),
    )
    manager.prefetch("embedder")
    assert manager.enter_phase("answer", "llm").evicted == ()
    assert manager.enter_phase("idle").evicted == ("llm",)
    assert manager.snapshot().models["embedder"].state.value == "resident"


def test_a_memory_of_which_only_the_budget_is_known_does_as_a_device():
    memory = Memory(Place.HOST, 4)
    manager = ResidencyManager([memory])
    assert manager.enter_phase("x").drained_s >= 0.0 and manager.relieve(Place.HOST) == 0
