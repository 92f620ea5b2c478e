# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A new case is tried on what is known to work before it may act."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.integrator import Clamp, MotionLimits, TargetIntegrator
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.memory.guard import Guard, GuardError, GuardSettings, beyond_limits, leaves_workspace, within_limits
from flow_rag_vla.memory.ledger import SuccessSituation, by_place
from flow_rag_vla.memory.store import CaseFilter

LIMITS = MotionLimits()


def done(make, seed: int, step: float, case, count: int = 1, **fields) -> list[SuccessSituation]:
    values = {"task": "push", "phase": "reach", "episode_id": 7, "origin": "left arm", **fields}
    embedding = values.pop("embedding", make.unit(seed))
    return [
        SuccessSituation(stamp=case.stamp, embedding=embedding, actions=make.motion(step), **values)
        for _ in range(count)
    ]


def corrected(make, seed: int, step: float, **fields):
    return make.case(seed, correction=make.motion(step), correction_source="search", **fields)


def test_a_case_that_would_change_a_success_is_kept_retired_and_says_which_how_far_and_what_to_do(make, open_memory):
    memory = open_memory()
    case = corrected(make, 1, -0.012)
    memory.observe_done(done(make, 1, 0.012, case))
    result = memory.add(case)
    assert not result.accepted and memory.get(result.case_id).retired
    for words in (
        "success situation 1 (push/reach, episode 7 of left arm)",
        "1.000",
        "0.756",
        "0.35",
        "guard_distance",
    ):
        assert words in result.message
    assert memory.statistics().refused_guard == 1
    assert memory.search(make.unit(1)).cases == ()


def test_a_case_of_another_situation_phase_or_encoder_or_with_the_same_motion_is_taken(make, open_memory):
    memory = open_memory()
    case = corrected(make, 1, -0.012)
    memory.observe_done(done(make, 1, 0.012, case))
    assert memory.add(corrected(make, 2, -0.012)).accepted
    assert memory.add(corrected(make, 1, -0.012, phase="grasp")).accepted
    assert memory.add(corrected(make, 1, 0.0119)).accepted


def test_the_gate_decides_whether_it_would_have_come_up(make, open_memory):
    memory = open_memory(threshold=0.9)
    case = corrected(make, 1, -0.012)
    memory.observe_done(done(make, 1, 0.012, case, embedding=make.turned(make.unit(1), 0.85)))
    assert memory.add(case).accepted
    stricter = open_memory(threshold=0.8)
    assert not stricter.add(corrected(make, 1, -0.011, failed_actions=make.motion(-0.01))).accepted


def test_a_share_of_the_successes_may_be_changed_as_the_gate_itself_lets_some_through(make):
    case = corrected(make, 1, -0.012)
    hit = done(make, 1, 0.012, case)
    for others, stopped in ((48, True), (49, False), (200, False)):
        sample = [*hit, *(item for seed in range(100, 100 + others) for item in done(make, seed, 0.012, case))]
        guard = Guard(GuardSettings(share=0.02), by_place(sample), 0.9)
        assert (guard.changes_success(case) is not None) is stopped


def test_a_case_that_only_forbids_is_stopped_where_a_success_did_just_that(make, open_memory):
    memory = open_memory()
    case = make.case(1, failed_actions=make.motion(0.004))
    memory.observe_done(done(make, 1, 0.004, case))
    result = memory.add(case)
    assert not result.accepted and "did what it says failed" in result.message
    assert memory.add(make.case(1, failed_actions=make.motion(-0.012))).accepted


def test_a_correction_learned_later_is_tried_too_and_force_lifts_only_the_successes(make, open_memory):
    memory = open_memory()
    case_id = memory.add(make.case(1, failed_actions=make.motion(-0.004))).case_id
    memory.observe_done(done(make, 1, 0.012, make.case(1)))
    with pytest.raises(GuardError, match="success situation 1"):
        memory.edit(case_id, correction=make.motion(-0.012), correction_source="search")
    assert memory.get(case_id).correction is None
    memory.edit(case_id, correction=make.motion(-0.012), force=True)
    memory.edit(case_id, correction=make.motion(-0.05), correction_source="later_success", force=True)
    np.testing.assert_allclose(memory.get(case_id).correction, make.motion(-0.012))
    too_far = make.motion(0.05)
    with pytest.raises(GuardError, match=r"translation of 0\.0500 m, allowed is 0\.012"):
        memory.edit(case_id, correction=too_far, force=True)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [(2, 0.0125, "translation"), (5, -0.07, "rotation"), (6, 1.2, "gripper"), (6, -0.1, "gripper")],
)
def test_a_correction_beyond_the_limits_of_motion_is_named(make, column, value, text):
    actions = make.motion(0.0)
    actions[2, column] = value
    problem = beyond_limits(actions, LIMITS)
    assert problem is not None and "row 2" in problem and text in problem
    assert beyond_limits(within_limits(actions, LIMITS), LIMITS) is None


