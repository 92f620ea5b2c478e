# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Random sequences: never over a budget, what can be given is given, what is leased stays."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from flow_rag_vla.residency.errors import DeadlineError, InUseError, LoadError, ModelTooLargeError
from flow_rag_vla.residency.manager import Lease, ResidencyManager
from flow_rag_vla.residency.model import ModelSpec, Place, State
from flow_rag_vla.residency.simulated import SimulatedDevice, SimulatedLoader

SIZES = {"base": 3, "head": 2, "large": 6, "small": 1, "medium": 4}
NEEDS = {"head": ("base",)}
PARKED = ("base", "medium")
GPU_BUDGET, HOST_BUDGET = 8, 5
NAMES = st.sampled_from(sorted(SIZES))


class Residency(RuleBasedStateMachine):
    leases = Bundle("leases")

    @initialize(understated=st.booleans())
    def start(self, understated: bool) -> None:
        self.devices = {
            Place.GPU: SimulatedDevice(Place.GPU, GPU_BUDGET),
            Place.HOST: SimulatedDevice(Place.HOST, HOST_BUDGET),
        }
        self.manager = ResidencyManager(list(self.devices.values()))
        self.failing: set[str] = set()
        self.pins: list[str] = []
        self.held: list[Lease] = []
        for name, size in SIZES.items():
            loader = SimulatedLoader(self.devices, size, fail=self._breaker(name))
            # One model declares less than it takes.
            declared = {Place.GPU: 2 if understated and name == "medium" else size}
            if name in PARKED:
                declared[Place.HOST] = size
            self.manager.register(ModelSpec(name, loader, declared, needs=NEEDS.get(name, ()), priority=size % 2))

    def _breaker(self, name: str):
        def fail(target: Place) -> None:
            if name in self.failing and target is Place.GPU:
                raise OSError("the file is gone")

        return fail

    def _closure(self, *names: str) -> set[str]:
        return {one for name in names for one in (name, *NEEDS.get(name, ()))}

    def _try(self, names: tuple[str, ...]) -> Lease | None:
        closure = self._closure(*names)
        busy = self._closure(*(one for lease in self.held for one in lease.names), *self.pins)
        fits = sum(SIZES[one] for one in closure | busy) <= GPU_BUDGET
        models = self.manager.snapshot().models
        breaks = any(models[one].state is not State.RESIDENT and one in self.failing for one in closure)
        if not fits:
            # A loader that fails while it is found out how much the model takes is told first.
            with pytest.raises(
                (DeadlineError, ModelTooLargeError, LoadError) if breaks else (DeadlineError, ModelTooLargeError)
            ):
                self.manager.lease(*names, timeout_s=0.01)
            return None
        if breaks:
            with pytest.raises(LoadError, match="the file is gone"):
                self.manager.lease(*names)
            return None
        return self.manager.lease(*names)

    @rule(target=leases, names=st.lists(NAMES, min_size=1, max_size=2, unique=True))
    def acquire(self, names: list[str]) -> Lease | None:
        lease = self._try(tuple(names))
        if lease is not None:
            self.held.append(lease)
        return lease

    @rule(lease=consumes(leases))
    def release(self, lease: Lease | None) -> None:
        if lease is not None:
            lease.release()
            self.held.remove(lease)

    @rule(name=NAMES)
    def pin(self, name: str) -> None:
        lease = self._try((name,))
        if lease is not None:
            self.manager.pin(name)
            self.pins.append(name)
            lease.release()

    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        if self.pins:
            name = data.draw(st.sampled_from(self.pins))
            self.pins.remove(name)
            self.manager.unpin(name)

    @rule(name=NAMES)
    def evict(self, name: str) -> None:
        users = {one for one in SIZES if name in self._closure(one)}
        busy = self._closure(*(one for lease in self.held for one in lease.names), *self.pins)
        self.manager.settle()
        if users & busy and self.manager.snapshot().models[name].state is not State.COLD:
            with pytest.raises(InUseError):
                self.manager.evict(name)
        else:
            self.manager.evict(name)
            model = self.manager.snapshot().models[name]
            assert model.state in (State.COLD, State.FAILED) and not model.charged

    @rule(name=NAMES)
    def break_loader(self, name: str) -> None:
        self.failing.add(name)

    @rule(name=NAMES)
    def mend_loader(self, name: str) -> None:
        self.failing.discard(name)

    @invariant()
    def books_agree_with_the_device(self) -> None:
        self.manager.settle()
        snapshot = self.manager.snapshot()
        for place, device in self.devices.items():
            assert snapshot.places[place].charged == device.used()
            assert snapshot.places[place].peak <= device.budget
        resident = {name for name, model in snapshot.models.items() if model.state is State.RESIDENT}
        for name in resident:
            assert set(NEEDS.get(name, ())) <= resident
        for lease in self.held:
            assert self._closure(*lease.names) <= resident
        assert self._closure(*self.pins) <= resident
        assert snapshot.waiting == 0

    def teardown(self) -> None:
        for lease in self.held:
            lease.release()
        self.manager.close()
        assert all(device.used() == 0 for device in self.devices.values())


TestResidency = Residency.TestCase
TestResidency.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
