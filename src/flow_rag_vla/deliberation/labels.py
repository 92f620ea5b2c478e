# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A scene out of labels: what a detector saw in a picture, and where on the table that is.

A label says what is there and how surely. Where it is follows from the picture only for things that stand on the
table, and only where the camera's pose is known: the ray through the middle of the box meets the table there. A person
stands on no table, so how near somebody is stays unknown, and asks. What cannot be placed keeps its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.deliberation.scene import FARTHEST, MOST_THINGS, Point, Scene, SceneError, Thing

HALF_HEIGHT = 0.02
"""Metres above the table of the middle of what a hand can hold."""

_LEVEL = 1e-6


@dataclass(frozen=True, slots=True)
class LabelCamera:
    """A camera that stands still.

    matrix: (3, 3) intrinsics, pixels; eye: (3,) metres, base frame
    axes: (3, 3), columns are the optical frame's x (right), y (down) and z (forward) in the base frame
    """

    matrix: NDArray[np.float64]
    eye: NDArray[np.float64]
    axes: NDArray[np.float64]

    def on_table(self, pixel: tuple[float, float], height: float) -> Point | None:
        """Where the ray through a pixel (u, v) meets the plane at a height, metres, base frame; None if nowhere."""
        ray = self.axes @ np.linalg.solve(self.matrix, np.array([*pixel, 1.0]))
        if abs(ray[2]) < _LEVEL:
            return None
        along = (height - self.eye[2]) / ray[2]
        if along <= 0.0:
            return None
        x, y, z = (float(value) for value in self.eye + along * ray)
        return (x, y, z)


@dataclass(frozen=True, slots=True)
class Label:
    """What was seen in one box of a picture. center: (u, v) pixels; certainty: 0 to 1."""

    name: str
    certainty: float
    center: tuple[float, float]


def labelled_scene(
    labels: Sequence[Label],
    camera: LabelCamera | None = None,
    source: str = "labels",
    table: float = 0.0,
    *,
    passing: bool = False,
) -> Scene:
    """The scene that labels make, the surest first; places only with a camera.

    Args:
        labels: of one picture.
        camera: that took it; None: its pose is not known.
        source: who says so.
        table: height of what things stand on, metres in the base frame.
        passing: whether something else will stand there when a plan is done, see ``Scene``.

    Raises:
        SceneError: for a label that makes no sense.
    """
    surest = sorted(labels, key=lambda label: -label.certainty)[:MOST_THINGS]
    return Scene(tuple(_thing(label, camera, source, table) for label in surest), source, passing)


def _thing(label: Label, camera: LabelCamera | None, source: str, table: float) -> Thing:
    if not np.isfinite(label.center).all():
        raise SceneError(f"the box of {label.name!r} is at {label.center}, expected pixels")
    unplaced = Thing(label.name, None, label.certainty, source)
    if camera is None or unplaced.person:
        return unplaced
    place = camera.on_table(label.center, table + HALF_HEIGHT)
    if place is None or np.linalg.norm(place) > FARTHEST:
        return unplaced
    return Thing(label.name, place, label.certainty, source)
