# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Images, robot state and instruction under the names that a server asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import rotation_vector_from_quaternion
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.remote.contract import Contract
from flow_rag_vla.policy.remote.errors import ObservationError, missing_library


def request(
    contract: Contract,
    images: Mapping[str, NDArray[np.uint8]],
    state: RobotState,
    prompt: str,
    gripper_width: float,
) -> dict[str, Any]:
    """What is sent for one observation.

    Args:
        contract: what the server takes.
        images: camera to (H, W, 3) uint8 RGB.
        state: at the images' time.
        prompt: the instruction.
        gripper_width: of the open gripper, metres.

    Returns:
        images as (S, S, 3) uint8, or as they are; state as (N,) float32; the prompt as it is.

    Raises:
        ObservationError: if a camera or a number is missing.
        MissingLibraryError: if Pillow is not installed and images are to be fitted.
    """
    message: dict[str, Any] = {}
    for key, camera in contract.images.items():
        if camera not in images:
            raise ObservationError(f"{key} is the image of camera {camera!r}, which has not come")
        message[key] = fitted(images[camera], contract.image_size)
    for key, parts in contract.state.items():
        values = np.concatenate([np.atleast_1d(PARTS[part](state, gripper_width)) for part in parts])
        if values.size == 0 or not np.isfinite(values).all():
            raise ObservationError(f"{key} is {values.tolist()}, expected finite numbers; check the robot driver")
        message[key] = values.astype(np.float32)
    message[contract.prompt] = prompt
    return message


def fitted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(size, size, 3) uint8: the image inside a square, its proportions kept, the rest black; as it is for size 0.

    The longer side becomes ``size`` pixels by bilinear interpolation, as the training images of pi0 were fitted
    (``resize_with_pad`` of openpi's client).
    """
    height, width = image.shape[:2]
    if size == 0 or (height, width) == (size, size):
        return np.ascontiguousarray(image)
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_library(error) from None
    ratio = max(height, width) / size
    rows, columns = max(1, int(height / ratio)), max(1, int(width / ratio))
    small = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((columns, rows), Image.Resampling.BILINEAR))
    square = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - rows) // 2, (size - columns) // 2
    square[top : top + rows, left : left + columns] = small
    return square


def roll_pitch_yaw(quaternion: NDArray[np.floating]) -> NDArray[np.float64]:
    """(3,) radians about the fixed axes x, y, z in this order, of a unit quaternion x y z w."""
    x, y, z, w = (float(value) for value in quaternion)
    return np.array(
        [
            math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            math.asin(min(1.0, max(-1.0, 2 * (w * y - z * x)))),
            math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        ]
    )


def _opening(state: RobotState, width: float) -> NDArray[np.float64]:
    return np.array([min(max(state.gripper_width / width, 0.0), 1.0)])


PARTS: Mapping[str, Callable[[RobotState, float], NDArray[np.float64]]] = {
    "position": lambda state, _width: state.position,
    "rotation_vector": lambda state, _width: rotation_vector_from_quaternion(state.orientation),
    "rpy": lambda state, _width: roll_pitch_yaw(state.orientation),
    "quaternion": lambda state, _width: state.orientation,
    "joint_positions": lambda state, _width: state.joint_positions,
    "joint_velocities": lambda state, _width: state.joint_velocities,
    "gripper_width": lambda state, _width: np.array([state.gripper_width]),
    "gripper_opening": _opening,
    "gripper_closedness": lambda state, width: 1.0 - _opening(state, width),
    "fingers": lambda state, _width: np.array([0.5, -0.5]) * state.gripper_width,
    "wrench": lambda state, _width: state.wrench,
}
"""Each part of ``contract.STATE_PARTS``: of a state and the open gripper's width."""
