# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras, and pictures of a scene drawn in software from its state."""

from __future__ import annotations

from functools import lru_cache
from types import TracebackType

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
)
from flow_rag_vla.sim.bodies import HAND_JOINT, SceneBodies, SceneState, load_scene, write_state
from flow_rag_vla.sim.ground import CameraModel, paint_ground
from flow_rag_vla.sim.scene import CameraOffset, FurnitureSpec, SceneSpec

_LIGHT = (1.1, -0.9, 1.5)


FRONT = CameraModel("front", 128, 128, 43.0, (0.98, -0.40, 0.72), (0.455, -0.005, 0.02), (0.0, 0.0, 1.0))
"""Looks from before the table, over its right corner, at the whole workspace."""

WRIST = CameraModel(
    "wrist", 96, 96, 76.0, (0.085, 0.0, 0.04), (0.02, 0.0, 0.14), (1.0, 0.0, 0.0), near=0.005, far=2.0, on_hand=True
)
"""Rides before the hand; sees both fingertips and what is between and below them. Frame: link ``panda_hand``."""

VIEW = CameraModel("view", 480, 360, 42.0, (1.22, -0.62, 0.74), (0.38, 0.0, 0.16), (0.0, 0.0, 1.0))
"""For people: the robot and the table."""

CAMERAS = (FRONT, WRIST, VIEW)
"""Every camera that a scene may shift."""


def camera_pose(
    camera: CameraModel, offset: CameraOffset, hand: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pose of the camera's optical frame (x right, y down, z forward) in the base frame.

    hand: position (3,) and unit quaternion (4,) x y z w of link ``panda_hand``; read only when the camera rides on it.
    Returns position (3,) metres and rotation (3, 3).
    """
    eye, look_at, up = (np.array(vector, dtype=float) for vector in (camera.eye, camera.look_at, camera.up))
    forward = _unit(look_at - eye)
    right = _unit(np.cross(forward, up))
    turn = quaternion_from_rotation_vector(np.array(offset.rotation))
    axes = np.stack([_rotated(turn, axis) for axis in (right, np.cross(forward, right), forward)], axis=1)
    eye = eye + np.array(offset.translation)
    if not camera.on_hand:
        return eye, axes
    position, orientation = hand
    axes = np.stack([_rotated(orientation, axes[:, i]) for i in range(3)], axis=1)
    return position + _rotated(orientation, eye), axes


def draw(client: int, bodies: SceneBodies, camera: CameraModel, spec: SceneSpec) -> NDArray[np.uint8]:
    """Render what a camera sees in a client: (H, W, 3) uint8, RGB."""
    offset = spec.camera_offset(camera.name)
    link = p.getLinkState(bodies.robot, HAND_JOINT, computeForwardKinematics=True, physicsClientId=client)
    eye, axes = camera_pose(camera, offset, (np.array(link[4]), np.array(link[5])))
    view = p.computeViewMatrix(eye.tolist(), (eye + axes[:, 2]).tolist(), (-axes[:, 1]).tolist())
    image = p.getCameraImage(
        camera.width,
        camera.height,
        viewMatrix=view,
        projectionMatrix=camera.projection(),
        lightDirection=_LIGHT,
        lightColor=(1.0, 1.0, 1.0),
        lightAmbientCoeff=0.55,
        lightDiffuseCoeff=0.5,
        lightSpecularCoeff=0.05,
        # Shadows and segmentation double the cost, and no policy here needs them.
        shadow=0,
        flags=p.ER_NO_SEGMENTATION_MASK,
        renderer=p.ER_TINY_RENDERER,
        physicsClientId=client,
    )
    drawn = np.asarray(image[2], dtype=np.uint8).reshape(camera.height, camera.width, 4)[:, :, :3]
    empty = np.asarray(image[3]).reshape(camera.height, camera.width, 1) >= 1.0
    moving = camera.on_hand
    ground = paint_ground(camera, eye, axes, spec.zone) if moving else _still_ground(camera, offset, spec.zone)
    return np.where(empty, ground, drawn)


class SceneRenderer:
    """Draws a scene from mirrored state, in a client of its own and without dynamics.

    It lives in another process than the ``World`` whose state it mirrors; a new episode needs a new ``reset``.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self._client = int(p.connect(p.DIRECT))
        self.reset(spec)

    def reset(self, spec: SceneSpec) -> None:
        """Build another scene in place of the present one."""
        self._spec = spec
        self._bodies = load_scene(self._client, spec)

    def update(self, state: SceneState) -> None:
        """Put everything where ``state`` says.

        Raises:
            ValueError: if the state is of another scene.
        """
        write_state(self._client, self._bodies, state)

    def render(self, camera: CameraModel) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: what the camera sees, with the scene's camera offsets."""
        return draw(self._client, self._bodies, camera, self._spec)

    def close(self) -> None:
        """Free the client. A second call does nothing."""
        if self._client >= 0:
            p.disconnect(physicsClientId=self._client)
            self._client = -1

    def __enter__(self) -> SceneRenderer:
        """The renderer itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the renderer."""
        self.close()


@lru_cache(maxsize=16)
def _still_ground(camera: CameraModel, offset: CameraOffset, zone: FurnitureSpec | None) -> NDArray[np.uint8]:
    eye, axes = camera_pose(camera, offset, (np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])))
    return paint_ground(camera, eye, axes, zone)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _rotated(quaternion: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    pure = np.array([*vector, 0.0])
    return quaternion_multiply(quaternion_multiply(quaternion, pure), quaternion_conjugate(quaternion))[:3]
