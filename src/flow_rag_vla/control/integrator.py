# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Turns relative actions into absolute tool targets, inside every limit.

The controller node, the training rollouts and the evaluation all use this class, so a policy meets the
same kinematics in each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import GRIPPER, MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK, ROTATION, TRANSLATION
from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget, RobotState

Array = NDArray[np.float64]


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
    """Adds actions to a target pose that stays near the measured one.

    From one tick to the next the target moves by at most ``translation`` metres and ``rotation`` radians, whatever
    the measured pose does. The step changes by at most ``translation_change``. Only the workspace and the tracking
    distance may end it more abruptly, along any axis; neither may ever start a motion more abruptly. A ``pace`` below 1
    lowers these limits to its share of them, except that of braking. A tool that starts outside the workspace is not
    thrown back into it: its target may only come closer.
    """

    def __init__(self, limits: MotionLimits | None = None) -> None:
        self.limits = limits or MotionLimits()
        self.pace = 1.0
        """Share of the limits on speed, and on how fast it may rise, that is in force. Braking is never weakened."""
        self._position: Array | None = None
        self._orientation = np.array([0.0, 0.0, 0.0, 1.0])
        self._last_step = np.zeros(3)

    @property
    def limits(self) -> MotionLimits:
        """The limits in force; assigning others keeps the target."""
        return self._limits

    @limits.setter
    def limits(self, limits: MotionLimits) -> None:
        self._limits = limits
        self._low = np.array(limits.workspace_low)
        self._high = np.array(limits.workspace_high)

    def reset(self) -> None:
        """Forget the target: the next action starts from the measured pose."""
        self._position = None
        self._last_step = np.zeros(3)

    def resume(self, position: Array, orientation: Array, step: Array) -> None:
        """Go on from a target: position (3,) metres, quaternion (4,) x y z w, and the step (3,) that led there."""
        self._position, self._orientation, self._last_step = position, _unit(orientation), step

    @property
    def last_step(self) -> Array:
        """(3,) float64: how far the target moved at the last tick, metres."""
        return self._last_step

    @property
    def pose(self) -> tuple[Array, Array] | None:
        """The target: position (3,) in metres and quaternion (4,) x y z w; None before the first action."""
        return None if self._position is None else (self._position, self._orientation)

    def advance(
        self, action: NDArray[np.floating], state: RobotState
    ) -> tuple[CartesianTarget, NDArray[np.float32], Clamp]:
        """Apply one action (7,) to the target; give the target, the action after clamps, and the clamps.

        Translation and rotation of the action given back are what the target did, so that adding them up again gives
        the same path.

        Raises:
            ValueError: if the action or the measured pose is not finite, or the quaternion has no length; the target
                stays as it was.
        """
        values = [float(value) for value in action]
        measured = state.position
        if not math.isfinite(sum(values)) or not math.isfinite(float(measured.sum() + state.orientation.sum())):
            raise ValueError(f"cannot move by {values} from {measured.tolist()}: check both for finite numbers")
        if self._position is None:
            before, facing_before = measured.astype(float), _unit(state.orientation)
        else:
            before, facing_before = self._position, self._orientation
        position, step, moved = self._moved(np.array(values[TRANSLATION]), before, measured)
        orientation, turn, turned = self._turned(np.array(values[ROTATION]), facing_before, _unit(state.orientation))
        opening, clamps = values[GRIPPER], moved | turned
        if not 0.0 <= opening <= 1.0:
            opening, clamps = min(max(opening, 0.0), 1.0), clamps | Clamp.GRIPPER
        self._position, self._orientation, self._last_step = position, _unit(orientation), step
        sent = np.array([*step.tolist(), *turn.tolist(), opening], dtype=np.float32)
        return CartesianTarget(position, self._orientation, opening * self._limits.gripper_width), sent, clamps

    def _moved(self, wanted: Array, before: Array, measured: Array) -> tuple[Array, Array, Clamp]:
        """Position (3,) after a wanted step (3,), the step (3,) that was taken, and what it met; metres."""
        limits = self._limits
        step, clamps = self._limited_step(wanted)
        free = before + step
        position = self._inside(free, before)
        if position is not free:
            clamps |= Clamp.WORKSPACE
        lead = position - measured
        distance = _length(lead)
        if distance > limits.tracking_distance:
            position = measured + lead * (limits.tracking_distance / distance)
            clamps |= Clamp.TRACKING
        if clamps & (Clamp.WORKSPACE | Clamp.TRACKING):
            # A measured pose that leaps must neither make the target leap after it nor start it abruptly: the part of
            # the step that brakes is taken whole, what goes beyond is limited like any other change.
            step = _shortened(position - before, limits.translation * self.pace)
            ended = np.clip(step, np.minimum(self._last_step, 0.0), np.maximum(self._last_step, 0.0))
            step = ended + _shortened(step - ended, limits.translation_change * self.pace)
            position = self._inside(before + step, before)
            step = position - before
        return position, step, clamps

    def _turned(self, wanted: Array, before: Array, measured: Array) -> tuple[Array, Array, Clamp]:
        """Orientation (4,) after a wanted turn (3,), radians, the turn (3,) that was made, and what it met."""
        limits, clamps = self._limits, Clamp.NONE
        most = limits.rotation * self.pace
        turn = _shortened(wanted, most)
        if turn is not wanted:
            clamps |= Clamp.ROTATION
        orientation = before
        if _length(wanted) > 0.0:
            orientation = quaternion_multiply(quaternion_from_rotation_vector(turn), before)
        angle = 2.0 * math.acos(min(1.0, abs(float(np.dot(orientation, measured)))))
        if angle > limits.tracking_angle:
            clamps |= Clamp.TRACKING
            ahead = rotation_vector_from_quaternion(quaternion_multiply(orientation, quaternion_conjugate(measured)))
            near = quaternion_multiply(
                quaternion_from_rotation_vector(ahead * (limits.tracking_angle / angle)), measured
            )
            turn = rotation_vector_from_quaternion(quaternion_multiply(near, quaternion_conjugate(before)))
            turn = _shortened(turn, most)
            orientation = quaternion_multiply(quaternion_from_rotation_vector(turn), before)
        return orientation, turn, clamps

    def _inside(self, wanted: Array, before: Array) -> Array:
        """A wanted position (3,), metres, or the nearest one inside the workspace.

        Where ``before`` is outside, the workspace reaches that far: the target may stay out there, and go no further.
        """
        if (self._low <= wanted).all() and (wanted <= self._high).all():
            return wanted
        inside = np.clip(wanted, np.minimum(self._low, before), np.maximum(self._high, before))
        return wanted if (inside == wanted).all() else inside

    def _limited_step(self, step: Array) -> tuple[Array, Clamp]:
        limits, clamps = self._limits, Clamp.NONE
        length, most = _length(step), limits.translation * self.pace
        if length > most:
            step, clamps, length = step * (most / length), clamps | Clamp.VELOCITY, most
        # A robot that is to be careful gathers speed more slowly, and sheds it as fast as ever.
        faster = self.pace < 1.0 and length >= _length(self._last_step)
        most = limits.translation_change * (self.pace if faster else 1.0)
        change = step - self._last_step
        length = _length(change)
        if length > most:
            step = self._last_step + change * (most / length)
            clamps |= Clamp.ACCELERATION
        return step, clamps


def _shortened(vector: Array, longest: float) -> Array:
    """The vector itself, or one of its direction and the longest length allowed."""
    length = _length(vector)
    return vector * (longest / length) if length > longest else vector


def _length(vector: Array) -> float:
    return math.hypot(float(vector[0]), float(vector[1]), float(vector[2]))


def _unit(quaternion: NDArray[np.floating]) -> Array:
    x, y, z, w = (float(value) for value in quaternion)
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if norm < 1e-6:
        raise ValueError(f"quaternion {[x, y, z, w]} has no length; expected a unit quaternion x y z w")
    return np.array([x / norm, y / norm, z / norm, w / norm])
