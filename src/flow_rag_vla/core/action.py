# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The action space and the chunk of actions that a policy hands to the controller."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ACTION_DIM = 7
"""dx, dy, dz (metres per tick), droll, dpitch, dyaw (radians per tick), gripper (0 closed to 1 open)."""

TRANSLATION, ROTATION, MOTION = slice(0, 3), slice(3, 6), slice(0, 6)
YAW, GRIPPER = 5, 6
"""Where the parts of an action stand, on the last axis of any array of actions."""

CLOSED_BELOW = 0.5
"""A commanded opening of the gripper (0 to 1) below this means: close."""

CONTROL_RATE_HZ = 40.0
TICK_S = 1.0 / CONTROL_RATE_HZ
TICK_NS = 25_000_000

MAX_TRANSLATION_PER_TICK = 0.012
"""Metres. 0.48 m/s at 40 Hz: what the scripted expert needs and a person can still step back from."""

MAX_ROTATION_PER_TICK = 0.06
"""Radians. 2.4 rad/s at 40 Hz."""


class CorrectionMode(IntEnum):
    """How a remembered failure shaped a chunk. Values equal Provenance.CORRECTION_*."""

    NONE = 0
    GUIDANCE = 1
    NEGATIVE = 2
    RESIDUAL = 3
    BLEND = 4
    HOLD = 5
    TIMEOUT = 6
    SHIFT = 7


@dataclass(frozen=True, slots=True)
class Provenance:
    """Why an action is what it is; carried from the observation to the command.

    state_stamp_ns: stamp of the robot state that the policy went by; 0: not said
    """

    observation_stamp_ns: int = 0
    policy: str = ""
    policy_revision: str = ""
    noise_seed: int = 0
    correction: CorrectionMode = CorrectionMode.NONE
    correction_strength: float = 0.0
    case_ids: tuple[int, ...] = ()
    state_stamp_ns: int = 0


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """A short plan; row i is meant for the tick at ``stamp_ns + i * TICK_NS``.

    actions: (H, 7) float32, metres and radians per tick, gripper 0 to 1
    uncertainty: (H,) float32, standard deviation over samples in normalised units
    committed: leading rows that repeat the chunk before
    """

    chunk_id: int
    stamp_ns: int
    actions: NDArray[np.float32]
    task: str = ""
    uncertainty: NDArray[np.float32] | None = None
    committed: int = 0
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def horizon(self) -> int:
        """Number of rows."""
        return int(self.actions.shape[0])

    @property
    def end_ns(self) -> int:
        """Time at which the last row has been used up."""
        return self.stamp_ns + self.horizon * TICK_NS


def invalid_actions(actions: NDArray[np.floating]) -> str | None:
    """Say what is wrong with an action array, or None.

    Any (H, 7) array of finite numbers with at least one row is valid; limits are the controller's matter.
    """
    if actions.ndim != 2 or actions.shape[1] != ACTION_DIM:
        return f"actions have shape {actions.shape}, expected (H, {ACTION_DIM})"
    if actions.shape[0] == 0:
        return f"actions have no rows, expected (H, {ACTION_DIM}) with H of at least 1"
    finite = np.isfinite(actions)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        return f"actions[{row}, {column}] is {actions[row, column]}, expected a finite number"
    return None
