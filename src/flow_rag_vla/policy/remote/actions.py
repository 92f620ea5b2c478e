# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From the rows of an answer, at the policy's own rate, to rows of 25 ms.

An answer is read as a path of the tool: where it is at the observation, and where each step leaves it. Between steps
the path is straight and turns evenly. What the tool does in a tick is the difference of two points of the path, so the
whole motion is kept whatever the two rates are, and a rotation is never the sum of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, CONTROL_RATE_HZ
from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.remote.contract import ActionMeaning
from flow_rag_vla.policy.remote.errors import ActionError

Array = NDArray[np.float64]

Pose = tuple[Array, Array]
"""Position (3,) in metres and unit quaternion (4,) x y z w, base frame."""

Forward = Callable[[Array], Pose]
"""Joint angles (J,), radians, to the tool's pose."""

MOST_STEPS = 1000
LARGEST = 100.0
"""Of any number in an answer: they are metres, radians or shares of a step, and a larger one is a fault."""

OFF_TOOL = 0.02
"""Metres between the tool as the robot says it and as its joints give it, above which they are of different robots."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where the tool is at the observation and after each of H steps.

    positions: (H + 1, 3) metres; orientations: (H + 1, 4) unit quaternions x y z w; gripper: (H,) 0 closed to 1 open
    """

    positions: Array
    orientations: Array
    gripper: Array
    rate: float
    absolute: bool

    def at(self, second: float) -> Pose:
        """The pose so many seconds after the observation; the last one after the end."""
        steps = len(self.gripper)
        step = min(max(second * self.rate, 0.0), float(steps))
        before = min(int(step), steps - 1)
        share = step - before
        position = (1.0 - share) * self.positions[before] + share * self.positions[before + 1]
        return position, _between(self.orientations[before], self.orientations[before + 1], share)

    @property
    def ticks(self) -> int:
        """Whole ticks of 25 ms in it."""
        return int(len(self.gripper) * CONTROL_RATE_HZ / self.rate + 1e-9)


def answered_actions(answer: Any, meaning: ActionMeaning) -> Array:
    """(H, D) float64: the actions of an answer.

    Raises:
        ActionError: if there are none, or of another shape, or one is not finite or absurdly large.
    """
    if not isinstance(answer, Mapping) or "actions" not in answer:
        held = ", ".join(map(str, answer)) if isinstance(answer, Mapping) else type(answer).__name__
        raise ActionError(f"the answer holds no 'actions' (it holds: {held[:120] or 'nothing'})")
    actions = answer["actions"]
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        kind = actions.dtype.str if isinstance(actions, np.ndarray) else type(actions).__name__
        raise ActionError(f"the answer's actions are of type {kind}, expected an array of numbers")
    shape, columns = actions.shape, meaning.columns
    if len(shape) != 2 or shape[1] != columns or not 1 <= shape[0] <= MOST_STEPS:
        raise ActionError(
            f"the answer's actions have shape {shape}, expected (1 to {MOST_STEPS}, {columns}) for {meaning.kind}; "
            "is another policy served than the contract is of?"
        )
    values = actions.astype(np.float64)
    wrong = ~(np.abs(values) <= LARGEST)
    if wrong.any():
        row, column = (int(index) for index in np.argwhere(wrong)[0])
        raise ActionError(
            f"actions[{row}, {column}] of the answer is {values[row, column]:g}, expected a number within {LARGEST:g}"
        )
    return values


def tool_path(actions: Array, meaning: ActionMeaning, state: RobotState, forward: Forward | None = None) -> Path:
    """Where the actions lead the tool.

    Args:
        actions: (H, D), as ``answered_actions`` gives them.
        meaning: of their numbers.
        state: of the observation that they answer.
        forward: kinematics of the arm, for ``joint_velocity``.

    Raises:
        ActionError: if the kinematics are missing or not this robot's.
    """
    motion = np.clip(actions[:, :-1], -meaning.clip, meaning.clip) if meaning.clip else actions[:, :-1]
    orientation = state.orientation / np.linalg.norm(state.orientation)
    poses: list[Pose] = [(np.asarray(state.position, dtype=np.float64), orientation)]
    if meaning.kind == "joint_velocity":
        poses = _joint_poses(motion, meaning, state, forward)
    elif meaning.kind == "absolute_pose":
        poses += [(row[:3] * meaning.translation, _rotation(row[3:] * meaning.rotation, meaning)) for row in motion]
    else:
        for row in motion:
            position, turned = poses[-1]
            step, turn = row[:3] * meaning.translation, _rotation(row[3:] * meaning.rotation, meaning)
            if meaning.frame == "tool":
                step, after = _rotated(turned, step), quaternion_multiply(turned, turn)
            else:
                after = quaternion_multiply(turn, turned)
            poses.append((position + step, after))
    return Path(
        np.array([position for position, _ in poses]),
        np.array([turned for _, turned in poses]),
        _gripper(actions[:, -1], meaning),
        meaning.rate,
        meaning.kind == "absolute_pose",
    )