def test_a_path_below_the_table_or_out_of_the_workspace_is_named(make):
    down = np.zeros((16, 7), dtype=np.float32)
    down[:, 2] = -0.012
    problem = leaves_workspace(down, np.array([0.5, 0.0, 0.105]), LIMITS)
    assert problem is not None and "row 8" in problem and "below the table's edge" in problem
    assert leaves_workspace(down, np.array([0.5, 0.0, 0.25]), LIMITS) is None
    out = make.motion(0.012, 16)
    assert "row 4: x 0.760 m, limit 0.75 m" in str(leaves_workspace(out, np.array([0.70, 0.0, 0.2]), LIMITS))
    # A tool that starts outside may come back, and may not go further out.
    assert leaves_workspace(out, np.array([0.10, 0.0, 0.2]), LIMITS) is None
    assert leaves_workspace(-out, np.array([0.10, 0.0, 0.2]), LIMITS) is not None


@given(st.lists(st.lists(st.floats(-0.05, 0.05), min_size=7, max_size=7), min_size=1, max_size=20))
def test_what_was_cut_to_the_limits_passes_them(rows):
    assert beyond_limits(within_limits(np.array(rows, dtype=np.float32), LIMITS), LIMITS) is None


@given(
    st.lists(st.lists(st.floats(-0.012, 0.012), min_size=7, max_size=7), min_size=1, max_size=16),
    st.tuples(st.floats(0.25, 0.75), st.floats(-0.4, 0.4), st.floats(0.005, 0.6)),
)
def test_what_passes_the_workspace_check_meets_no_wall_in_the_controllers_integrator(rows, position):
    actions = np.array(rows, dtype=np.float32)
    start = np.array(position)
    integrator = TargetIntegrator(MotionLimits(translation=1.0, translation_change=1.0, tracking_distance=10.0))
    state = RobotState(0, start, np.array([1.0, 0.0, 0.0, 0.0]))
    walls = any(Clamp.WORKSPACE in integrator.advance(row, state)[2] for row in actions)
    if not walls:
        assert leaves_workspace(actions, start, LIMITS) is None


def test_the_sample_of_successes_is_bounded_and_fair(make, open_memory):
    memory = open_memory(successes_kept=8)
    case = make.case(1)
    for seed in range(200):
        memory.observe_done(done(make, seed, 0.001, case, episode_id=seed))
    kept = [item.episode_id for item in memory.ledger.successes(case.stamp)]
    assert len(kept) == 8 == memory.ledger.success_count()
    assert min(kept) < 100 < max(kept)
    assert memory.ledger.successes(make.case(1, encoder="dinov2").stamp) == []


def test_contradicting_cases_do_not_both_act_and_the_worse_credit_loses(make, open_memory):
    memory = open_memory()
    first = memory.add(corrected(make, 1, 0.012)).case_id
    other = corrected(make, 1, -0.012, failed_actions=make.motion(-0.012))
    second = memory.add(other)
    assert not second.accepted and "contradicts case 1" in second.message and memory.get(second.case_id).retired
    for _ in range(3):
        memory.record_use([first], False)
    third = memory.add(corrected(make, 1, -0.011, failed_actions=make.motion(-0.005), failure_type=2))
    assert third.accepted and memory.get(first).retired and "contradicts" in memory.get(first).retired_reason
    assert memory.page(CaseFilter())[0] == 1
    by_a_person = memory.add(
        make.case(1, correction=make.motion(0.012), correction_source="human", failed_actions=make.motion(0.006))
    )
    assert by_a_person.accepted and memory.get(third.case_id).retired
