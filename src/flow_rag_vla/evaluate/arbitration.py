# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The controller's half of a correction, for closed loops without the graph.

Guidance and negative examples act in the policy; a residual, a blend and a hold act on the chunk as it arrives, by the
controller's own arbiter. One object serves one episode: it stands between corrector and follower.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.arbiter import SHAPED, Arbiter, ArbiterSettings
from flow_rag_vla.control.queue import HeldChunk
from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.follower import Corrector


class Arbitration:
    """Asks a corrector, and applies what it answers where the controller would.

    Give ``correct`` to a follower as its corrector and ``arrive`` as what becomes of an arriving chunk.
    """

    def __init__(self, corrector: Corrector, settings: ArbiterSettings | None = None) -> None:
        self._corrector = corrector
        self._arbiter = Arbiter(settings)
        self._followed: ActionChunk | None = None
        self.modes: Counter[CorrectionMode] = Counter()
        """How many chunks were shaped in which mode."""
        self.cases: dict[CorrectionMode, set[int]] = {}
        """Ids of the cases that shaped them."""
        self.refused: list[str] = []
        """Why corrections were not applied."""

    def correct(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        """The corrector's answer; what of it is the controller's waits for the chunk of this stamp."""
        correction = self._corrector(embedding, state, goal, stamp_ns)
        if correction is not None:
            refusal = self._arbiter.offer(correction, None, 0, 0)
            if refusal is not None:
                self.refused.append(refusal[1])
                # The controller ignores it; the policy must not see what nobody may apply.
                return None
        return correction

    @property
    def followed_ns(self) -> int:
        """Capture stamp behind the chunk that is followed; 0 before the first."""
        return 0 if self._followed is None else self._followed.stamp_ns

    def arrive(self, chunk: ActionChunk, tick: int) -> ActionChunk:
        """The chunk as the controller follows it from ``tick`` on; a hold stands still with the hand as it is."""
        row = tick - chunk.stamp_ns // TICK_NS
        held = HeldChunk(chunk, tick * TICK_NS, row * TICK_NS)
        self._arbiter.on_chunk(held, row)
        used = held.chunk.provenance
        if used.correction in SHAPED:
            self.modes[used.correction] += 1
            self.cases.setdefault(used.correction, set()).update(used.case_ids)
        chunk = held.chunk
        if held.hold:
            still = np.zeros_like(chunk.actions)
            still[:, -1] = self._opening(tick - 1, chunk, row)
            chunk = dataclasses.replace(chunk, actions=still)
        self._followed = chunk
        return chunk

    def _opening(self, tick: int, chunk: ActionChunk, row: int) -> float:
        """Gripper opening commanded at ``tick``; before anything was, the one that the new chunk begins with."""
        before = self._followed
        if before is None:
            return float(chunk.actions[min(row, chunk.horizon - 1), -1])
        return float(before.actions[min(tick - before.stamp_ns // TICK_NS, before.horizon - 1), -1])
