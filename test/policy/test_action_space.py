# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flow_rag_vla.core.action import MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK
from flow_rag_vla.policy.action_space import FREE_DIM, actions_from, normalised

chunks = hnp.arrays(np.float32, (6, 7), elements=st.floats(-1, 1, width=32))


@given(chunks)
def test_there_and_back_keeps_the_free_columns(raw: np.ndarray) -> None:
    actions = raw * np.float32(0.01)
    actions[:, 3:5], actions[:, 6] = 0.0, raw[:, 6] > 0
    assert np.allclose(actions_from(normalised(actions)), actions, atol=1e-6)


@given(hnp.arrays(np.float32, (4, 3, FREE_DIM), elements=st.floats(-5, 5, width=32)))
def test_any_network_output_gives_locked_tilt_and_a_binary_gripper(values: np.ndarray) -> None:
    actions = actions_from(values)
    assert actions.shape == (4, 3, 7) and actions.dtype == np.float32
    assert not actions[..., 3:5].any()
    assert np.isin(actions[..., 6], (0.0, 1.0)).all()


def test_the_largest_step_is_one() -> None:
    action = np.array([MAX_TRANSLATION_PER_TICK, 0, 0, 0, 0, -MAX_ROTATION_PER_TICK, 1.0])
    assert np.allclose(normalised(action), [1, 0, 0, -1, 1])
