# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plans in space and in pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.bringup.live import SIMULATED_FRONT_CAMERA
from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.gateway.live.geometry import (
    StillCamera,
    box_edges,
    committed_path,
    looking_at,
    path_ahead,
    planned_path,
    project,
)


def chunk(rows=4, committed=0, step=0.01):
    actions = np.zeros((rows, 7), dtype=np.float32)
    actions[:, 0] = step
    return ActionChunk(1, 0, actions, committed=committed)


def camera(eye=(1.0, 0.0, 1.0), look_at=(0.0, 0.0, 0.0)):
    eye, look_at = np.array(eye), np.array(look_at)
    matrix = np.array([[100.0, 0.0, 50.0], [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]])
    return StillCamera(matrix, eye, looking_at(eye, look_at), 100, 80)


def test_a_plan_goes_on_from_the_row_that_was_commanded():
    start = np.array([0.5, 0.0, 0.2])
    np.testing.assert_allclose(planned_path(start, chunk(), 1)[:, 0], [0.5, 0.51, 0.52])
    np.testing.assert_allclose(planned_path(start, chunk(), 3), [start])
    np.testing.assert_allclose(path_ahead(start, chunk().actions)[-1], [0.54, 0.0, 0.2])


@pytest.mark.parametrize(("committed", "index", "points"), [(0, 1, 1), (2, 1, 1), (3, 1, 2), (4, 0, 4), (9, 0, 4)])
def test_the_committed_part_is_what_no_newer_chunk_may_change(committed, index, points):
    assert len(committed_path(np.zeros(3), chunk(committed=committed), index)) == points


def test_the_point_looked_at_is_in_the_middle_and_up_is_up():
    seen = project(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.1, 0.0]]), camera())
    np.testing.assert_allclose(seen[0], [0.5, 0.5], atol=1e-9)
    assert seen[1][1] < 0.5, "what is higher is higher in the picture"
    assert seen[2][0] > 0.5, "y is to the right of one who looks along minus x"


def test_what_is_behind_the_camera_is_not_drawn():
    assert np.isnan(project(np.array([[3.0, 0.0, 3.0], [1.0, 0.0, 1.0]]), camera())).all()


def test_a_camera_that_looks_straight_down_is_refused():
    with pytest.raises(ValueError, match="upright"):
        looking_at(np.array([0.0, 0.0, 1.0]), np.zeros(3))


@given(st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3))
def test_projection_is_that_of_a_pinhole(point):
    """Similar triangles: a point and its double distance from the camera meet the same pixel."""
    view = camera()
    near = np.array(point)
    far = view.eye + 2.0 * (near - view.eye)
    first, second = project(np.array([near]), view), project(np.array([far]), view)
    if not np.isnan(first).any():
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_the_box_is_drawn_along_all_twelve_edges_and_nothing_else():
    low, high = np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])
    corners = [tuple(point) for point in box_edges(low, high)]
    steps = {frozenset(pair) for pair in zip(corners, [*corners[1:], corners[0]], strict=True)}
    assert len(steps) == 12
    assert all(np.count_nonzero(np.subtract(*map(np.array, step))) == 1 for step in steps)
    assert len(set(corners)) == 8


def test_the_simulated_camera_is_where_the_simulator_has_it():
    pytest.importorskip("pybullet")
    from flow_rag_vla.sim.camera import FRONT

    assert (*FRONT.eye, *FRONT.look_at) == SIMULATED_FRONT_CAMERA
    assert FRONT.up == (0.0, 0.0, 1.0)
