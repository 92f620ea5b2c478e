"""Messages read from a bag as the domain's values, refused for the same reasons as the live nodes refuse them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.takeover import TakeoverRequest
from flow_rag_vla.core.action import ACTION_DIM, TICK_S, ActionChunk, CorrectionMode, Provenance, invalid_actions
from flow_rag_vla.core.correction import Correction, told_until
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import stamp_ns


class ValueProblem(ValueError):
    """A recorded message whose content is malformed; the text names field and value."""


def robot_state(message: Any) -> RobotState:
    """Robot state of a ``RobotState`` message.

    Raises:
        ValueProblem: if a number is not finite or the quaternion is not of unit length.
    """
    position, orientation = message.end_effector.position, message.end_effector.orientation
    force, torque = message.wrench.force, message.wrench.torque
    state = RobotState(
        stamp_ns(message.header),
        np.array([position.x, position.y, position.z]),
        np.array([orientation.x, orientation.y, orientation.z, orientation.w]),
        np.array(message.joint_positions, dtype=float),
        np.array(message.joint_velocities, dtype=float),
        float(message.gripper_width),
        float(message.gripper_effort),
        np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z]),
    )
    total = state.position.sum() + state.orientation.sum() + state.joint_positions.sum() + state.joint_velocities.sum()
    total += state.wrench.sum() + state.gripper_width + state.gripper_effort
    if not math.isfinite(total):
        raise ValueProblem("robot state holds a number that is not finite")
    norm = math.sqrt(float(np.dot(state.orientation, state.orientation)))
    if abs(norm - 1.0) > 1e-2:
        raise ValueProblem(f"robot state: the quaternion has length {norm:.3f}, expected 1")
    return state


def action_chunk(message: Any) -> ActionChunk:
    """Chunk of an ``ActionChunk`` message.

    Raises:
        ValueProblem: if its sizes disagree, its rows are not 25 ms apart, or a number is not finite.
    """
    if message.action_dim != ACTION_DIM or len(message.actions) != message.horizon * ACTION_DIM:
        raise ValueProblem(
            f"chunk {message.chunk_id} has {len(message.actions)} numbers for {message.horizon} x "
            f"{message.action_dim}, expected {message.horizon} x {ACTION_DIM}"
        )
    if abs(message.tick_period - TICK_S) > 1e-4:
        raise ValueProblem(f"chunk {message.chunk_id} has rows {message.tick_period:.4f} s apart, expected {TICK_S} s")
    actions = np.array(message.actions, dtype=np.float32).reshape(message.horizon, ACTION_DIM)
    problem = invalid_actions(actions)
    if problem is not None:
        raise ValueProblem(f"chunk {message.chunk_id}: {problem}")
    return ActionChunk(
        int(message.chunk_id),
        stamp_ns(message.header),
        actions,
        message.task,
        np.array(message.uncertainty, dtype=np.float32) if len(message.uncertainty) else None,
        int(message.committed),
        provenance(message.provenance),
    )


def correction(message: Any) -> Correction:
    """Correction of a ``Correction`` message.

    Raises:
        ValueProblem: if its sizes disagree or a number is not finite.
    """
    name = f"correction {message.correction_id}"
    actions = _rows(message.actions, message.horizon, f"{name}: actions")
    failed = _rows(message.failed_actions, message.horizon, f"{name}: failed_actions")
    if actions is not None and actions.shape[0] != 1:
        raise ValueProblem(f"{name}: actions holds {actions.shape[0]} chunks, expected one")
    if not 0.0 <= message.strength <= 1.0:
        raise ValueProblem(f"{name}: strength is {message.strength}, expected 0 to 1")
    return Correction(
        stamp_ns(message.header),
        correction_mode(message.correction),
        float(message.strength),
        None if actions is None else actions[0],
        failed,
        tuple(int(case.case_id) for case in message.cases),
        _until(message, name),
    )


def takeover_request(message: Any) -> TakeoverRequest:
    """What a person asked for in a ``Takeover`` message."""
    linear, angular = message.velocity.linear, message.velocity.angular
    return TakeoverRequest(
        stamp_ns(message.header),
        message.person,
        bool(message.active),
        np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]),
        float(message.gripper),
    )


def provenance(message: Any) -> Provenance:
    """Provenance of a ``Provenance`` message.

    Raises:
        ValueProblem: for an unknown correction.
    """
    return Provenance(
        stamp_ns(message.observation_stamp),
        message.policy,
        message.policy_revision,
        int(message.noise_seed),
        correction_mode(message.correction),
        float(message.correction_strength),
        tuple(int(case) for case in message.case_ids),
    )


def evidence(messages: Any) -> tuple[Evidence, ...]:
    """Pieces of evidence of ``Evidence`` messages."""
    return tuple(Evidence(item.name, float(item.value), float(item.threshold), item.unit) for item in messages)


def correction_mode(value: int) -> CorrectionMode:
    """Correction mode of a message's field.

    Raises:
        ValueProblem: if there is no such mode.
    """
    try:
        return CorrectionMode(value)
    except ValueError:
        raise ValueProblem(f"correction {value} is not one of {[int(mode) for mode in CorrectionMode]}") from None


def _until(message: Any, name: str) -> float:
    try:
        # Bags that were recorded before the field was there decode without it.
        return told_until(float(getattr(message, "guidance_until", 0.0)))
    except ValueError as error:
        raise ValueProblem(f"{name}: {error}") from None


def _rows(values: Any, horizon: int, name: str) -> NDArray[np.float32] | None:
    if not len(values):
        return None
    size = horizon * ACTION_DIM
    if size == 0 or len(values) % size:
        raise ValueProblem(f"{name} has {len(values)} numbers, expected a multiple of {horizon} x {ACTION_DIM}")
    rows = np.array(values, dtype=np.float32).reshape(-1, horizon, ACTION_DIM)
    if not np.isfinite(rows).all():
        raise ValueProblem(f"{name} holds a number that is not finite")
    return rows
