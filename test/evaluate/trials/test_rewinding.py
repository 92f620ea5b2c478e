# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph's way back after a failure, driven with a trial's states, chunks and failure reports."""

from __future__ import annotations

import numpy as np

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, RobotState
from flow_rag_vla.evaluate.trials.rewinding import REWINDS, Rewinding
from flow_rag_vla.evaluate.trials.variants import methods
from flow_rag_vla.failure.sample import FailureReport
from flow_rag_vla.policy.observation import CENTRE

CHUNK = np.full((16, 7), 0.001, dtype=np.float32)


def state(tick: int, height: float, opened: bool = True) -> RobotState:
    position = CENTRE + np.array([0.0, 0.0, height])
    width = GRIPPER_MAX_WIDTH if opened else 0.0
    return RobotState(tick * TICK_NS, position, np.array([1.0, 0.0, 0.0, 0.0]), gripper_width=width)


def failed(tick: int) -> FailureReport:
    at = tick * TICK_NS
    return FailureReport(FailureType.GRASP_FAILURE, at, at, Phase.GRASP, 1.0, "hand", "it closed on nothing")


def come_down(rewinding: Rewinding) -> int:
    """The hand comes down from 0.2 m in two seconds, closes and is told that it holds nothing; the tick of that."""
    rewinding.begin("push", state(0, 0.2))
    for tick in range(1, 101):
        if tick % 8 == 0:
            rewinding.planned(ActionChunk(tick, tick * TICK_NS, CHUNK, "push"))
        fallen = 0.2 * (1.0 - min(tick / 80, 1.0))
        rewinding.watch(state(tick, fallen, opened=tick < 85), [failed(tick)] if tick == 100 else [])
    return 100


def test_before_a_failure_what_the_memory_says_is_followed() -> None:
    rewinding = Rewinding(1)
    rewinding.begin("push", state(0, 0.2))
    assert rewinding.correct(0, None).mode is CorrectionMode.NONE
    known = Correction(0, CorrectionMode.RESIDUAL)
    assert rewinding.correct(0, known) is known


def test_a_failure_leads_back_up_then_away_from_what_failed_as_often_as_allowed() -> None:
    rewinding = Rewinding(1)
    tick = come_down(rewinding)
    back = rewinding.correct(tick * TICK_NS, Correction(tick * TICK_NS, CorrectionMode.RESIDUAL))
    assert (back.mode, back.until, rewinding.attempts) == (CorrectionMode.GUIDANCE, 1.0, 1)
    # It opens the hand, which is closed, then rises.
    assert (back.actions[:, 6] == 1.0).all() and not back.actions[:6, :3].any() and (back.actions[6:, 2] > 0).all()
    # A second before, the hand was open and 5 cm up: that far and no farther.
    for height in np.linspace(0.0, 0.03, 20):
        tick += 1
        rewinding.watch(state(tick, float(height)), [])
        assert rewinding.correct(tick * TICK_NS, None).mode is CorrectionMode.GUIDANCE
    tick += 1
    rewinding.watch(state(tick, 0.04), [])
    away = rewinding.correct(tick * TICK_NS, None)
    assert away.mode is CorrectionMode.NEGATIVE
    np.testing.assert_array_equal(away.failed_actions[0], CHUNK)
    # One attempt, and nobody to ask: the policy goes on.
    tick += 100
    rewinding.watch(state(tick, 0.2), [failed(tick)])
    assert rewinding.correct(tick * TICK_NS, None).mode is CorrectionMode.NONE
    assert rewinding.attempts == 1


def test_every_method_that_rewinds_can_be_asked_for() -> None:
    known = {method.name: method for method in methods()}
    for name, followed in REWINDS.items():
        assert known[name].needs_cases is (followed is not None)
        assert followed is None or followed in known
