# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The pinhole camera, and the table and floor as it sees them, painted without a renderer.

The table lies under everything that a scene holds, so what a renderer leaves empty is table or floor: one ray cast for
each pixel paints both for a fraction of what a software renderer takes for two large boxes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from flow_rag_vla.sim.bodies import TABLE_HIGH, TABLE_LOW
from flow_rag_vla.sim.scene import ZONE_RADIUS, FurnitureSpec, Vector3

_TABLE = np.array([214, 205, 191], dtype=np.uint8)
_EDGE = np.array([158, 146, 130], dtype=np.uint8)
_ZONE = np.array([52, 168, 92], dtype=np.uint8)
_FLOOR = np.array([146, 154, 166], dtype=np.uint8)
_SKY = np.array([205, 212, 221], dtype=np.uint8)
_EDGE_WIDTH = 0.012


@dataclass(frozen=True, slots=True)
class CameraModel:
    """A pinhole camera without distortion.

    eye, look_at: metres, in the base frame, or in the hand's frame when ``on_hand``; up: any vector not along the view
    vertical_fov: degrees; near, far: metres
    """

    name: str
    width: int
    height: int
    vertical_fov: float
    eye: Vector3
    look_at: Vector3
    up: Vector3
    near: float = 0.01
    far: float = 4.0
    on_hand: bool = False

    def intrinsics(self) -> NDArray[np.float64]:
        """(3, 3) camera matrix, pixels; origin at the corner of the top left pixel."""
        focal = 0.5 * self.height / math.tan(math.radians(self.vertical_fov) / 2)
        return np.array([[focal, 0.0, self.width / 2], [0.0, focal, self.height / 2], [0.0, 0.0, 1.0]])

    def projection(self) -> list[float]:
        """OpenGL projection matrix, column by column, 16 numbers."""
        aspect = self.width / self.height
        return list(p.computeProjectionMatrixFOV(self.vertical_fov, aspect, self.near, self.far))


def paint_ground(
    camera: CameraModel, eye: NDArray[np.float64], axes: NDArray[np.float64], zone: FurnitureSpec | None
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: table, its rim, the zone on it, the floor below, and what is above the horizon.

    eye: (3,) metres; axes: (3, 3) columns are the optical frame's x, y, z in the base frame
    """
    rays = _rays(camera) @ axes.T.astype(np.float32)
    falling = rays[..., 2] < -1e-4
    reach = np.where(falling, -np.float32(eye[2]) / np.where(falling, rays[..., 2], -1.0), 0.0)
    x = np.float32(eye[0]) + reach * rays[..., 0]
    y = np.float32(eye[1]) + reach * rays[..., 1]
    inside = np.minimum(
        np.minimum(x - TABLE_LOW[0], TABLE_HIGH[0] - x), np.minimum(y - TABLE_LOW[1], TABLE_HIGH[1] - y)
    )
    # A camera pushed under the table sees the floor only.
    on_table = falling & (inside > 0.0) & bool(eye[2] > 0.0)
    picture = np.where(falling[..., None], _FLOOR, _SKY)
    picture[on_table] = _TABLE
    picture[on_table & (inside < _EDGE_WIDTH)] = _EDGE
    if zone is not None:
        near = (x - zone.position[0]) ** 2 + (y - zone.position[1]) ** 2 < ZONE_RADIUS**2
        picture[on_table & near] = _ZONE
    return picture


@lru_cache(maxsize=16)
def _rays(camera: CameraModel) -> NDArray[np.float32]:
    """(H, W, 3) float32: direction through each pixel's middle in the optical frame, forward part 1."""
    focal = camera.intrinsics()[0, 0]
    x = (np.arange(camera.width) + 0.5 - camera.width / 2) / focal
    y = (np.arange(camera.height) + 0.5 - camera.height / 2) / focal
    across, down = np.meshgrid(x, y)
    return np.stack([across, down, np.ones_like(across)], axis=-1).astype(np.float32)
