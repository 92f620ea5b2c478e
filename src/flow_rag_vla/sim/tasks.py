# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When a task is done, how far it is, and how long it may take. Pure functions of the scene's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.state import RobotState
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.scene import (
    BIN_HEIGHT,
    BIN_INSIDE,
    HANDLE_FORWARD,
    HANDLE_HEIGHT,
    ZONE_RADIUS,
    FurnitureSpec,
    SceneSpec,
)

DRAWER_OPEN = 0.12
"""Metres by which an open drawer is open."""

Check = Callable[[SceneSpec, SceneState, RobotState], bool]
Measure = Callable[[SceneSpec, SceneState, RobotState], float]


@dataclass(frozen=True, slots=True)
class TaskRule:
    """How one task is scored.

    satisfied: whether the scene is as asked at this instant; success is this for ``hold_ticks`` ticks on end
    progress: 0 at the start to 1, never falling on the straight way
    time_limit_s: seconds of simulated time after which an episode has failed
    """

    satisfied: Check
    progress: Measure
    time_limit_s: float
    hold_ticks: int = 8


def in_bin(bin_: FurnitureSpec, position: NDArray[np.float64], margin: float = 0.01) -> bool:
    """Whether a point (3,), metres, is below the top of the bin's walls and at least ``margin`` inside them."""
    dx, dy = position[0] - bin_.position[0], position[1] - bin_.position[1]
    cosine, sine = math.cos(bin_.yaw), math.sin(bin_.yaw)
    along, across = cosine * dx + sine * dy, -sine * dx + cosine * dy
    inside = abs(along) < BIN_INSIDE[0] / 2 - margin and abs(across) < BIN_INSIDE[1] / 2 - margin
    return bool(inside and position[2] < BIN_HEIGHT)


def stacked_height(spec: SceneSpec, state: SceneState) -> float:
    """Height of the red cube's centre when it stands on the blue box as the box lies now, metres."""
    box, orientation = state.objects["blue_box"]
    size = spec.object("blue_box").size
    standing = max(range(3), key=lambda i: abs(_axis_height(orientation, i)))
    return float(box[2]) + size[standing] / 2 + spec.object("red_cube").size[2] / 2


def handle_position(spec: SceneSpec, opening: float) -> NDArray[np.float64]:
    """(3,) metres: the middle of the drawer's handle when the drawer is open by ``opening`` metres."""
    drawer = spec.drawer
    if drawer is None:
        raise ValueError(f"the scene of task {spec.task!r} has no drawer")
    forward = HANDLE_FORWARD * drawer.scale + opening
    x, y, z = drawer.position
    return np.array(
        [
            x - forward * math.cos(drawer.yaw),
            y - forward * math.sin(drawer.yaw),
            z + HANDLE_HEIGHT * drawer.scale,
        ]
    )


def upright(orientation: NDArray[np.float64]) -> bool:
    """Whether a body's z axis is within 10 degrees of the vertical."""
    x, y = float(orientation[0]), float(orientation[1])
    return 1 - 2 * (x * x + y * y) > math.cos(math.radians(10))


def level(orientation: NDArray[np.float64]) -> bool:
    """Whether a box lies flat, on whichever side, to 10 degrees."""
    return max(abs(_axis_height(orientation, i)) for i in range(3)) > math.cos(math.radians(10))


def _axis_height(orientation: NDArray[np.float64], axis: int) -> float:
    """Vertical part of a body's unit x, y or z axis."""
    x, y, z, w = (float(value) for value in orientation)
    return (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))[axis]


def _released(spec: SceneSpec, name: str, position: NDArray[np.float64], robot: RobotState) -> bool:
    away = float(np.linalg.norm(robot.position - position)) > 0.06
    return away or robot.gripper_width > max(spec.object(name).size[:2]) + 0.004


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _reach(robot: RobotState, place: NDArray[np.float64]) -> float:
    return _unit(1.0 - (float(np.linalg.norm(robot.position - place)) - 0.02) / 0.3)


