# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations, against scipy."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
    yaw_of,
)

vectors = arrays(float, 3, elements=st.floats(-3, 3))


@given(vectors)
def test_rotation_vectors_agree_with_scipy(vector):
    ours = Rotation.from_quat(quaternion_from_rotation_vector(vector))
    assert (ours.inv() * Rotation.from_rotvec(vector)).magnitude() < 1e-7


@given(vectors, vectors)
def test_products_agree_with_scipy(left, right):
    product = quaternion_multiply(quaternion_from_rotation_vector(left), quaternion_from_rotation_vector(right))
    expected = Rotation.from_rotvec(left) * Rotation.from_rotvec(right)
    assert (Rotation.from_quat(product).inv() * expected).magnitude() < 1e-7


@given(vectors)
def test_a_vector_survives_the_way_there_and_back_up_to_whole_turns(vector):
    back = rotation_vector_from_quaternion(quaternion_from_rotation_vector(vector))
    assert (Rotation.from_rotvec(back).inv() * Rotation.from_rotvec(vector)).magnitude() < 1e-6
    assert np.linalg.norm(back) <= math.pi + 1e-9


@given(vectors)
def test_the_conjugate_undoes_a_rotation(vector):
    quaternion = quaternion_from_rotation_vector(vector)
    assert np.allclose(np.abs(quaternion_multiply(quaternion, quaternion_conjugate(quaternion))[3]), 1.0)


@given(st.floats(-3.1, 3.1))
def test_yaw_is_read_back_also_with_the_tool_pointing_down(angle):
    turned = quaternion_from_rotation_vector(np.array([0.0, 0.0, angle]))
    assert math.isclose(yaw_of(turned), angle, abs_tol=1e-9)
    down = quaternion_multiply(turned, np.array([1.0, 0.0, 0.0, 0.0]))
    assert math.isclose(yaw_of(down), angle, abs_tol=1e-9)
