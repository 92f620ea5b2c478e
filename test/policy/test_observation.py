# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.observation import (
    ENTITIES,
    ENTITY_DIM,
    PROPRIOCEPTION_DIM,
    SITUATION_COLUMNS,
    YAW_SYMMETRY,
    goal_entities,
    goal_features,
    proprioception,
    relative_reading,
)


def at(position=(0.5, 0.0, 0.2), yaw: float = 0.0, width: float = 0.08) -> RobotState:
    orientation = np.array([math.cos(yaw / 2), math.sin(yaw / 2), 0.0, 0.0])
    return RobotState(0, np.array(position, dtype=float), orientation, gripper_width=width)


@given(position=st.tuples(*[st.floats(-1, 1)] * 3), yaw=st.floats(-3, 3), width=st.floats(0.0, 0.08))
def test_proprioception_is_finite_float32_of_its_length(position, yaw, width) -> None:
    values = proprioception(at(position, yaw, width))
    assert values.shape == (PROPRIOCEPTION_DIM,) and values.dtype == np.float32
    assert np.isfinite(values).all()
    assert float(values[3] ** 2 + values[4] ** 2) == pytest.approx(1.0, abs=1e-5)


def test_gripper_features_tell_met_holding_and_open_apart() -> None:
    features = {name: proprioception(at(width=width))[5:8] for name, width in
                {"met": 0.0, "holding": 0.04, "open": 0.08}.items()}  # fmt: skip
    assert [int(np.argmax(features[name])) for name in ("met", "holding", "open")] == [0, 1, 2]
    assert min(float(values.max()) for values in features.values()) > 0.85


def test_what_is_held_does_not_leak_its_width() -> None:
    assert np.allclose(proprioception(at(width=0.03)), proprioception(at(width=0.045)), atol=1e-2)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_state_that_is_not_finite_is_refused(bad) -> None:
    with pytest.raises(ValueError, match="not finite"):
        proprioception(at(position=(bad, 0, 0)))
    with pytest.raises(ValueError, match="not finite"):
        proprioception(replace(at(), gripper_width=bad))


def test_each_goal_has_its_own_feature() -> None:
    rows = np.stack([goal_features(goal) for goal in GOALS])
    assert np.array_equal(rows, np.eye(len(GOALS)))


def test_a_goal_keeps_its_target_and_its_destination_only() -> None:
    for goal in GOALS:
        pair = goal_entities(goal)
        columns = SITUATION_COLUMNS[goal.index] // ENTITY_DIM
        assert ENTITIES[pair.target] == goal.target
        assert set(columns.tolist()) == {pair.target, pair.destination}


@given(yaw=st.floats(-3, 3), turn=st.sampled_from([1, 2, 3]))
def test_headings_that_look_the_same_read_the_same(yaw: float, turn: int) -> None:
    for name, symmetry in YAW_SYMMETRY.items():
        if symmetry < 2:
            continue
        same = yaw + turn * 2 * math.pi / symmetry
        readings = [relative_reading(at(), {name: (np.zeros(3), angle)})[0] for angle in (yaw, same)]
        assert np.allclose(*readings, atol=1e-5)


def test_readings_are_relative_to_the_tool_and_zero_where_nothing_is() -> None:
    reading, present = relative_reading(at((0.4, 0.1, 0.2)), {"bin": (np.array([0.5, 0.2, 0.0]), 0.3)})
    index = ENTITIES.index("bin")
    table = reading.reshape(len(ENTITIES), ENTITY_DIM)
    assert table[index] == pytest.approx([0.1, 0.1, -0.2, 0.0, 0.0], abs=1e-6)
    assert not np.delete(table, index, axis=0).any()
    assert present.tolist() == [name == "bin" for name in ENTITIES]