def chunk_rows(path: Path, passed: int = 0, target: Pose | None = None) -> NDArray[np.float32]:
    """(H, 7) float32: the path in rows of 25 ms, as ``core.action.ActionChunk`` has them.

    Args:
        path: H of its steps last ``path.ticks`` ticks.
        passed: rows that are over when the chunk is handed on.
        target: where the robot has been told to be at that time. A path of absolute poses is gone to from there within
            its next step; a relative one goes on from wherever that is.
    """
    poses = [path.at(tick / CONTROL_RATE_HZ) for tick in range(path.ticks + 1)]
    rows = np.zeros((path.ticks, ACTION_DIM), dtype=np.float32)
    for tick in range(path.ticks):
        (position, turned), (after, turned_after) = poses[tick], poses[tick + 1]
        rows[tick, :3] = after - position
        turn = quaternion_multiply(turned_after, quaternion_conjugate(turned))
        rows[tick, 3:6] = rotation_vector_from_quaternion(turn)
        rows[tick, 6] = path.gripper[min(int(tick * path.rate / CONTROL_RATE_HZ + 1e-9), len(path.gripper) - 1)]
    if path.absolute and target is not None and passed < path.ticks:
        position, turned = poses[passed]
        until = min(path.ticks, passed + max(1, round(CONTROL_RATE_HZ / path.rate)))
        # A turn about an axis of the base frame commutes with the small turns of the rows to within their product.
        away = rotation_vector_from_quaternion(quaternion_multiply(turned, quaternion_conjugate(target[1])))
        rows[passed:until, :3] += ((position - target[0]) / (until - passed)).astype(np.float32)
        rows[passed:until, 3:6] += (away / (until - passed)).astype(np.float32)
    return rows


def _joint_poses(motion: Array, meaning: ActionMeaning, state: RobotState, forward: Forward | None) -> list[Pose]:
    if forward is None:
        raise ActionError("actions are joint velocities, and the robot's kinematics are not known; set robot_profile")
    joints = np.asarray(state.joint_positions, dtype=np.float64)
    if joints.shape != (meaning.joints,):
        raise ActionError(f"actions are of {meaning.joints} joints, but the robot has {joints.size}")
    first = forward(joints)
    off = float(np.linalg.norm(first[0] - state.position))
    if off > OFF_TOOL:
        raise ActionError(
            f"the joints put the tool {off:.3f} m from where the robot says that it is, allowed are {OFF_TOOL} m; "
            "is robot_profile of another robot or tool?"
        )
    return [first, *(forward(joints + step) for step in np.cumsum(motion * meaning.joint, axis=0))]


def _rotation(values: Array, meaning: ActionMeaning) -> Array:
    """Quaternion of three radians."""
    if meaning.rotation_form == "rotation_vector":
        return quaternion_from_rotation_vector(values)
    turned = np.array([0.0, 0.0, 0.0, 1.0])
    for axis in range(3):
        about = np.zeros(3)
        about[axis] = values[axis]
        turned = quaternion_multiply(quaternion_from_rotation_vector(about), turned)
    return turned


def _rotated(quaternion: Array, vector: Array) -> Array:
    pure = np.array([*vector, 0.0])
    return quaternion_multiply(quaternion_multiply(quaternion, pure), quaternion_conjugate(quaternion))[:3]


def _between(one: Array, other: Array, share: float) -> Array:
    turn = rotation_vector_from_quaternion(quaternion_multiply(other, quaternion_conjugate(one)))
    return quaternion_multiply(quaternion_from_rotation_vector(share * turn), one)


def _gripper(values: Array, meaning: ActionMeaning) -> Array:
    span = meaning.gripper_open - meaning.gripper_closed
    opening = np.clip((values - meaning.gripper_closed) / span, 0.0, 1.0)
    return np.where(opening >= 0.5, 1.0, 0.0) if meaning.gripper_binary else opening
