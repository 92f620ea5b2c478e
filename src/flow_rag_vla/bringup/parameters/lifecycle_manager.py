# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the lifecycle manager."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter

MANAGED = ("camera_encoder", "failure_memory", "flow_policy", "failure_detector")
"""The managed nodes of the graph, in the order of the data flow."""


@dataclass(frozen=True, slots=True)
class LifecycleManagerParameters:
    """Which nodes are brought to work, and in which order."""

    nodes: tuple[str, ...] = parameter(MANAGED, "Managed nodes of this namespace, in the order of the data flow")
    patience: float = parameter(
        5.0,
        "A node that has not told its state for so long, and loads nothing, is not there",
        unit="s",
        minimum=0.5,
        maximum=600.0,
        live=True,
    )
