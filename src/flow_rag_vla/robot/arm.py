# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where an arm's tool is and which joint angles put it there, from its URDF, by Pinocchio.

The inverse is damped least squares [Wampler 1986, Nakamura and Hanafusa 1986] from a posture near by: the damping
rises as the smallest singular value falls, so a singularity costs accuracy, never speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import RobotProfile

Array = NDArray[np.float64]

_ITERATIONS = 60
_LONGEST_STEP = 0.2
"""Radians of one iteration: the linearisation holds over this."""
_NEAR_SINGULAR = 0.03
_DAMPING = 0.03
_HOMEWARD = 0.002
"""Radians by which a redundant arm leans toward its home posture in one solution, its tool staying where it is."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Joint angles (J,), radians, and how far the tool is from what was asked, metres and radians.

    smallest_singular_value: of the Jacobian there; near zero the arm cannot move in every direction
    """

    joints: Array
    position_error: float
    orientation_error: float
    smallest_singular_value: float


class Arm:
    """Kinematics of a profile's joints, tool in the base frame. Not for use by several threads."""

    def __init__(self, profile: RobotProfile) -> None:
        """Load the URDF.

        Raises:
            ProfileError: if Pinocchio is not installed, or profile and URDF disagree.
        """
        try:
            import pinocchio
        except ImportError:
            raise ProfileError(
                "the kinematics of real arms need Pinocchio, which is not installed: pip install 'flow_rag_vla[robot]'"
            ) from None
        self._pin: Any = pinocchio
        try:
            whole = pinocchio.buildModelFromUrdf(str(profile.urdf))
        except (ValueError, RuntimeError) as error:
            raise ProfileError(f"{profile.file}: urdf {profile.urdf} cannot be read: {error}") from None
        names = profile.joint_names
        for index, name in enumerate(names):
            if name not in whole.names:
                known = ", ".join(list(whole.names)[1:])
                raise ProfileError(f"{profile.file}: joints[{index}].name is {name!r}, but the URDF has: {known}")
            joint = whole.joints[whole.getJointId(name)]
            if joint.nq != 1:
                raise ProfileError(
                    f"{profile.file}: joint {name!r} has no limits in the URDF (continuous); make it revolute there"
                )
        for field, name in (("base_frame", profile.base_frame), ("tool_frame", profile.tool_frame)):
            if not whole.existFrame(name):
                known = ", ".join(frame.name for frame in whole.frames if "BODY" in str(frame.type))
                raise ProfileError(f"{profile.file}: {field} is {name!r}, but the URDF's links are: {known}")
        others = [whole.getJointId(name) for name in list(whole.names)[1:] if name not in names]
        self._model = pinocchio.buildReducedModel(whole, others, pinocchio.neutral(whole))
        self._data = self._model.createData()
        # The URDF's order need not be the profile's.
        self._order = np.array([self._model.joints[self._model.getJointId(name)].idx_q for name in names])
        self._base = self._model.getFrameId(profile.base_frame)
        self._tool = self._model.getFrameId(profile.tool_frame)
        self._low, self._high = profile.limits("low"), profile.limits("high")
        self._home = profile.limits("home")
        self._exact = profile.orientation == "exact"
        self._position_first = profile.orientation == "best"
        for index, joint in enumerate(profile.joints):
            low = float(self._model.lowerPositionLimit[self._order[index]])
            high = float(self._model.upperPositionLimit[self._order[index]])
            if joint.low < low - 1e-3 or joint.high > high + 1e-3:
                raise ProfileError(
                    f"{profile.file}: joints[{index}] ({joint.name}) goes from {joint.low:g} to {joint.high:g}, but "
                    f"the URDF allows {low:g} to {high:g}; narrow the profile or correct the URDF"
                )

    def pose(self, joints: Array) -> tuple[Array, Array]:
        """Tool position (3,), metres, and unit quaternion (4,) x y z w in the base frame, for (J,) radians."""
        place, _ = self._placed(joints)
        return np.array(place.translation), np.array(self._pin.Quaternion(place.rotation).coeffs())

    def jacobian(self, joints: Array) -> Array:
        """(6, J): tool velocity (m/s, rad/s; axes of the base frame) of each joint's 1 rad/s."""
        return self._placed(joints)[1]

    def has_frame(self, name: str) -> bool:
        """Whether the URDF has a link or joint of that name."""
        return bool(self._model.existFrame(name))

    def wrench_at_tool(self, wrench: Array, frame: str, joints: Array) -> Array:
        """(6,) force (N) and torque (N m) at the tool, base frame, of what is felt at ``frame`` in its own axes."""
        place, _ = self._placed(joints)
        sensor = self._data.oMf[self._base].actInv(self._data.oMf[self._model.getFrameId(frame)])
        force = sensor.rotation @ wrench[:3]
        return np.concatenate(
            [force, sensor.rotation @ wrench[3:] + np.cross(sensor.translation - place.translation, force)]
        )

    def solve(self, position: Array, orientation: Array, start: Array) -> Solution:
        """Joint angles inside the limits for a tool pose, the ones that ``start`` (J,) leads to.

        What cannot be reached is met as nearly as the iteration gets; the errors say how nearly.
        """
        joints = np.clip(start, self._low, self._high)
        smallest = 0.0
        for iteration in range(_ITERATIONS):
            error, jacobian = self._error(joints, position, orientation)
            smallest = float(np.linalg.svd(jacobian if self._exact else jacobian[:3], compute_uv=False)[-1])
            away = float(np.linalg.norm(error if self._exact else error[:3]))
            if iteration and away < 1e-6 and self._exact:
                break
            step, free = self._step(jacobian, error)
            if iteration == 0 and free is not None:
                step = step + free @ np.clip(self._home - joints, -_HOMEWARD, _HOMEWARD)
            longest = float(np.abs(step).max())
            if iteration and longest < 1e-8:
                break
            joints = np.clip(joints + step * min(1.0, _LONGEST_STEP / max(longest, 1e-12)), self._low, self._high)
        error, _ = self._error(joints, position, orientation)
        return Solution(joints, float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:])), smallest)

    def _step(self, jacobian: Array, error: Array) -> tuple[Array, Array | None]:
        size = jacobian.shape[1]
        if self._position_first:
            # The position is met exactly, the orientation as nearly as what is left of the joints can.
            inverse = _damped_inverse(jacobian[:3])
            free = np.eye(size) - inverse @ jacobian[:3]
            step = inverse @ error[:3]
            turning = jacobian[3:] @ free
            # More damping: the orientation need not be reachable, and must not fight for it.
            turn = turning.T @ np.linalg.solve(turning @ turning.T + 0.01 * np.eye(3), error[3:] - jacobian[3:] @ step)
            return step + free @ turn, None
        inverse = _damped_inverse(jacobian)
        return inverse @ error, np.eye(size) - inverse @ jacobian if size > 6 else None

    def _error(self, joints: Array, position: Array, orientation: Array) -> tuple[Array, Array]:
        place, jacobian = self._placed(joints)
        turned = np.array(self._pin.Quaternion(place.rotation).coeffs())
        turn = rotation_vector_from_quaternion(quaternion_multiply(orientation, quaternion_conjugate(turned)))
        return np.concatenate([position - place.translation, turn]), jacobian

    def _placed(self, joints: Array) -> tuple[Any, Array]:
        pin, model, data = self._pin, self._model, self._data
        q = np.empty(len(joints))
        q[self._order] = joints
        pin.computeJointJacobians(model, data, q)
        pin.updateFramePlacements(model, data)
        base = data.oMf[self._base]
        world = pin.getFrameJacobian(model, data, self._tool, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        jacobian = np.empty_like(world)
        jacobian[:3], jacobian[3:] = base.rotation.T @ world[:3], base.rotation.T @ world[3:]
        return base.actInv(data.oMf[self._tool]), np.asarray(jacobian[:, self._order])


def _damped_inverse(matrix: Array) -> Array:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    near = max(0.0, 1.0 - (float(values[-1]) / _NEAR_SINGULAR) ** 2)
    damping = near * _DAMPING**2
    return np.asarray(right.T @ np.diag(values / (values**2 + damping + 1e-12)) @ left.T)
