# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What makes a valid case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import CaseError, EncoderStamp, action_distance, credit, unit_embedding


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"embedding": np.full(16, np.nan)}, r"embedding\[0\] is not finite"),
        ({"embedding": np.ones(16)}, "length 4.0000, expected 1"),
        ({"embedding": np.zeros(0)}, r"shape \(0,\)"),
        ({"embedding": np.eye(4)}, r"shape \(4, 4\)"),
        ({"failed_actions": np.zeros((0, 7))}, "no rows"),
        ({"failed_actions": np.zeros((4, 6))}, r"shape \(4, 6\)"),
        ({"failed_actions": np.full((4, 7), np.inf)}, r"failed_actions: actions\[0, 0\] is inf"),
        ({"failed_actions": np.zeros((70_000, 7))}, "at most 65535"),
        ({"correction": np.zeros((3, 7)), "correction_source": "expert"}, "correction has 3 rows, failed_actions 4"),
        ({"correction": np.zeros((4, 7))}, "give both or neither"),
        ({"correction_source": "expert"}, "a correction is missing"),
        ({"correction": np.zeros((4, 7)), "correction_source": "oracle"}, "'oracle', expected one of"),
        ({"proprioception": np.array([0.0, np.nan])}, r"proprioception\[1\] is not finite"),
        ({"proprioception": np.eye(2)}, "one dimension"),
        ({"misreading": np.zeros(2)}, r"misreading has shape \(2,\)"),
        ({"misreading": np.array([0.0, np.nan, 0.0])}, r"misreading\[1\] is not finite"),
        ({"misreading": np.array([0.2, 0.0, 0.0])}, "longer than 0.15 m"),
        ({"uses": 1, "successes": 2}, "2 of 1 uses"),
        ({"encoder": ""}, "encoder is empty"),
        ({"failure_type": 9}, "failure_type is 9, expected one of 0 unknown"),
        ({"evidence": (Evidence("force", np.nan, 1.0),)}, "evidence 'force' is nan"),
    ],
)
def test_a_case_that_makes_no_sense_is_refused_by_name(make, fields, text):
    with pytest.raises(CaseError, match=text):
        make.case(**fields)


def test_a_case_cannot_be_changed_behind_the_memory(make):
    actions = make.motion(0.001)
    case = make.case(failed_actions=actions)
    actions[0, 0] = 5.0
    assert case.failed_actions[0, 0] == np.float32(0.001)
    for array in (case.embedding, case.failed_actions, case.proprioception):
        assert not array.flags.writeable


def test_a_case_says_its_group_its_encoder_and_its_credit(make):
    case = make.case(uses=3, successes=2, failure_type=3)
    assert case.failure_type is FailureType.DROP
    assert str(case.group) == "push/reach/drop"
    assert case.stamp == EncoderStamp("compact", "abc", 16)
    assert str(case.stamp) == "compact@abc (16 numbers)"
    assert case.credit == credit(3, 2) == 3 / 5
    assert case.horizon == 4


@given(st.integers(0, 2**32 - 1), st.integers(1, 64), st.floats(0.995, 1.005))
def test_an_embedding_near_unit_length_is_made_exactly_so_and_then_stays(seed, dimension, scale):
    values = np.random.default_rng(seed).normal(size=dimension)
    once = unit_embedding(values / np.linalg.norm(values) * scale)
    assert abs(float(np.linalg.norm(once.astype(np.float64))) - 1.0) < 1e-6
    np.testing.assert_array_equal(unit_embedding(once), once)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_action_distance_is_symmetric_and_zero_only_for_equal_rows(seed, rows, others):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(rows, 7)), generator.normal(size=(others, 7))
    assert action_distance(first, second) == action_distance(second, first) > 0.0
    assert action_distance(first, first) == 0.0


def test_action_distance_counts_in_largest_steps_and_needs_a_common_row(make):
    assert action_distance(make.motion(0.0), make.motion(0.012)) == pytest.approx(np.sqrt(1 / 7), rel=1e-5)
    assert action_distance(np.zeros((0, 7)), make.motion(0.1)) == np.inf
