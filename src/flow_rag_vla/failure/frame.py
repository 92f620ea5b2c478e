# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is known when a picture has been turned into an embedding and a chunk: the input of every score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH

PROPRIOCEPTION_DIM = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """One observation of a running episode, with the plan that was made of it.

    stamp_ns: capture time of the images
    elapsed: seconds since the episode began, as an episode at full speed counts them; times are compared with those
    pace: share of the speed at which it is done
    goal: what is to be done; None if the instruction was not understood
    phase: of the manipulation, and ``phase_elapsed``, the seconds since it began
    embedding: (D,) float32, unit length
    position: (3,) float64, tool centre point, metres; yaw: of the hand, radians
    gripper_width: metres; opening: commanded, 0 to 1
    strain: strongest evidence of a rule since the frame before, as a share of its threshold
    evidence: confidences of the rules' reports in this episode, added up; time that ran out is left out
    chunk: made of this observation; None if none came
    """

    stamp_ns: int
    elapsed: float
    task: str
    goal: Goal | None
    phase: Phase
    phase_elapsed: float
    embedding: NDArray[np.float32]
    position: NDArray[np.float64]
    yaw: float
    gripper_width: float
    opening: float
    strain: float
    evidence: float
    chunk: ActionChunk | None = None
    pace: float = 1.0

    def proprioception(self) -> NDArray[np.float32]:
        """(7,) float32: position, heading, finger width and commanded opening, each spanning about one."""
        x, y, z = (float(value) for value in self.position)
        return np.array(
            [
                (x - 0.475) * 5.0,
                y * 5.0,
                (z - 0.15) * 5.0,
                # The hand looks the same after half a turn.
                math.cos(2.0 * self.yaw),
                math.sin(2.0 * self.yaw),
                self.gripper_width / GRIPPER_MAX_WIDTH * 2.0 - 1.0,
                1.0 if self.opening >= 0.5 else -1.0,
            ],
            dtype=np.float32,
        )


def hand_yaw(orientation: NDArray[np.float64]) -> float:
    """Heading of a hand, radians, of a unit quaternion (4,) x y z w."""
    return float(yaw_of(np.asarray(orientation, dtype=np.float64)))
