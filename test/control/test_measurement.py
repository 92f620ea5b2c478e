# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.control.measurement import Measurement, StateRefusal
from flow_rag_vla.core.state import RobotState

MS = 1_000_000
NOW = 10**18


def state(stamp: int = NOW, x: float = 0.5, **others) -> RobotState:
    values = {"position": np.array([x, 0.0, 0.3]), "orientation": np.array([1.0, 0.0, 0.0, 0.0])} | others
    return RobotState(stamp, **values)


def measurement() -> Measurement:
    return Measurement(50 * MS, 0.1)


def test_the_newest_state_is_kept_and_ages_on_the_steady_clock():
    kept = measurement()
    assert kept.offer(state(NOW - 10 * MS), NOW, 500 * MS) is None
    assert kept.age_ns(520 * MS) == 30 * MS


def test_a_state_that_comes_too_late_is_ignored():
    kept = measurement()
    kept.offer(state(), NOW, 0)
    assert kept.offer(state(NOW - 1), NOW, 0) is StateRefusal.OLDER
    assert kept.state.stamp_ns == NOW


def test_a_driver_that_repeats_one_sample_grows_old():
    kept = measurement()
    kept.offer(state(), NOW, 0)
    kept.offer(state(), NOW + 400 * MS, 400 * MS)
    assert kept.age_ns(400 * MS) == 400 * MS


def test_a_state_from_the_future_is_refused():
    assert measurement().offer(state(NOW + 51 * MS), NOW, 0) is StateRefusal.FUTURE


@pytest.mark.parametrize(
    "garbage",
    [
        {"position": np.array([np.nan, 0, 0])},
        {"position": np.array([np.inf, 0, 0])},
        {"position": np.array([1e6, 0, 0])},
        {"position": np.zeros(2)},
        {"orientation": np.zeros(4)},
        {"orientation": np.array([np.nan, 0, 0, 1])},
        {"orientation": np.array([1.0, 1.0, 0, 0])},
        {"gripper_width": np.nan},
        {"gripper_width": np.inf},
    ],
)
def test_garbage_is_refused_and_counted(garbage: dict):
    kept = measurement()
    assert kept.offer(state(**garbage), NOW, 0) is StateRefusal.INVALID
    assert kept.state is None and kept.refused == {StateRefusal.INVALID: 1}


def test_one_wild_sample_changes_nothing():
    kept = measurement()
    kept.offer(state(), NOW, 0)
    assert kept.offer(state(NOW + 25 * MS, x=0.9), NOW + 25 * MS, 0) is StateRefusal.UNCONFIRMED
    assert kept.offer(state(NOW + 50 * MS), NOW + 50 * MS, 0) is None
    assert kept.offer(state(NOW + 75 * MS, x=0.9), NOW + 75 * MS, 0) is StateRefusal.UNCONFIRMED
    assert kept.displacements == 0 and kept.state.position[0] == 0.5


def test_a_robot_that_was_moved_is_believed_at_the_second_sample():
    kept = measurement()
    kept.offer(state(), NOW, 0)
    kept.offer(state(NOW + 25 * MS, x=0.9), NOW + 25 * MS, 0)
    assert kept.offer(state(NOW + 50 * MS, x=0.91), NOW + 50 * MS, 0) is None
    assert kept.displacements == 1 and kept.state.position[0] == 0.91


def test_nothing_is_kept_after_a_clear():
    kept = measurement()
    kept.offer(state(), NOW, 0)
    kept.clear()
    assert kept.state is None and kept.offer(state(0), NOW, 0) is None
