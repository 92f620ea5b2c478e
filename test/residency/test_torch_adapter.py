from __future__ import annotations

import pytest
import torch

from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.residency.errors import ModelTooLargeError
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
