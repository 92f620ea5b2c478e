# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Domain values to messages. The way back is ``data.message_values``, which reads bags alike."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from flow_rag_vla.core.action import ACTION_DIM, TICK_S, ActionChunk, Provenance
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.nodes.stamps import to_stamp
from flow_rag_vla_interfaces import msg


def floats(values: NDArray[Any] | Sequence[float]) -> array.array[float]:
    """float32 array for a message field. An ndarray or a list would be copied element by element (5 to 90 ms)."""
    result: array.array[float] = array.array("f")
    result.frombytes(np.ascontiguousarray(values, dtype=np.float32).tobytes())
    return result


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
        state_stamp=to_stamp(provenance.state_stamp_ns),
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


def evidence_messages(evidence: Sequence[Evidence]) -> list[msg.Evidence]:
    """Messages of pieces of evidence."""
    return [
        msg.Evidence(name=item.name, value=float(item.value), threshold=float(item.threshold), unit=item.unit)
        for item in evidence
    ]
