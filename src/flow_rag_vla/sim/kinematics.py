"""The Panda's arm in the upright plane of its shoulder, solved in closed form for a hand that points down.

Lengths are those of ``urdf/panda.urdf``. With joints 3 and 5 at zero the arm is planar: joint 1 turns the plane, joints
2, 4 and 6 place the wrist, joint 7 turns the hand. So the posture is a function of the tool pose alone, without the
drift of a redundant arm, and a picture of the arm says where its hand is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import quaternion_multiply

JOINT_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
JOINT_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])

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

_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def downward_orientation(yaw: float) -> NDArray[np.float64]:
    """Unit quaternion (x y z w) of a hand that points down, its fingers opening along y turned by ``yaw`` radians."""
    turn = np.array([0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)])
    return quaternion_multiply(turn, _DOWN)


def downward_joints(
    position: NDArray[np.float64], yaw: float, hand_near: float = math.pi / 4
) -> NDArray[np.float64]:
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
    return np.clip(joints, JOINT_LOW, JOINT_HIGH)
