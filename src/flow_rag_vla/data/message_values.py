# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Messages as the domain's values, whether a node received them or a bag holds them. No ROS needed.

A message that makes no sense raises MessageError, never anything else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.takeover import TakeoverRequest
from flow_rag_vla.core.action import ACTION_DIM, TICK_S, ActionChunk, CorrectionMode, Provenance, invalid_actions
from flow_rag_vla.core.correction import FARTHEST_SHIFT, Correction, told_until
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.core.state import FARTHEST, RobotState


class MessageError(ValueError):
    """A message whose content is malformed; the text names field and value."""


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a ``builtin_interfaces/Time``, or of the header of a message."""
    time = getattr(stamp, "stamp", stamp)
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def image_pixels(image: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an rgb8, bgr8, rgba8, bgra8 or mono8 image, honouring ``step``.

    Raises:
        MessageError: for another encoding or a size that does not fit the data.
    """
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}.get(image.encoding)
    if channels is None:
        raise MessageError(f"image encoding {image.encoding!r} is not one of rgb8, bgr8, rgba8, bgra8, mono8")
    height, width, step = image.height, image.width, image.step
    if height == 0 or width == 0:
        raise MessageError(f"image is {width} x {height} pixels: empty")
    if step < width * channels:
        raise MessageError(
            f"image step is {step} bytes, but {width} pixels of {image.encoding} need {width * channels}"
        )
    if len(image.data) < step * height:
        raise MessageError(
            f"image has {len(image.data)} bytes, but {height} rows of {step} need {step * height}: truncated"
        )
    rows = np.frombuffer(image.data, dtype=np.uint8, count=step * height).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    if image.encoding.startswith("bgr"):
        return np.ascontiguousarray(pixels[:, :, 2::-1])
    return np.ascontiguousarray(pixels[:, :, :3])


