# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What credible cases become."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import MAX_TRANSLATION_PER_TICK, CorrectionMode
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.corrector import (
    BLEND_STRENGTH,
    CORRECTORS,
    FAILED_CHUNKS,
    CredibleCase,
    DispatchCorrector,
    make_corrector,
    rule_correction,
    strength,
    systematic_offset,
)

THRESHOLD = 0.8


def known(make, step: float, similarity: float = 0.9, **fields: object) -> CredibleCase:
    source = fields.pop("correction_source", "expert")
    return CredibleCase(make.case(correction=make.motion(step), correction_source=source, **fields), similarity)


@pytest.mark.parametrize("name", CORRECTORS)
def test_nothing_credible_is_no_correction(name):
    correction = make_corrector(name).correct(5, [], THRESHOLD)
    assert (correction.stamp_ns, correction.mode, correction.case_ids) == (5, CorrectionMode.NONE, ())


def test_off_never_corrects(make):
    assert make_corrector("off").correct(5, [known(make, 0.01, 1.0)], THRESHOLD).mode is CorrectionMode.NONE


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=f"'magic' is not one of {', '.join(CORRECTORS)}"):
        make_corrector("magic")
    with pytest.raises(ValueError, match="'pray' is not one of negative, hold, none"):
        make_corrector("dispatch", "pray")


def test_a_known_correction_guides_and_names_only_its_case(make):
    cases = [CredibleCase(make.case(case_id=1), 0.95), known(make, 0.01, case_id=2)]
    correction = DispatchCorrector().correct(5, cases, THRESHOLD)
    assert (correction.mode, correction.case_ids) == (CorrectionMode.GUIDANCE, (2,))
    np.testing.assert_array_equal(correction.actions, make.motion(0.01))
    np.testing.assert_array_equal(correction.failed_actions, make.motion(0.001)[np.newaxis])
    assert correction.strength == pytest.approx(0.75)


def test_a_proven_correction_is_preferred_to_a_nearer_one_that_disappointed(make):
    cases = [
        known(make, 0.01, 0.95, case_id=1, uses=6, successes=1),
        known(make, -0.01, 0.9, case_id=2, uses=6, successes=6),
    ]
    assert DispatchCorrector().correct(5, cases, THRESHOLD).case_ids == (2,)


def test_a_case_with_too_little_credit_is_not_used(make):
    cases = [known(make, 0.01, 1.0, uses=20, successes=0)]
    assert DispatchCorrector().correct(5, cases, THRESHOLD).mode is CorrectionMode.NONE
    assert DispatchCorrector(minimum_credit=0.0).correct(5, cases, THRESHOLD).mode is CorrectionMode.GUIDANCE


def test_without_a_correction_the_failed_chunks_are_avoided(make):
    cases = [CredibleCase(make.case(case_id=n, failed_actions=make.motion(0.001 * n)), 0.9) for n in range(1, 6)]
    cases.insert(1, CredibleCase(make.case(case_id=9, failed_actions=make.motion(0.001, 2)), 0.9))
    correction = DispatchCorrector().correct(5, cases, THRESHOLD)
    assert (correction.mode, correction.case_ids) == (CorrectionMode.NEGATIVE, (1, 2, 3))
    assert correction.failed_actions is not None and correction.failed_actions.shape == (FAILED_CHUNKS, 4, 7)
    assert correction.actions is None


@pytest.mark.parametrize(("asked", "mode"), [("hold", CorrectionMode.HOLD), ("none", CorrectionMode.NONE)])
def test_without_a_correction_it_holds_or_does_nothing_when_asked(make, asked, mode):
    correction = make_corrector("dispatch", asked).correct(5, [CredibleCase(make.case(case_id=3), 0.9)], THRESHOLD)
    assert correction.mode is mode
    assert correction.case_ids == ((3,) if asked == "hold" else ())


