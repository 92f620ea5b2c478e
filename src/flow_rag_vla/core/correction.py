# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the failure memory tells the policy and the controller about a situation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import CorrectionMode

EARLY = 0.4
"""Share of the flow that decides the mode of a chunk; what follows makes it fit the observation."""


FARTHEST_SHIFT = 0.15
"""Metres: what is read farther off than this is another thing; no shift may be longer."""


def told_until(value: float) -> float:
    """Share of the flow of a message's field: 0, or a field that an older message lacks, is EARLY.

    A message holds a float32: rounded, or a step of the flow at exactly 0.4 would be before 0.4.

    Raises:
        ValueError: outside 0 to 1, or not a number.
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"guidance_until is {value}, expected 0 to 1")
    return round(value, 6) or EARLY


@dataclass(frozen=True, slots=True)
class Correction:
    """A remembered answer to the situation seen at ``stamp_ns``.

    actions: (H, 7) float32, what to do instead, units of ActionChunk; None if not known
    failed_actions: (N, H, 7) float32, what failed before in this situation; None if not known
    strength: 0 (ignore) to 1; case_ids: the cases used, most similar first
    shift: (3,) float32, metres along the base's axes: in mode SHIFT the target is taken to be so much farther than it
        is read; None if not known
    until: share of the flow, from its start, during which guidance acts: EARLY chooses among what the policy would do,
        1 leads to ``actions`` whatever the policy sees
    state_stamp_ns: stamp of the robot state that was part of the situation; 0: none was, or not said
    """

    stamp_ns: int
    mode: CorrectionMode = CorrectionMode.NONE
    strength: float = 0.0
    actions: NDArray[np.float32] | None = None
    failed_actions: NDArray[np.float32] | None = None
    case_ids: tuple[int, ...] = ()
    until: float = EARLY
    shift: NDArray[np.float32] | None = None
    state_stamp_ns: int = 0
