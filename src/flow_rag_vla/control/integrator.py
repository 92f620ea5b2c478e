"""Turns relative actions into absolute tool targets, inside every limit.

The controller node, the training rollouts and the evaluation all use this class, so a policy meets the
same kinematics in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK
from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget, RobotState


class Clamp(IntFlag):
    """Which limits an action met. Values equal ControlCommand.CLAMP_*."""

    NONE = 0
    WORKSPACE = 1
    VELOCITY = 2
    ACCELERATION = 4
    GRIPPER = 8
    TRACKING = 16
    ROTATION = 32


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """Limits that no action passes, whoever made it. Lengths in metres, angles in radians, per tick."""

    translation: float = MAX_TRANSLATION_PER_TICK
    rotation: float = MAX_ROTATION_PER_TICK
    translation_change: float = 0.006
    """Largest change of the translation step from one tick to the next (9.6 m/s^2 at 40 Hz)."""
    workspace_low: tuple[float, float, float] = (0.25, -0.40, 0.005)
    workspace_high: tuple[float, float, float] = (0.75, 0.40, 0.60)
    tracking_distance: float = 0.04
    """How far the target may run ahead of the measured tool."""
    tracking_angle: float = 0.30
    gripper_width: float = GRIPPER_MAX_WIDTH


class TargetIntegrator:
    """Adds actions to a target pose that stays near the measured one."""

    def __init__(self, limits: MotionLimits | None = None) -> None:
        self.limits = limits or MotionLimits()
        self._low = np.array(self.limits.workspace_low)
        self._high = np.array(self.limits.workspace_high)
        self._position: NDArray[np.float64] | None = None
        self._orientation = np.array([0.0, 0.0, 0.0, 1.0])
        self._last_step = np.zeros(3)

    def reset(self) -> None:
        """Forget the target: the next action starts from the measured pose."""
        self._position = None
        self._last_step = np.zeros(3)

    @property
    def last_step(self) -> NDArray[np.float64]:
        """(3,) float64: the translation of the last tick, metres."""
        return self._last_step

    def advance(
        self, action: NDArray[np.floating], state: RobotState
    ) -> tuple[CartesianTarget, NDArray[np.float32], Clamp]:
        """Apply one action (7,) to the target; give the target, the action after clamps, and the clamps.

        The action must be finite (``core.action.invalid_actions``); the caller checks a whole chunk once.
        """
        limits, clamps = self.limits, Clamp.NONE
        if self._position is None:
            self._position = state.position.astype(float).copy()
            self._orientation = state.orientation.astype(float).copy()

        step = np.asarray(action[:3], dtype=float)
        length = float(np.linalg.norm(step))
        if length > limits.translation:
            step, clamps = step * (limits.translation / length), clamps | Clamp.VELOCITY
        change = step - self._last_step
        length = float(np.linalg.norm(change))
        if length > limits.translation_change:
            step = self._last_step + change * (limits.translation_change / length)
            clamps |= Clamp.ACCELERATION

        turn = np.asarray(action[3:6], dtype=float)
        angle = float(np.linalg.norm(turn))
        if angle > limits.rotation:
            turn, clamps = turn * (limits.rotation / angle), clamps | Clamp.ROTATION

        before = self._position
        wanted = before + step
        position = np.clip(wanted, self._low, self._high)
        if not np.array_equal(position, wanted):
            clamps |= Clamp.WORKSPACE
        lead = position - state.position
        distance = float(np.linalg.norm(lead))
        if distance > limits.tracking_distance:
            position = state.position + lead * (limits.tracking_distance / distance)
            clamps |= Clamp.TRACKING
        orientation = quaternion_multiply(quaternion_from_rotation_vector(turn), self._orientation)
        orientation, held_back = self._near_measured(orientation, state.orientation)
        if held_back:
            clamps |= Clamp.TRACKING

        opening = float(action[6])
        if not 0.0 <= opening <= 1.0:
            opening, clamps = min(max(opening, 0.0), 1.0), clamps | Clamp.GRIPPER

        self._position, self._orientation, self._last_step = position, orientation, step
        sent = np.concatenate([step, turn, [opening]]).astype(np.float32)
        target = CartesianTarget(position, orientation, opening * limits.gripper_width)
        return target, sent, clamps

    def _near_measured(
        self, orientation: NDArray[np.float64], measured: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], bool]:
        lead = rotation_vector_from_quaternion(quaternion_multiply(orientation, quaternion_conjugate(measured)))
        angle = float(np.linalg.norm(lead))
        if angle <= self.limits.tracking_angle:
            return orientation / np.linalg.norm(orientation), False
        turn = quaternion_from_rotation_vector(lead * (self.limits.tracking_angle / angle))
        return quaternion_multiply(turn, measured), True
