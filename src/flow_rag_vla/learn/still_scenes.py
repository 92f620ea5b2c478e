# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Posed scenes for the encoder: many layouts, each seen a few times, without moving through them.

Demonstrations show few layouts for long; what places things precisely is many layouts. Here nothing is simulated:
the robot is posed, often near what matters, things stand where a plain scene has them, hang in the hand, or lie where a
task ends.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.demonstrations import Demonstration, state_row
from flow_rag_vla.learn.truth import entity_poses
from flow_rag_vla.policy.observation import ENTITIES, goal_entities
from flow_rag_vla.sim.bodies import SceneState, yaw_quaternion
from flow_rag_vla.sim.camera import FRONT, WRIST, SceneRenderer
from flow_rag_vla.sim.kinematics import downward_joints, tool_pose
from flow_rag_vla.sim.scene import DRAWER_TRAVEL, SceneSpec, sample_scene

VARIANT = "posed"
"""What the episodes of posed scenes are called in place of a variant."""

FINGER_TRAVEL = 0.04
"""Metres that one finger can move."""

_HELD_SHARE, _PLACED_SHARE, _NEAR_SHARE = 0.25, 0.1, 0.65

Pose = tuple[NDArray[np.float64], NDArray[np.float64]]


def posed_scene(goal: Goal, seed: int, frames: int, rng: np.random.Generator, renderer: SceneRenderer) -> Demonstration:
    """One layout in ``frames`` random poses, as an episode from which no action can be learned."""
    spec = sample_scene(goal.task, "plain", seed, goal)
    renderer.reset(spec)
    states, front, wrist, poses = [], [], [], []
    for index in range(frames):
        state, scene = random_pose(spec, index, rng)
        renderer.update(scene)
        states.append(state_row(state))
        front.append(renderer.render(FRONT))
        wrist.append(renderer.render(WRIST))
        poses.append(entity_poses(spec, scene))
    return Demonstration(
        goal=goal,
        variant=VARIANT,
        seed=seed,
        success=False,
        states=np.stack(states),
        actions=np.zeros((frames, ACTION_DIM), dtype=np.float32),
        usable=np.zeros(frames, dtype=np.bool_),
        frame_ticks=np.arange(frames, dtype=np.int32),
        images={"front": np.stack(front), "wrist": np.stack(wrist)},
        entities=ENTITIES,
        poses=np.stack(poses),
    )


def random_pose(spec: SceneSpec, index: int, rng: np.random.Generator) -> tuple[RobotState, SceneState]:
    """The robot posed anywhere over the table of a scene, often near what matters; ``index`` becomes the time stamp."""
    opening = np.zeros(0) if spec.drawer is None else np.array([_random_opening(rng)])
    objects: dict[str, Pose] = {
        item.name: (np.array(item.position), np.array(yaw_quaternion(item.yaw))) for item in spec.objects
    }
    placed = SceneState(np.zeros(9), objects, opening)
    pair = goal_entities(spec.goal)
    places = entity_poses(spec, placed)
    tool = np.array([rng.uniform(0.36, 0.64), rng.uniform(-0.30, 0.30), rng.uniform(0.05, 0.34)])
    yaw = rng.uniform(-0.9, 0.9)
    if rng.random() < _NEAR_SHARE:
        # Funnel-shaped like an approach: wide above, narrow below; the thing acted on more often than its destination.
        centre = places[pair.target if rng.random() < 0.7 else pair.destination]
        height = 0.18 * rng.random() ** 1.5
        spread = 0.012 + 0.4 * height
        tool[:2] = centre[:2] + rng.normal(0.0, spread, 2)
        tool[2] = max(float(centre[2]) + height + rng.normal(0.0, 0.006), 0.012)
        if math.isfinite(float(centre[3])) and rng.random() < 0.7:
            yaw = math.remainder(float(centre[3]), math.pi / 2) + rng.normal(0.0, 0.1)
    tool = np.clip(tool, [0.30, -0.34, 0.012], [0.70, 0.34, 0.40])
    fingers = FINGER_TRAVEL if rng.random() < 0.7 else rng.uniform(0.0, FINGER_TRAVEL)
    loose = spec.goal.target in objects
    if loose and rng.random() < _HELD_SHARE:
        item = spec.object(spec.goal.target)
        tool[2] = max(float(tool[2]), item.size[2] / 2)
        turn = yaw + rng.normal(0.0, 0.05)
        hang = np.array([*rng.normal(0.0, 0.004, 2), rng.normal(-0.002, 0.005)])
        objects[item.name] = (tool + hang, np.array(yaw_quaternion(turn)))
        fingers = item.grasp_width / 2
    elif loose and rng.random() < _PLACED_SHARE:
        _place(spec, objects, rng)
    joints = downward_joints(tool, yaw)
    position, orientation = tool_pose(joints)
    arm = np.array([*joints, fingers, fingers])
    state = RobotState(
        stamp_ns=index,
        position=position,
        orientation=orientation,
        joint_positions=joints,
        gripper_width=2 * fingers,
    )
    return state, SceneState(arm, objects, opening)


def _place(spec: SceneSpec, objects: dict[str, Pose], rng: np.random.Generator) -> None:
    """Put the target where its task ends, or anywhere a push or a drop may leave it."""
    item = spec.object(spec.goal.target)
    position = np.array(item.position) + np.array([*rng.normal(0.0, 0.03, 2), 0.0])
    if spec.bin is not None:
        position = np.array(spec.bin.position) + np.array([*rng.normal(0.0, 0.02, 2), item.size[2] / 2 + 0.004])
    elif spec.zone is not None:
        position = np.array(spec.zone.position) + np.array([*rng.normal(0.0, 0.025, 2), item.size[2] / 2])
    elif spec.goal.task == "stack":
        under = objects["blue_box"][0]
        position = under + np.array([*rng.normal(0.0, 0.006, 2), item.size[2]])
    turn = yaw_of(np.array(yaw_quaternion(item.yaw))) + rng.normal(0.0, 0.2)
    objects[item.name] = (position, np.array(yaw_quaternion(turn)))


def _random_opening(rng: np.random.Generator) -> float:
    return 0.0 if rng.random() < 0.4 else float(rng.uniform(0.0, DRAWER_TRAVEL))
