# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A simulated copy of a situation, built from what the robot perceived, to look for a shift before it is tried.

Where things stand is taken from the policy's own reading at the start of the failed attempt; how large they are is not
read, so several sizes are supposed, each with small displacements. The commands of the failed attempt are replayed in
every copy, without pictures: a copy in which hand and fingers went another way than the robot felt is dropped. In those
that remain, shifts are tried; the one that succeeds in most is the first that the robot tries.

The copy knows the kinds of things in a scene and how they look at their usual size. It does not know this scene's
sizes, places, frictions or masses: it never sees the scene's description, only what was sensed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.policy.observation import ENTITIES, ENTITY_DIM, YAW_SYMMETRY
from flow_rag_vla.sim.scene import FurnitureSpec, SceneSpec, sample_scene
from flow_rag_vla.sim.world import World

SIZES = (0.8, 0.9, 1.0, 1.07, 1.15)
"""Times the usual size: what is supposed."""

DISPLACEMENTS = ((0.0, 0.0), (0.01, 0.0), (-0.01, 0.0))
"""Metres along x and y by which the reading is supposed to be wrong."""

PATH_SCALE, WIDTH_SCALE = 0.01, 0.01
"""Metres of tool path and of finger opening that count as one unit of unlikeness."""


@dataclass(frozen=True, slots=True)
class Felt:
    """What a robot felt in an attempt: its states (T + 1), the first before anything was done, and the T targets."""

    states: tuple[RobotState, ...]
    targets: tuple[CartesianTarget, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A supposed scene. unlikeness: of the replayed attempt, root mean square in units; 0: the same."""

    scene: SceneSpec
    size: float
    displacement: tuple[float, float]
    unlikeness: float = math.inf


def supposed_scene(
    goal: Goal,
    reading: NDArray[np.floating],
    state: RobotState,
    size: float = 1.0,
    displacement: tuple[float, float] = (0.0, 0.0),
) -> SceneSpec:
    """The scene that a reading speaks of.

    Args:
        goal: of the episode; says what kinds of things there are.
        reading: (READING_DIM,) of the first observation, see ``policy.observation``.
        state: the robot then.
        size: times the usual size of every loose object, and of the cabinet.
        displacement: metres, added to every place.

    Returns:
        A scene with the start pose of ``state``; colours, masses and frictions are those of a usual scene.
    """
    usual = sample_scene(goal.task, "plain", 0, goal)
    rows = np.asarray(reading, dtype=np.float64).reshape(len(ENTITIES), ENTITY_DIM)

    def place(name: str) -> tuple[float, float, float]:
        """Position as read and displaced, x and y, and the heading."""
        row = rows[ENTITIES.index(name)]
        symmetry = YAW_SYMMETRY[name]
        turn = math.atan2(row[4], row[3]) / symmetry if symmetry else 0.0
        x, y = state.position[:2] + row[:2] + displacement
        return float(x), float(y), math.remainder(float(yaw_of(state.orientation)) + turn, 2 * math.pi)

    objects = []
    for thing in usual.objects:
        x, y, yaw = place(thing.name)
        extents = (thing.size[0] * size, thing.size[1] * size, thing.size[2] * size)
        objects.append(replace(thing, size=extents, position=(x, y, extents[2] / 2), yaw=yaw))
    scene = replace(
        usual, objects=tuple(objects), start_joints=tuple(float(angle) for angle in state.joint_positions[:7])
    )
    if usual.bin is not None:
        scene = replace(scene, bin=FurnitureSpec((*place("bin")[:2], 0.0)))
    if usual.zone is not None:
        scene = replace(scene, zone=FurnitureSpec((*place("zone")[:2], 0.0)))
    if usual.drawer is not None:
        x, y, yaw = place("cabinet")
        # A front is read up to half a turn; a cabinet that can be opened faces the robot.
        yaw = math.remainder(yaw, math.pi)
        scene = replace(scene, drawer=replace(usual.drawer, position=(x, y, 0.0), yaw=yaw, scale=size))
    return scene


def likely_copies(world: World, goal: Goal, reading: NDArray[np.floating], felt: Felt, count: int) -> list[Copy]:
    """The ``count`` supposed scenes in which the attempt went most as it was felt, the likest first.

    Args:
        world: reset for each; the commands are replayed in it without pictures.
        goal: of the episode.
        reading: (READING_DIM,) of the first observation.
        felt: the failed attempt.
        count: how many, at least 1.

    Raises:
        ValueError: for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    copies = []
    for size in SIZES:
        for displacement in DISPLACEMENTS:
            scene = supposed_scene(goal, reading, felt.states[0], size, displacement)
            copies.append(Copy(scene, size, displacement, unlikeness(replay(world, scene, felt.targets), felt.states)))
    return sorted(copies, key=lambda item: item.unlikeness)[:count]


def replay(world: World, scene: SceneSpec, targets: Sequence[CartesianTarget]) -> tuple[RobotState, ...]:
    """The states (T + 1) of a robot that is given these T targets in this scene."""
    return (world.reset(scene), *(world.step(target) for target in targets))


def unlikeness(one: Sequence[RobotState], other: Sequence[RobotState]) -> float:
    """Root mean square over time of the difference of tool path and finger opening, in units; 0: the same."""
    total = 0.0
    for first, second in zip(one, other, strict=True):
        total += float(np.sum(np.square((first.position - second.position) / PATH_SCALE)))
        total += ((first.gripper_width - second.gripper_width) / WIDTH_SCALE) ** 2
    return math.sqrt(total / max(len(one), 1))
