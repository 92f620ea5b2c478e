# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Corrections that are the controller's, in a closed loop without the graph."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.arbitration import Arbitration

STATE = RobotState(0, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
SEEN = np.eye(4, dtype=np.float32)[0]


def chunk(tick: int, value: float, committed: int = 2, opening: float = 1.0) -> ActionChunk:
    actions = np.full((8, 7), value, dtype=np.float32)
    actions[:, 6] = opening
    return ActionChunk(tick + 1, tick * TICK_NS, actions, committed=committed)


def answering(mode: CorrectionMode, value: float | None, *, failed: float | None = None, strength: float = 1.0):
    def correct(embedding, state, goal, stamp_ns):
        wanted = None if value is None else np.full((8, 7), value, dtype=np.float32)
        stack = None if failed is None else np.full((1, 8, 7), failed, dtype=np.float32)
        return Correction(stamp_ns, mode, strength, wanted, stack, (4, 7))

    return correct


def followed(corrector, settings=None, first: ActionChunk | None = None) -> tuple[Arbitration, ActionChunk]:
    arbitration = Arbitration(corrector, settings)
    if first is not None:
        arbitration.arrive(first, 1)
    arbitration.correct(SEEN, STATE, GOALS[0], 4 * TICK_NS)
    return arbitration, arbitration.arrive(chunk(4, 0.001), 7)


def test_a_blend_is_weighed_by_the_controllers_own_weight_and_spares_what_is_history() -> None:
    _, result = followed(answering(CorrectionMode.BLEND, 0.011, strength=0.3))
    # Three ticks passed between picture and arrival: those rows are history whatever was committed.
    np.testing.assert_allclose(result.actions[:3, 0], 0.001)
    np.testing.assert_allclose(result.actions[3:, 0], 0.7 * 0.001 + 0.3 * 0.011, rtol=1e-5)


def test_a_residual_is_clipped_by_the_controllers_limit() -> None:
    settings = ArbiterSettings(residual_limit=(0.002, 0.01, 0.0))
    _, result = followed(answering(CorrectionMode.RESIDUAL, 0.02, failed=0.0), settings)
    np.testing.assert_allclose(result.actions[3:, 0], 0.003, rtol=1e-5)
    np.testing.assert_allclose(result.actions[3:, 6], 1.0)


def test_a_hold_stands_still_with_the_hand_as_it_was_last_told() -> None:
    _, result = followed(answering(CorrectionMode.HOLD, None), first=chunk(0, 0.002, opening=0.0))
    assert not result.actions[:, :6].any()
    assert not result.actions[:, 6].any()


def test_what_was_shaped_is_counted_with_its_cases() -> None:
    arbitration, result = followed(answering(CorrectionMode.BLEND, 0.0))
    assert arbitration.modes == {CorrectionMode.BLEND: 1}
    assert arbitration.cases == {CorrectionMode.BLEND: {4, 7}}
    assert result.provenance.case_ids == (4, 7)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_correction_that_makes_no_sense_reaches_neither_policy_nor_chunk(strength) -> None:
    arbitration = Arbitration(answering(CorrectionMode.BLEND, 0.5, strength=strength))
    assert arbitration.correct(SEEN, STATE, GOALS[0], 4 * TICK_NS) is None
    np.testing.assert_array_equal(arbitration.arrive(chunk(4, 0.001), 7).actions, chunk(4, 0.001).actions)
    assert "strength" in arbitration.refused[0]
