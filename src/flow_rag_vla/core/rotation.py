# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The few rotations that the control path needs, on numpy alone. Quaternions are x y z w."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def quaternion_multiply(left: Array, right: Array) -> Array:
    """Hamilton product: the rotation ``right`` followed by ``left``."""
    x1, y1, z1, w1 = (float(value) for value in left)
    x2, y2, z2, w2 = (float(value) for value in right)
    return np.array(
        [
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ]
    )


def quaternion_conjugate(quaternion: Array) -> Array:
    """The inverse of a unit quaternion."""
    return np.array([-quaternion[0], -quaternion[1], -quaternion[2], quaternion[3]])


def quaternion_from_rotation_vector(vector: Array) -> Array:
    """Unit quaternion of a rotation about ``vector`` by its length in radians."""
    angle = math.sqrt(float(vector[0]) ** 2 + float(vector[1]) ** 2 + float(vector[2]) ** 2)
    scale = 0.5 if angle < 1e-9 else math.sin(angle / 2) / angle
    quaternion = np.array([vector[0] * scale, vector[1] * scale, vector[2] * scale, math.cos(angle / 2)])
    return np.asarray(quaternion / np.linalg.norm(quaternion))


def rotation_vector_from_quaternion(quaternion: Array) -> Array:
    """Rotation vector (radians), its length at most pi."""
    q = quaternion if quaternion[3] >= 0 else -quaternion
    sine = math.sqrt(float(q[0]) ** 2 + float(q[1]) ** 2 + float(q[2]) ** 2)
    if sine < 1e-12:
        return np.zeros(3)
    return np.asarray(q[:3] * (2 * math.atan2(sine, float(q[3])) / sine))


def yaw_of(quaternion: Array) -> float:
    """Heading of the body's x axis in the horizontal plane, radians in (-pi, pi]."""
    x, y, z, w = (float(value) for value in quaternion)
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