def _pick_and_place_done(spec: SceneSpec, state: SceneState, robot: RobotState) -> bool:
    position, _ = state.objects[spec.goal.target]
    return spec.bin is not None and in_bin(spec.bin, position) and _released(spec, spec.goal.target, position, robot)


def _pick_and_place_progress(spec: SceneSpec, state: SceneState, robot: RobotState) -> float:
    if _pick_and_place_done(spec, state, robot) or spec.bin is None:
        return 1.0
    position, _ = state.objects[spec.goal.target]
    start = spec.object(spec.goal.target).position
    lift = _unit((position[2] - start[2]) / 0.08)
    carried = 1 - math.dist(position[:2], spec.bin.position[:2]) / math.dist(start[:2], spec.bin.position[:2])
    near_bin = _unit(carried)
    return 0.3 * _reach(robot, position) + 0.2 * max(lift, near_bin) + 0.45 * near_bin


def _push_done(spec: SceneSpec, state: SceneState, robot: RobotState) -> bool:
    position, orientation = state.objects[spec.goal.target]
    if spec.zone is None:
        return False
    return math.dist(position[:2], spec.zone.position[:2]) < ZONE_RADIUS - 0.015 and upright(orientation)


def _push_progress(spec: SceneSpec, state: SceneState, robot: RobotState) -> float:
    if _push_done(spec, state, robot) or spec.zone is None:
        return 1.0
    position, _ = state.objects[spec.goal.target]
    start = spec.object(spec.goal.target).position
    whole = math.dist(start[:2], spec.zone.position[:2]) - (ZONE_RADIUS - 0.015)
    left = math.dist(position[:2], spec.zone.position[:2]) - (ZONE_RADIUS - 0.015)
    return 0.3 * _reach(robot, position) + 0.65 * _unit(1 - left / whole)


def _stack_done(spec: SceneSpec, state: SceneState, robot: RobotState) -> bool:
    cube, orientation = state.objects["red_cube"]
    box, _ = state.objects["blue_box"]
    on_top = abs(cube[2] - stacked_height(spec, state)) < 0.008 and math.dist(cube[:2], box[:2]) < 0.025
    return bool(on_top and level(orientation) and _released(spec, "red_cube", cube, robot))


def _stack_progress(spec: SceneSpec, state: SceneState, robot: RobotState) -> float:
    if _stack_done(spec, state, robot):
        return 1.0
    cube, _ = state.objects["red_cube"]
    box, _ = state.objects["blue_box"]
    start = spec.object("red_cube").position
    lift = _unit((cube[2] - start[2]) / 0.04)
    whole = math.dist(start[:2], spec.object("blue_box").position[:2])
    return 0.3 * _reach(robot, cube) + 0.2 * lift + 0.45 * lift * _unit(1 - math.dist(cube[:2], box[:2]) / whole)


def _open_drawer_done(spec: SceneSpec, state: SceneState, robot: RobotState) -> bool:
    return bool(state.articulation[0] > DRAWER_OPEN)


def _open_drawer_progress(spec: SceneSpec, state: SceneState, robot: RobotState) -> float:
    opening = float(state.articulation[0])
    if opening > DRAWER_OPEN:
        return 1.0
    return 0.3 * _reach(robot, handle_position(spec, opening)) + 0.65 * _unit(opening / DRAWER_OPEN)


TASK_RULES: Mapping[str, TaskRule] = {
    "pick_and_place": TaskRule(_pick_and_place_done, _pick_and_place_progress, time_limit_s=10.0),
    "push": TaskRule(_push_done, _push_progress, time_limit_s=12.0),
    "stack": TaskRule(_stack_done, _stack_progress, time_limit_s=10.0, hold_ticks=12),
    "open_drawer": TaskRule(_open_drawer_done, _open_drawer_progress, time_limit_s=10.0),
}
"""By task name, for every task of ``core.goal.TASKS``."""
