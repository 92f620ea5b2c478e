# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the processes that the chaos suite runs beside the graph."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.bringup.parameters.controller import LOOP_PRIORITY
from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class ChaosMonitorParameters:
    """The independent watch on the command stream."""

    profile: str = parameter(
        "mock",
        "Robot profile whose limits hold: the name of one that ships, or a YAML file; empty: the loop's own alone",
    )
    output: str = parameter("", "File that gets one line of JSON for each thing noticed")


@dataclass(frozen=True, slots=True)
class ChaosPulseParameters:
    """An empty 40 Hz timer: what the machine does to every timer."""

    output: str = parameter("", "File that gets one line of JSON for each late tick")
    niceness: int = parameter(
        -10, "Priority where the system permits it, as the loop's; lower is more", minimum=-20, maximum=19
    )
    realtime_priority: int = parameter(
        LOOP_PRIORITY, "SCHED_FIFO priority where the system permits it, as the loop's", minimum=0, maximum=98
    )


@dataclass(frozen=True, slots=True)
class ChaosRelayParameters:
    """Stands in five of the graph's links and does to their messages what it is told."""

    topic: str = parameter("", "Link that is disturbed; empty: none", live=True)
    delay: float = parameter(0.0, "How much later its messages are passed on", unit="s", minimum=0.0, maximum=5.0,
                             live=True)  # fmt: skip
    drop: float = parameter(0.0, "Share of its messages that is lost", minimum=0.0, maximum=1.0, live=True)
    duplicate: float = parameter(0.0, "Share that is passed on twice", minimum=0.0, maximum=1.0, live=True)
    reorder: float = parameter(0.0, "Share that is passed on behind the next one", minimum=0.0, maximum=1.0, live=True)
    seed: int = parameter(0, "Of the generator that chooses messages", minimum=0, maximum=2**31 - 1)
