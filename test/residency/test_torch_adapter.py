# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.residency.errors import LoadError, ModelTooLargeError
from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.model import ModelSpec, Place
from flow_rag_vla.residency.torch_adapter import ModuleLoader, ObjectLoader, TorchDevice, module_bytes, modules_in


def test_the_shipped_policy_is_held_measured_and_freed():
    manager = ResidencyManager([TorchDevice(Place.HOST, 500_000_000)])
    loader = ObjectLoader(lambda device: FlowPolicy.load(None, device))
    manager.register(ModelSpec("policy", loader, {Place.HOST: 1_000}))
    with manager.lease("policy") as lease:
        policy = lease.value
        assert policy.horizon == 16
        size = module_bytes(modules_in(policy))
        assert size > 1_000
        assert manager.snapshot().models["policy"].charged == {Place.HOST: size}
    manager.evict("policy")
    assert manager.snapshot().places[Place.HOST].charged == 0
    assert all(one.is_meta for module in modules_in(policy) for one in module.parameters())


def test_a_module_too_large_is_told_before_it_takes_the_memory():
    manager = ResidencyManager([TorchDevice(Place.HOST, 1_000)])
    manager.register(ModelSpec("layer", ModuleLoader(lambda: torch.nn.Linear(100, 100)), {Place.HOST: 10}))
    with pytest.raises(ModelTooLargeError, match="40400 bytes"):
        manager.lease("layer")


def test_modules_are_parked_in_host_memory_and_come_back_with_the_same_weights():
    # Both places are the CPU here: what is tried is the way of a module, not a device.
    places = {Place.GPU: "cpu", Place.HOST: "cpu"}
    size = 4 * (30 * 30 + 30)
    manager = ResidencyManager([TorchDevice(Place.GPU, size), TorchDevice(Place.HOST, 2 * size)])
    made = []
    for name in ("first", "second"):

        def make(name=name):
            made.append(name)
            return torch.nn.Linear(30, 30)

        loader = ModuleLoader(make, places)
        manager.register(ModelSpec(name, loader, {Place.GPU: size, Place.HOST: size}, staged=True))
    with manager.phase("one", "first") as lease:
        weights = lease.value.weight.clone()
    with manager.phase("two", "second"):
        assert manager.snapshot().models["first"].state.value == "parked"
    with manager.phase("three", "first") as lease:
        assert torch.equal(lease.value.weight, weights)
    assert made == ["first", "second"] and manager.snapshot().counts["parks"] == 2
    manager.close()
    assert all(place.charged == 0 for place in manager.snapshot().places.values())


def test_what_has_no_weights_cannot_be_measured_and_is_refused():
    manager = ResidencyManager([TorchDevice(Place.HOST, 1_000)])
    manager.register(ModelSpec("empty", ObjectLoader(lambda device: pytest.Item), {Place.HOST: 10}))
    with pytest.raises(LoadError, match="no torch module in"):
        manager.lease("empty")


def test_bytes_that_modules_share_count_once():
    one, two = torch.nn.Linear(10, 10), torch.nn.Linear(10, 10)
    apart = module_bytes([one, two])
    two.weight = one.weight
    assert (apart, module_bytes([one, two]), module_bytes([one])) == (880, 480, 440)


def test_an_object_is_made_anew_where_it_is_wanted_and_freed_where_it_was():
    loader = ObjectLoader(lambda device: torch.nn.Linear(3, 3), devices={Place.GPU: "cpu", Place.HOST: "cpu"})

    class Ticket:
        canceled = False

        def check(self):
            pass

        def claim(self, size):
            pass

    first = loader.load(Place.HOST, Ticket())
    second = loader.move(first.value, Place.HOST, Place.GPU, Ticket())
    assert first.value.weight.is_meta and not second.value.weight.is_meta and second.size == 48