def robot_state(message: Any) -> RobotState:
    """Robot state of a ``RobotState`` message.

    Raises:
        MessageError: as ``checked_robot_state``.
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
    return checked_robot_state(state)


def checked_robot_state(state: RobotState) -> RobotState:
    """The state itself.

    Raises:
        MessageError: if a number is not finite, the tool is farther from the base than ``FARTHEST``, or the quaternion
            is not of unit length.
    """
    # A sum of numbers of any sensible size is finite exactly if all of them are.
    total = state.position.sum() + state.orientation.sum() + state.joint_positions.sum() + state.joint_velocities.sum()
    total += state.wrench.sum() + state.gripper_width + state.gripper_effort
    if not math.isfinite(total):
        raise MessageError("robot state holds a number that is not finite; check the robot driver")
    place: list[float] = state.position.tolist()
    if max(map(abs, place)) >= FARTHEST:
        # Whatever squares such a number, or makes a float32 of it, would have to deal with an overflow.
        raise MessageError(f"robot state: position is {place}, expected metres from the base; check the robot driver")
    norm = math.sqrt(float(np.dot(state.orientation, state.orientation)))
    if abs(norm - 1.0) > 1e-2:
        raise MessageError(f"robot state: the quaternion has length {norm:.3f}, expected 1")
    return state


def embedding_values(message: Any, dimension: int | None = None) -> NDArray[np.float32]:
    """(D,) float32 unit vector of an embedding.

    Raises:
        MessageError: if it is empty, not finite, not of unit length, or not of ``dimension``.
    """
    values = np.array(message.values, dtype=np.float32)
    if dimension is not None and values.shape[0] != dimension:
        raise MessageError(
            f"embedding of {message.encoder!r} has dimension {values.shape[0]}, expected {dimension}; "
            "use the encoder that the checkpoint names"
        )
    norm = float(np.linalg.norm(values)) if values.size else 0.0
    if not np.isfinite(norm) or abs(norm - 1.0) > 1e-2:
        raise MessageError(f"embedding of {message.encoder!r} has length {norm:.3f}, expected 1")
    return values


def action_chunk(message: Any) -> ActionChunk:
    """Chunk of an ``ActionChunk`` message.

    Raises:
        MessageError: if its sizes disagree, its rows are not 25 ms apart, or a number is not finite.
    """
    if message.action_dim != ACTION_DIM or len(message.actions) != message.horizon * ACTION_DIM:
        raise MessageError(
            f"chunk {message.chunk_id} has {len(message.actions)} numbers for {message.horizon} x "
            f"{message.action_dim}, expected {message.horizon} x {ACTION_DIM}"
        )
    if abs(message.tick_period - TICK_S) > 1e-4:
        raise MessageError(f"chunk {message.chunk_id} has rows {message.tick_period:.4f} s apart, expected {TICK_S} s")
    actions = np.array(message.actions, dtype=np.float32).reshape(message.horizon, ACTION_DIM)
    problem = invalid_actions(actions)
    if problem is not None:
        raise MessageError(f"chunk {message.chunk_id}: {problem}")
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
        MessageError: if its sizes disagree or a number is not finite.
    """
    name = f"correction {message.correction_id}"
    actions = _rows(message.actions, message.horizon, f"{name}: actions")
    failed = _rows(message.failed_actions, message.horizon, f"{name}: failed_actions")
    if actions is not None and actions.shape[0] != 1:
        raise MessageError(f"{name}: actions holds {actions.shape[0]} chunks, expected one")
    if not 0.0 <= message.strength <= 1.0:
        raise MessageError(f"{name}: strength is {message.strength}, expected 0 to 1")
    return Correction(
        stamp_ns(message.header),
        correction_mode(message.correction),
        float(message.strength),
        None if actions is None else actions[0],
        failed,
        tuple(int(case.case_id) for case in message.cases),
        _until(message, name),
        _shift(message, name),
        _state_stamp(message),
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
        MessageError: for an unknown correction.
    """
    return Provenance(
        stamp_ns(message.observation_stamp),
        message.policy,
        message.policy_revision,
        int(message.noise_seed),
        correction_mode(message.correction),
        float(message.correction_strength),
        tuple(int(case) for case in message.case_ids),
        _state_stamp(message),
    )


def evidence(messages: Any) -> tuple[Evidence, ...]:
    """Pieces of evidence of ``Evidence`` messages."""
    return tuple(Evidence(item.name, float(item.value), float(item.threshold), item.unit) for item in messages)


def correction_mode(value: int) -> CorrectionMode:
    """Correction mode of a message's field.

    Raises:
        MessageError: if there is no such mode.
    """
    try:
        return CorrectionMode(value)
    except ValueError:
        raise MessageError(f"correction {value} is not one of {[int(mode) for mode in CorrectionMode]}") from None


def _state_stamp(message: Any) -> int:
    # As below.
    said = getattr(message, "state_stamp", None)
    return 0 if said is None else stamp_ns(said)


def _shift(message: Any, name: str) -> NDArray[np.float32] | None:
    # Bags that were written before there was one lack the field.
    values = np.array(getattr(message, "shift", ()), dtype=np.float32)
    if values.size == 0:
        return None
    if values.shape != (3,) or not float(np.linalg.norm(values)) <= FARTHEST_SHIFT:
        raise MessageError(
            f"{name}: shift is {values.tolist()}, expected none or three numbers (metres) of a length up to "
            f"{FARTHEST_SHIFT}"
        )
    return values


def _until(message: Any, name: str) -> float:
    try:
        # Bags that were recorded before the field was there decode without it.
        return told_until(float(getattr(message, "guidance_until", 0.0)))
    except ValueError as error:
        raise MessageError(f"{name}: {error}") from None


def _rows(values: Any, horizon: int, name: str) -> NDArray[np.float32] | None:
    if not len(values):
        return None
    size = horizon * ACTION_DIM
    if size == 0 or len(values) % size:
        raise MessageError(f"{name} has {len(values)} numbers, expected a multiple of {horizon} x {ACTION_DIM}")
    rows = np.array(values, dtype=np.float32).reshape(-1, horizon, ACTION_DIM)
    if not np.isfinite(rows).all():
        raise MessageError(f"{name} holds a number that is not finite")
    return rows
