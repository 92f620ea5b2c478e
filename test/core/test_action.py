# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The action space: what counts as a valid chunk."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from flow_rag_vla.core.action import ACTION_DIM, TICK_NS, ActionChunk, invalid_actions


@given(arrays(np.float32, st.tuples(st.integers(1, 32), st.just(ACTION_DIM)), elements=st.floats(-1e3, 1e3, width=32)))
def test_any_finite_array_of_the_right_width_is_valid(actions):
    assert invalid_actions(actions) is None


@given(
    arrays(np.float32, (5, ACTION_DIM), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, 4),
    st.integers(0, ACTION_DIM - 1),
)
def test_a_number_that_is_not_finite_is_named_with_its_place(actions, bad, row, column):
    actions[row, column] = bad
    assert f"actions[{row}, {column}]" in (invalid_actions(actions) or "")


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=6)))
def test_another_shape_is_refused_with_the_shape_named(actions):
    if actions.ndim == 2 and actions.shape[1] == ACTION_DIM:
        return
    assert str(actions.shape) in (invalid_actions(actions) or "")


def test_a_chunk_without_rows_is_refused():
    assert "no rows" in (invalid_actions(np.zeros((0, ACTION_DIM))) or "")


def test_a_chunk_ends_after_its_last_row():
    chunk = ActionChunk(1, 1000, np.zeros((16, ACTION_DIM), np.float32))
    assert chunk.horizon == 16
    assert chunk.end_ns == 1000 + 16 * TICK_NS
