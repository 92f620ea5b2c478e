# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Brings a chunk and the memory's correction of it together, under a latency budget.

This is the controller's half of the dual pathway: the policy and the memory start on the same observation, and
whichever is late is not waited for. Guidance and negative examples act inside the policy, so here they are only
provenance; what is left to the controller is a residual, the seeds' weighted average (the baseline) and a request to
hold.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.queue import HeldChunk
from flow_rag_vla.core.action import ACTION_DIM, ActionChunk, CorrectionMode, invalid_actions
from flow_rag_vla.core.correction import Correction

CONTROLLER_MODES = frozenset({CorrectionMode.RESIDUAL, CorrectionMode.BLEND, CorrectionMode.HOLD})
"""Corrections that act here; the others act inside the policy."""

SHAPED = CONTROLLER_MODES | {CorrectionMode.GUIDANCE, CorrectionMode.NEGATIVE, CorrectionMode.SHIFT}

_KEPT = 8
"""Corrections that wait for their chunk. More would be older than any chunk that can still come."""


class CorrectionRefusal(str, Enum):
    """Why a correction did not act."""

    INVALID = "invalid"
    LATE = "late"
    SUPERSEDED = "its chunk was superseded"


@dataclass(frozen=True, slots=True)
class ArbiterSettings:
    """How far a correction may go.

    budget_ns: how much later than its chunk a correction may come
    blend_weight: share of the correction in a blend (0.3 in the seeds)
    residual_limit: largest residual per tick: metres, radians, gripper opening
    """

    budget_ns: int = 3_000_000
    blend_weight: float = 0.3
    residual_limit: tuple[float, float, float] = (0.004, 0.02, 0.0)


class Arbiter:
    """Applies each correction to the one chunk whose observation it answers, once, to rows not yet committed."""

    def __init__(self, settings: ArbiterSettings | None = None) -> None:
        self.settings = settings or ArbiterSettings()
        self.applied = 0
        """Chunks that a correction shaped, here or inside the policy."""
        self.timed_out = 0
        """Corrections that came too late, here or inside the policy."""
        self.invalid = 0
        self._waiting: OrderedDict[int, Correction] = OrderedDict()

    def clear(self) -> None:
        """Forget corrections that wait for their chunk."""
        self._waiting.clear()

    def on_chunk(self, held: HeldChunk, first_row: int) -> None:
        """Take note of a chunk just accepted, and apply its correction if that is already here.

        first_row: the row that the next command uses; those before it are history.
        """
        mode = held.chunk.provenance.correction
        if mode in SHAPED:
            self.applied += 1
        elif mode is CorrectionMode.TIMEOUT:
            self.timed_out += 1
        correction = self._waiting.pop(held.chunk.stamp_ns, None)
        for stamp_ns in [stamp for stamp in self._waiting if stamp < held.chunk.stamp_ns]:
            del self._waiting[stamp_ns]
        if correction is not None:
            self._apply(correction, held, first_row)

    def offer(
        self, correction: Correction, held: HeldChunk | None, first_row: int, steady_ns: int
    ) -> tuple[CorrectionRefusal, str] | None:
        """Apply the correction, or keep it until its chunk comes; say why if it is ignored.

        A correction that has nothing to do here is passed over in silence.
        """
        problem = invalid_correction(correction)
        if problem is not None:
            self.invalid += 1
            return CorrectionRefusal.INVALID, f"correction of {correction.stamp_ns} ns: {problem}"
        if correction.mode not in CONTROLLER_MODES or correction.strength == 0.0:
            return None
        if held is None or correction.stamp_ns > held.chunk.stamp_ns:
            self._waiting[correction.stamp_ns] = correction
            while len(self._waiting) > _KEPT:
                self._waiting.popitem(last=False)
            return None
        if correction.stamp_ns < held.chunk.stamp_ns:
            return CorrectionRefusal.SUPERSEDED, "correction of an observation that a newer chunk has replaced"
        late_ns = steady_ns - held.arrival_steady_ns
        if late_ns > self.settings.budget_ns:
            if not held.corrected:
                self.timed_out += 1
                if held.chunk.provenance.correction is CorrectionMode.NONE:
                    held.chunk = _with_provenance(held.chunk, held.chunk.actions, CorrectionMode.TIMEOUT, correction)
            allowed_ms = self.settings.budget_ns / 1e6
            text = f"correction came {late_ns / 1e6:.1f} ms after its chunk, allowed are {allowed_ms:.1f} ms"
            return CorrectionRefusal.LATE, text
        self._apply(correction, held, first_row)
        return None

    def _apply(self, correction: Correction, held: HeldChunk, first_row: int) -> None:
        # A chunk that the memory already shaped inside the policy, or here, must not be corrected twice.
        if held.corrected or held.chunk.provenance.correction in SHAPED:
            return
        held.corrected = True
        self.applied += 1
        chunk, actions = held.chunk, held.chunk.actions
        if correction.mode is CorrectionMode.HOLD:
            held.hold = True
        else:
            start = max(first_row, chunk.committed)
            actions = self._corrected(correction, actions, start)
        held.chunk = _with_provenance(chunk, actions, correction.mode, correction)

    def _corrected(self, correction: Correction, actions: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        wanted = correction.actions
        if wanted is None:
            return actions
        end = min(actions.shape[0], wanted.shape[0])
        if start >= end:
            return actions
        result = actions.copy()
        rows = slice(start, end)
        if correction.mode is CorrectionMode.BLEND:
            weight = self.settings.blend_weight
            result[rows] = (1.0 - weight) * actions[rows] + weight * wanted[rows]
            return result
        failed = correction.failed_actions
        # What the memory would add to the motion that failed; without that motion, to the one now planned.
        base = actions[rows] if failed is None else failed[0, rows]
        translation, rotation, gripper = self.settings.residual_limit
        limit = np.array([translation] * 3 + [rotation] * 3 + [gripper], dtype=np.float32)
        result[rows] += correction.strength * np.clip(wanted[rows] - base, -limit, limit)
        return result


def invalid_correction(correction: Correction) -> str | None:
    """Say what is wrong with a correction, or None."""
    if not 0.0 <= correction.strength <= 1.0:
        return f"strength is {correction.strength}, expected 0 to 1"
    if correction.actions is not None:
        problem = invalid_actions(correction.actions)
        if problem is not None:
            return problem
    failed = correction.failed_actions
    if failed is not None:
        if failed.ndim != 3 or failed.shape[0] == 0 or failed.shape[2] != ACTION_DIM:
            return f"failed_actions have shape {failed.shape}, expected (N, H, {ACTION_DIM})"
        if correction.actions is not None and failed.shape[1] != correction.actions.shape[0]:
            return f"failed_actions have {failed.shape[1]} rows, actions {correction.actions.shape[0]}"
        if not np.isfinite(failed).all():
            return "failed_actions hold a number that is not finite"
    if correction.shift is not None and not np.isfinite(correction.shift).all():
        return "shift holds a number that is not finite"
    if correction.mode in (CorrectionMode.RESIDUAL, CorrectionMode.BLEND) and correction.actions is None:
        return f"a {correction.mode.name.lower()} without actions"
    return None


def _with_provenance(
    chunk: ActionChunk, actions: NDArray[np.float32], mode: CorrectionMode, correction: Correction
) -> ActionChunk:
    provenance = dataclasses.replace(
        chunk.provenance, correction=mode, correction_strength=correction.strength, case_ids=correction.case_ids
    )
    return dataclasses.replace(chunk, actions=actions, provenance=provenance)
