"""Domain values to messages and back. A message that makes no sense raises MessageError, never anything else."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from flow_rag_vla.control.takeover import TakeoverRequest
from flow_rag_vla.core.action import ACTION_DIM, TICK_S, ActionChunk, CorrectionMode, Provenance, invalid_actions
from flow_rag_vla.core.correction import Correction, told_until
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces import msg


class MessageError(ValueError):
    """A message whose content is malformed; the text names field and value."""


def floats(values: NDArray[Any] | Sequence[float]) -> array.array[float]:
    """float32 array for a message field. An ndarray or a list would be copied element by element (5 to 90 ms)."""
    result: array.array[float] = array.array("f")
    result.frombytes(np.ascontiguousarray(values, dtype=np.float32).tobytes())
    return result


def image_array(image: Image) -> NDArray[np.uint8]:
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


def image_message(pixels: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """rgb8 message of an (H, W, 3) uint8 array."""
    image = Image()
    image.header.stamp = to_stamp(stamp_ns)
    image.header.frame_id = frame_id
    image.height, image.width = int(pixels.shape[0]), int(pixels.shape[1])
    image.encoding, image.step = "rgb8", int(pixels.shape[1]) * 3
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels).tobytes())
    image.data = data
    return image


def pose_message(position: NDArray[np.floating], orientation: NDArray[np.floating]) -> Pose:
    """Pose of a position (3,) in metres and a quaternion (4,) x y z w."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(value) for value in position)
    quaternion = pose.orientation
    quaternion.x, quaternion.y, quaternion.z, quaternion.w = (float(value) for value in orientation)
    return pose


def robot_state_message(state: RobotState, joint_names: Sequence[str], frame_id: str) -> msg.RobotState:
    """Message of a robot state."""
    message = msg.RobotState()
    message.header.stamp = to_stamp(state.stamp_ns)
    message.header.frame_id = frame_id
    message.end_effector = pose_message(state.position, state.orientation)
    message.joint_names = list(joint_names)
    message.joint_positions = array.array("d", state.joint_positions.tolist())
    message.joint_velocities = array.array("d", state.joint_velocities.tolist())
    message.gripper_width = float(state.gripper_width)
    message.gripper_effort = float(state.gripper_effort)
    force, torque = message.wrench.force, message.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = (float(value) for value in state.wrench)
    return message


def robot_state(message: msg.RobotState) -> RobotState:
    """Robot state of a message.

    Raises:
        MessageError: if a number is not finite or the quaternion is not of unit length.
    """
    position, orientation = message.end_effector.position, message.end_effector.orientation
    force, torque = message.wrench.force, message.wrench.torque
    state = RobotState(
        to_ns(message.header.stamp),
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
        MessageError: if a number is not finite or the quaternion is not of unit length.
    """
    # A sum of numbers of any sensible size is finite exactly if all of them are.
    total = state.position.sum() + state.orientation.sum() + state.joint_positions.sum() + state.joint_velocities.sum()
    total += state.wrench.sum() + state.gripper_width + state.gripper_effort
    if not math.isfinite(total):
        raise MessageError("robot state holds a number that is not finite; check the robot driver")
    norm = math.sqrt(float(np.dot(state.orientation, state.orientation)))
    if abs(norm - 1.0) > 1e-2:
        raise MessageError(f"robot state: the quaternion has length {norm:.3f}, expected 1")
    return state


def embedding_values(message: msg.Embedding, dimension: int | None = None) -> NDArray[np.float32]:
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


def provenance_message(provenance: Provenance) -> msg.Provenance:
    """Message of a provenance."""
    return msg.Provenance(
        observation_stamp=to_stamp(provenance.observation_stamp_ns),
        policy=provenance.policy,
        policy_revision=provenance.policy_revision,
        noise_seed=provenance.noise_seed,
        correction=int(provenance.correction),
        correction_strength=float(provenance.correction_strength),
        case_ids=array.array("Q", provenance.case_ids),
    )


def provenance(message: msg.Provenance) -> Provenance:
    """Provenance of a message."""
    return Provenance(
        to_ns(message.observation_stamp),
        message.policy,
        message.policy_revision,
        int(message.noise_seed),
        _correction_mode(message.correction),
        float(message.correction_strength),
        tuple(int(case) for case in message.case_ids),
    )


def chunk_message(chunk: ActionChunk, frame_id: str) -> msg.ActionChunk:
    """Message of a chunk."""
    message = msg.ActionChunk()
    message.header.stamp = to_stamp(chunk.stamp_ns)
    message.header.frame_id = frame_id
    message.chunk_id, message.task = chunk.chunk_id, chunk.task
    message.horizon, message.action_dim, message.tick_period = chunk.horizon, ACTION_DIM, TICK_S
    message.actions = floats(chunk.actions)
    if chunk.uncertainty is not None:
        message.uncertainty = floats(chunk.uncertainty)
    message.committed = chunk.committed
    message.provenance = provenance_message(chunk.provenance)
    return message


def action_chunk(message: msg.ActionChunk) -> ActionChunk:
    """Chunk of a message.

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
        to_ns(message.header.stamp),
        actions,
        message.task,
        np.array(message.uncertainty, dtype=np.float32) if len(message.uncertainty) else None,
        int(message.committed),
        provenance(message.provenance),
    )


def correction(message: msg.Correction) -> Correction:
    """Correction of a message.

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
        to_ns(message.header.stamp),
        _correction_mode(message.correction),
        float(message.strength),
        None if actions is None else actions[0],
        failed,
        tuple(int(case.case_id) for case in message.cases),
        _until(message, name),
    )


def _until(message: msg.Correction, name: str) -> float:
    try:
        return told_until(float(message.guidance_until))
    except ValueError as error:
        raise MessageError(f"{name}: {error}") from None


def takeover_request(message: msg.Takeover) -> TakeoverRequest:
    """What a person asks for."""
    linear, angular = message.velocity.linear, message.velocity.angular
    return TakeoverRequest(
        to_ns(message.header.stamp),
        message.person,
        message.active,
        np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]),
        float(message.gripper),
    )


def evidence_messages(evidence: Sequence[Evidence]) -> list[msg.Evidence]:
    """Messages of pieces of evidence."""
    return [
        msg.Evidence(name=item.name, value=float(item.value), threshold=float(item.threshold), unit=item.unit)
        for item in evidence
    ]


def _rows(values: array.array[float], horizon: int, name: str) -> NDArray[np.float32] | None:
    if not len(values):
        return None
    size = horizon * ACTION_DIM
    if size == 0 or len(values) % size:
        raise MessageError(f"{name} has {len(values)} numbers, expected a multiple of {horizon} x {ACTION_DIM}")
    rows = np.array(values, dtype=np.float32).reshape(-1, horizon, ACTION_DIM)
    if not np.isfinite(rows).all():
        raise MessageError(f"{name} holds a number that is not finite")
    return rows


def _correction_mode(value: int) -> CorrectionMode:
    try:
        return CorrectionMode(value)
    except ValueError:
        raise MessageError(f"correction {value} is not one of {[int(mode) for mode in CorrectionMode]}") from None
