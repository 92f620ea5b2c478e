# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where the Panda's tool is, and which joint angles put it there.

Lengths are those of ``urdf/panda.urdf``. For a hand that points down there is a closed form: with joints 3 and 5
at zero the arm is planar, joint 1 turns the plane, joints 2, 4 and 6 place the wrist, joint 7 turns the hand. A tilted
hand is solved from there by damped least squares. So the posture is a function of the tool pose alone, without the
drift of a redundant arm, and a picture of the arm says where its hand is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_multiply,
    rotation_vector_from_quaternion,
    yaw_of,
)

JOINT_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
JOINT_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
JOINT_SPEED = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
"""Limits of the joints: radians, radians per second."""

_SHOULDER_HEIGHT = 0.333
_UPPER, _FORE, _ELBOW = 0.316, 0.384, 0.0825
_WRIST_OFFSET = 0.088
_WRIST_TO_TOOL = 0.107 + 0.1034
_UPPER_LENGTH = math.hypot(_UPPER, _ELBOW)
_FORE_LENGTH = math.hypot(_FORE, _ELBOW)
_REACH = 0.999 * (_UPPER_LENGTH + _FORE_LENGTH)
_TOO_NEAR = 0.2
"""Distance of the wrist from the shoulder with a fully bent elbow, metres, rounded up."""
OVERREACH = 0.10
"""Metres by which a target may lie beyond reach and still be taken as the nearest pose within reach."""

_TILT_TOLERANCE = 1e-4
_ITERATIONS = 12
_DAMPING = 1e-3

# Each joint's frame in the one before: turned about x by a quarter (sign), then moved by the vector, metres.
_QUARTERS = (0, -1, 1, 1, -1, 1, 1)
_OFFSETS = (
    (0.0, 0.0, _SHOULDER_HEIGHT),
    (0.0, 0.0, 0.0),
    (0.0, -_UPPER, 0.0),
    (_ELBOW, 0.0, 0.0),
    (-_ELBOW, _FORE, 0.0),
    (0.0, 0.0, 0.0),
    (_WRIST_OFFSET, 0.0, 0.0),
)

_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def downward_orientation(yaw: float) -> NDArray[np.float64]:
    """Unit quaternion (x y z w) of a hand that points down, its fingers opening along y turned by ``yaw`` radians."""
    turn = np.array([0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)])
    return quaternion_multiply(turn, _DOWN)


def downward_joints(position: NDArray[np.float64], yaw: float, hand_near: float = math.pi / 4) -> NDArray[np.float64]:
    """(7,) joint angles, radians, that put the tool centre point at ``position`` (3,), metres, pointing down.

    A target a little out of reach gives the arm stretched toward it; joint limits are kept. Of the angles of joint 7
    that give the yaw, the one nearest ``hand_near`` is taken, so that a hand at its limit stays there.

    Raises:
        ValueError: for a target more than ``OVERREACH`` out of reach.
    """
    x, y, z = (float(value) for value in position)
    radius = math.hypot(x, y) - _WRIST_OFFSET
    height = z + _WRIST_TO_TOOL - _SHOULDER_HEIGHT
    distance = math.hypot(radius, height)
    if distance > _REACH + OVERREACH:
        raise ValueError(
            f"target position ({x:.3f}, {y:.3f}, {z:.3f}) m is {distance - _REACH:.3f} m out of the arm's reach; "
            "keep it inside the workspace of MotionLimits"
        )
    # Folded joints and the base bound the near side; the same clamp serves both ends.
    scale = min(max(distance, _TOO_NEAR), _REACH) / max(distance, 1e-9)
    radius, height, distance = radius * scale, height * scale, distance * scale

    cosine = (_UPPER_LENGTH**2 + _FORE_LENGTH**2 - distance**2) / (2 * _UPPER_LENGTH * _FORE_LENGTH)
    elbow = math.acos(min(max(cosine, -1.0), 1.0))
    bend = elbow - math.pi - math.atan2(_ELBOW, _UPPER) - math.atan2(_ELBOW, _FORE)
    fore_radius = _ELBOW - _ELBOW * math.cos(bend) - _FORE * math.sin(bend)
    fore_height = _UPPER - _ELBOW * math.sin(bend) + _FORE * math.cos(bend)
    lean = math.atan2(radius, height) - math.atan2(fore_radius, fore_height)
    turn = math.atan2(y, x)
    hand = hand_near + math.remainder(math.pi / 4 + turn - yaw - hand_near, 2 * math.pi)
    joints = np.array([turn, lean, 0.0, bend, 0.0, lean - bend, hand])
    return np.asarray(np.clip(joints, JOINT_LOW, JOINT_HIGH))


def tool_pose(joints: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tool centre point (3,), metres, and unit quaternion (4,) x y z w of the hand, for joint angles (7,), radians."""
    position, orientation, _ = _chain(joints)
    return position, orientation


def joints_for(
    position: NDArray[np.float64], orientation: NDArray[np.float64], hand_near: float = math.pi / 4
) -> NDArray[np.float64]:
    """(7,) joint angles, radians, for a tool pose: position (3,) metres, unit quaternion (4,) x y z w.

    Exact for a hand that points down; a tilt that the joint limits do not allow is met as nearly as they do.

    Raises:
        ValueError: for a target more than ``OVERREACH`` out of reach.
    """
    joints = downward_joints(position, yaw_of(orientation), hand_near)
    # The hand's z axis is turned from straight down by this.
    tilt = 2 * math.asin(min(math.hypot(float(orientation[2]), float(orientation[3])), 1.0))
    if tilt < _TILT_TOLERANCE:
        return joints
    for _ in range(_ITERATIONS):
        reached, turned, jacobian = _chain(joints)
        error = np.concatenate(
            [
                position - reached,
                rotation_vector_from_quaternion(quaternion_multiply(orientation, quaternion_conjugate(turned))),
            ]
        )
        if float(np.linalg.norm(error)) < 1e-6:
            break
        normal = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        step = jacobian.T @ np.linalg.solve(normal, error)
        # A step this short stays where the linearisation holds.
        step *= min(1.0, 0.5 / max(float(np.abs(step).max()), 1e-9))
        joints = np.clip(joints + step, JOINT_LOW, JOINT_HIGH)
    return joints


def _chain(
    joints: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Tool position (3,), orientation (4,) and the geometric Jacobian (6, 7) at joint angles (7,)."""
    origin, rotation = np.zeros(3), np.eye(3)
    origins, axes = [], []
    orientation = np.array([0.0, 0.0, 0.0, 1.0])
    for angle, quarter, offset in zip(joints, _QUARTERS, _OFFSETS, strict=True):
        origin = origin + rotation @ np.array(offset)
        half = math.pi / 4 * quarter
        orientation = quaternion_multiply(orientation, np.array([math.sin(half), 0.0, 0.0, math.cos(half)]))
        turn = np.array([0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2)])
        orientation = quaternion_multiply(orientation, turn)
        rotation = _matrix(orientation)
        origins.append(origin)
        axes.append(rotation[:, 2])
    tool = origin + _WRIST_TO_TOOL * rotation[:, 2]
    mount = np.array([0.0, 0.0, math.sin(-math.pi / 8), math.cos(-math.pi / 8)])
    linear = [np.cross(axis, tool - place) for axis, place in zip(axes, origins, strict=True)]
    jacobian = np.vstack([np.array(linear).T, np.array(axes).T])
    return tool, quaternion_multiply(orientation, mount), jacobian


def _matrix(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z, w = (float(value) for value in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
