# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What may be set about a control loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.control.ladder import LadderTimes, Reason, Steps


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Everything that may be set about a loop. Times in nanoseconds, lengths in metres."""

    max_observation_age_ns: int = 600_000_000
    max_state_age_ns: int = 250_000_000
    max_takeover_age_ns: int = 250_000_000
    future_tolerance_ns: int = 50_000_000
    clock_jump_ns: int = 200_000_000
    state_jump_m: float = 0.10
    episode_grace_ns: int = 5_000_000_000
    statistics_window_ticks: int = 400
    limits: MotionLimits = field(default_factory=MotionLimits)
    arbiter: ArbiterSettings = field(default_factory=ArbiterSettings)
    ladder: LadderTimes = field(
        default_factory=lambda: LadderTimes(
            by_reason={
                Reason.STATE_MISSING: Steps(0, 200_000_000),
                Reason.STATE_TOO_OLD: Steps(0, 200_000_000),
                Reason.MEMORY_HOLD: Steps(3_000_000_000, 500_000_000),
            }
        )
    )
