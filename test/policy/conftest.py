# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.checkpoint import EncoderIdentity, PolicyConfig
from flow_rag_vla.policy.network import CONDITION_DIM, PolicyNetwork
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.readout import ReadoutConfig
from flow_rag_vla.policy.velocity import VelocityConfig

DIMENSION = 12


def make_tiny_network(seed: int = 0, horizon: int = 16) -> tuple[PolicyNetwork, PolicyConfig]:
    velocity = VelocityConfig(horizon, 5, CONDITION_DIM, width=16, blocks=1, time_features=8)
    readout = ReadoutConfig(DIMENSION, width=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PolicyNetwork(velocity, readout)
        # Blocks begin as the identity; random weights make every input matter.
        for block in network.velocity.blocks:
            torch.nn.init.normal_(block.second.weight, std=0.3)
    return network, PolicyConfig(EncoderIdentity("tiny", "abc", DIMENSION), velocity, readout)


@pytest.fixture
def tiny_network() -> Callable[..., tuple[PolicyNetwork, PolicyConfig]]:
    return make_tiny_network


@pytest.fixture
def policy() -> FlowPolicy:
    network, config = make_tiny_network()
    return FlowPolicy(network, config, revision="r1")


@pytest.fixture
def embedding() -> np.ndarray:
    vector = np.random.default_rng(3).normal(size=DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def state() -> RobotState:
    return RobotState(stamp_ns=1_000_000_000, position=np.array([0.5, 0.1, 0.2]), orientation=np.array([1.0, 0, 0, 0]))
