# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where planned motion goes in space, and where that is in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ActionChunk

NEAR_M = 0.02
"""Points nearer to the camera's plane than this are not drawn."""


@dataclass(frozen=True, slots=True)
class StillCamera:
    """A pinhole camera that does not move.

    matrix: (3, 3) intrinsics, pixels. eye: (3,) metres, base frame. axes: (3, 3), columns are the optical frame's x
    (right), y (down) and z (forward) in the base frame.
    """

    matrix: NDArray[np.float64]
    eye: NDArray[np.float64]
    axes: NDArray[np.float64]
    width: int
    height: int


def looking_at(eye: NDArray[np.float64], look_at: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) axes of a camera at ``eye`` that looks at a point, upright in the base frame.

    Raises:
        ValueError: if it looks straight up or down, or at itself.
    """
    forward = look_at - eye
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-9:
        raise ValueError(f"a camera at {eye.tolist()} that looks at {look_at.tolist()} has no upright picture")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def project(points: NDArray[np.float64], camera: StillCamera) -> NDArray[np.float64]:
    """(N, 2) of (N, 3) points, in shares of the picture's width and height; NaN for what is not before the camera."""
    seen = (points - camera.eye) @ camera.axes
    pixels = seen @ camera.matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = pixels[:, :2] / pixels[:, 2:3]
    flat[seen[:, 2] < NEAR_M] = np.nan
    shares: NDArray[np.float64] = flat / np.array([camera.width, camera.height], dtype=float)
    return shares


def path_ahead(start: NDArray[np.float64], actions: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N + 1, 3) metres: a point, and where each row of an (N, 7) plan leads from there."""
    return np.vstack([start, start + np.cumsum(actions[:, :3].astype(float), axis=0)])


def planned_path(target: NDArray[np.float64], chunk: ActionChunk, index: int) -> NDArray[np.float64]:
    """(N, 3) metres: from the target that row ``index`` led to, along the rows that are left."""
    return path_ahead(target, chunk.actions[index + 1 :])


def committed_path(target: NDArray[np.float64], chunk: ActionChunk, index: int) -> NDArray[np.float64]:
    """The part of ``planned_path`` that no newer chunk may change: a single point if it is used up."""
    return path_ahead(target, chunk.actions[index + 1 : max(chunk.committed, index + 1)])


def box_edges(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """(16, 3): corners of a box in an order that runs along all twelve edges, some twice, and closes."""
    order = [0, 1, 3, 2, 0, 4, 5, 1, 5, 7, 3, 7, 6, 2, 6, 4]
    corners = np.array([[(low, high)[(i >> axis) & 1][axis] for axis in range(3)] for i in order], dtype=float)
    return corners
