# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters that every node has."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class EveryNodeParameters:
    """Beside the parameters of its own."""

    open_to_network: bool = parameter(
        False,
        "Change memory, motion and parameters for callers on other hosts too, without SROS2 to say who they are",
    )