@pytest.mark.parametrize(("kind", "needed"), [(FailureType.MISALIGNMENT, 2), (FailureType.GRASP_FAILURE, 3)])
def test_offsets_that_agree_become_a_residual(make, kind, needed):
    cases = [
        known(make, 0.005 + 0.0001 * n, case_id=n, failure_type=kind, failed_actions=make.motion(0.001 * n))
        for n in range(needed)
    ]
    few = DispatchCorrector().correct(5, cases[:-1], THRESHOLD)
    assert few.mode is CorrectionMode.GUIDANCE
    correction = DispatchCorrector().correct(5, cases, THRESHOLD)
    assert (correction.mode, correction.case_ids) == (CorrectionMode.RESIDUAL, tuple(range(needed)))
    assert correction.actions is not None and correction.failed_actions is not None
    assert correction.failed_actions.shape[0] == 1
    offset = correction.actions - correction.failed_actions[0]
    expected = np.mean([item.case.correction - item.case.failed_actions for item in cases], axis=0)
    np.testing.assert_allclose(offset, expected, atol=1e-7)


def test_offsets_that_disagree_are_no_systematic_ones(make):
    cases = [
        known(make, step, case_id=n, failure_type=FailureType.MISALIGNMENT, failed_actions=make.motion(0.0))
        for n, step in enumerate((0.005, -0.005, 0.004))
    ]
    assert DispatchCorrector().correct(5, cases, THRESHOLD).mode is CorrectionMode.GUIDANCE


def test_the_gripper_is_never_part_of_an_offset(make):
    closed = make.motion(0.005)
    closed[:, 6] = 0.0
    case = make.case(correction=closed, correction_source="expert")
    offset = systematic_offset([case])
    assert offset is not None and not offset[:, 6].any()
    assert systematic_offset([make.case()]) is None
    assert systematic_offset([make.case(correction=make.motion(0.001), correction_source="expert")]) is None


@given(similarity=st.floats(-1, 1), threshold=st.floats(-1, 1.1), uses=st.integers(0, 30), successes=st.integers(0, 30))
def test_strength_stays_between_nothing_and_all(make, similarity, threshold, uses, successes):
    case = make.case(uses=uses, successes=min(uses, successes))
    value = strength(CredibleCase(case, similarity), threshold)
    assert 0.0 <= value <= 1.0
    assert value <= strength(CredibleCase(case, 1.0), threshold)
    if similarity >= threshold and case.credit >= 0.5:
        assert value >= 0.5


def test_the_rules_are_those_of_the_seeds(make):
    actions = make.motion(0.01)
    actions[:, 3:6] = 0.05
    actions[:2, 6] = 0.5
    grasp = rule_correction(make.case(failed_actions=actions))
    assert grasp is not None
    np.testing.assert_allclose(grasp[:, 6], [0.65, 0.65, 1.0, 1.0])
    np.testing.assert_array_equal(grasp[:, :6], actions[:, :6])
    binary = make.motion(0.01)
    binary[:2, 6] = 0.0
    np.testing.assert_array_equal(rule_correction(make.case(failed_actions=binary)), binary)
    collision = rule_correction(make.case(failure_type=FailureType.COLLISION, failed_actions=actions))
    assert collision is not None
    np.testing.assert_allclose(collision[:, :3], actions[:, :3] * 0.8)
    np.testing.assert_array_equal(collision[:, 3:], actions[:, 3:])
    drop = rule_correction(make.case(failure_type=FailureType.DROP, failed_actions=actions))
    assert drop is not None and (drop[:, 2] > actions[:, 2]).all()
    np.testing.assert_allclose(np.linalg.norm(drop[:, :3], axis=1), MAX_TRANSLATION_PER_TICK, rtol=1e-5)
    assert rule_correction(make.case(failure_type=FailureType.TIMEOUT)) is None


def test_the_baseline_blends_the_first_case_that_has_a_rule(make):
    cases = [
        CredibleCase(make.case(case_id=1, failure_type=FailureType.TIMEOUT), 0.99),
        CredibleCase(make.case(case_id=2, failure_type=FailureType.COLLISION), 0.9),
    ]
    corrector = make_corrector("rules_blend")
    correction = corrector.correct(5, cases, THRESHOLD)
    assert (correction.mode, correction.case_ids) == (CorrectionMode.BLEND, (2,))
    assert correction.strength == BLEND_STRENGTH
    assert corrector.correct(5, cases[:1], THRESHOLD).mode is CorrectionMode.NONE
