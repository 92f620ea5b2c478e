# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the flow policy."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.bringup.parameters.controller import deciding_priority
from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class FlowPolicyParameters:
    """Embedding, proprioception and goal in, one action chunk out."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false: wait for a lifecycle manager (ros2 lifecycle set)"
    )
    checkpoint: str = parameter("", "Folder of the policy checkpoint; empty: the one that ships")
    device: str = parameter("auto", "Where it runs; auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))
    threads: int = parameter(1, "CPU threads of the policy", minimum=1, maximum=64)
    realtime_priority: int = deciding_priority()
    model_memory: float = parameter(
        0.0,
        "Memory that the model's weights may take where it runs, one that needs more is not loaded; 0: all there is",
        unit="MB",
        minimum=0.0,
        maximum=1e7,
    )
    solver: str = parameter("euler", "How the flow is integrated", choices=("euler", "heun"), live=True)
    steps: int = parameter(6, "Integration steps of the flow", minimum=1, maximum=100, live=True)
    samples: int = parameter(
        4, "Chunks sampled at once; their spread is the uncertainty", minimum=1, maximum=64, live=True
    )
    guidance_strength: float = parameter(
        1.0,
        "Share of the strength with which the memory's corrections act on the samples; 0: none of them does",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    seed: int = parameter(0, "Base of the noise seeds", minimum=0, maximum=2**31 - 1)
    correction_budget: float = parameter(
        0.015, "How long a chunk waits for the failure memory's answer", unit="s", minimum=0.0, maximum=0.1, live=True
    )
    max_embedding_age: float = parameter(
        0.5,
        "Embeddings older than this, or further in the future, make no chunk",
        unit="s",
        minimum=0.02,
        maximum=10.0,
        live=True,
    )
    state_tolerance: float = parameter(
        0.05,
        "Largest distance between an embedding's stamp and its robot state's",
        unit="s",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
