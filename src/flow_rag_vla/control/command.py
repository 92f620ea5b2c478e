# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the control loop is told of an episode, and what it tells the robot."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import Clamp
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.core.action import Provenance
from flow_rag_vla.core.state import CartesianTarget


@dataclass(frozen=True, slots=True)
class Episode:
    """What the loop needs to know of an episode.

    resetting: the robot is being put into its start; the target follows it
    remaining_s: seconds until the episode's own limit; None if it has none
    pace: share of the speed at which it is done, above 0 and at most 1; an episode with another is not followed
    """

    episode_id: int = 0
    running: bool = False
    resetting: bool = False
    task: str = ""
    stamp_ns: int = 0
    remaining_s: float | None = None
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """What the robot is told at one tick, and why.

    action: (7,) float32, as sent, after clamps, units of ActionChunk
    target: absolute; None only before the first robot state, when no pose is known that would be safe to name
    chunk_id, chunk_index, observation_age_ms, provenance: of the chunk followed, or of the one that the memory holds
    pace: share of the speed in force
    """

    tick: int
    stamp_ns: int
    action: NDArray[np.float32]
    target: CartesianTarget | None
    mode: Mode
    reason: Reason = Reason.NONE
    reason_text: str = ""
    clamps: Clamp = Clamp.NONE
    chunk_id: int = 0
    chunk_index: int = 0
    observation_age_ms: float = 0.0
    provenance: Provenance = field(default_factory=Provenance)
    pace: float = 1.0
