# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A simulated copy that looks as a situation looked: where things are and how large, found by comparing pictures.

A policy that misreads a thing of unknown size misreads a picture of a copy of it in the same way. So the copy is not
built from what the policy reads, only begun there: place, heading and size of what the task is about are changed until
the encoder's embeddings of the copy, drawn from where the robot was, agree with those of what the robot saw. Nothing is
trained for it, and nothing about the scene is known but what was seen and felt. What is taken for granted is that
things are of a known kind and that the cameras are where they are said to be.

The search is that of Levenberg and Marquardt (Marquardt 1963), with differences for derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.encoders import Encoder
from flow_rag_vla.policy.observation import DESTINATIONS
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.camera import FRONT, WRIST, SceneRenderer
from flow_rag_vla.sim.scene import SceneSpec, Vector3

PLACE, TURN, SIZE = 0.01, 0.05, 0.05
"""Metres, radians and share of the size that count as one unit of a change."""

SMALLEST, LARGEST = 0.5, 1.6
"""Times the usual size: what is supposed at most."""

WIDEST, NARROWEST = 0.5, 0.1
"""Units between two pictures of which a derivative is made, at first and in the end: less is lost between pixels."""

FARTHEST = 2.5
"""Units that one step of the search may change a value by."""

ROUNDS, TRIES, VIEWS = 12, 3, 4
ENOUGH = 0.05
"""Share of the squared error that a round must gain, or derivatives are made more closely."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen at a moment: the embedding (D,) float32 of the pictures, and the robot then."""

    embedding: NDArray[np.float32]
    state: RobotState


@dataclass(frozen=True, slots=True)
class Fitted:
    """A copy. error: distance of its embeddings from those seen, root mean square over the views; pictures: drawn."""

    scene: SceneSpec
    error: float
    pictures: int


def changes(scene: SceneSpec, goal: Goal) -> int:
    """How many values say where the things of a goal are, and how large."""
    return sum(1 for _ in _names(scene, goal))


def changed(scene: SceneSpec, goal: Goal, values: Values) -> SceneSpec:
    """A scene with what the goal is about moved, turned and resized.

    Args:
        scene: as it is supposed.
        goal: names target and destination; other things stay.
        values: in units, as many as ``changes`` says: x, y, heading and size of each thing, x and y of bin and zone.
    """
    given = dict(zip(_names(scene, goal), (float(value) for value in values), strict=True))

    def place(name: str, position: Vector3, height: float) -> Vector3:
        return (position[0] + PLACE * given[name, "x"], position[1] + PLACE * given[name, "y"], height)

    def size(name: str, before: float) -> float:
        return before * (1.0 + SIZE * given[name, "size"])

    if scene.drawer is not None:
        drawer = scene.drawer
        scale = min(max(size("drawer", drawer.scale), SMALLEST), LARGEST)
        moved = replace(drawer, position=place("drawer", drawer.position, 0.0), scale=scale)
        return replace(scene, drawer=replace(moved, yaw=drawer.yaw + TURN * given["drawer", "turn"]))
    objects = []
    for thing in scene.objects:
        if (thing.name, "x") not in given:
            objects.append(thing)
            continue
        factor = min(max(size(thing.name, 1.0), SMALLEST), LARGEST)
        extents = (thing.size[0] * factor, thing.size[1] * factor, thing.size[2] * factor)
        there = place(thing.name, thing.position, extents[2] / 2)
        objects.append(replace(thing, size=extents, position=there, yaw=thing.yaw + TURN * given[thing.name, "turn"]))
    scene = replace(scene, objects=tuple(objects))
    if scene.bin is not None and ("bin", "x") in given:
        scene = replace(scene, bin=replace(scene.bin, position=place("bin", scene.bin.position, 0.0)))
    if scene.zone is not None and ("zone", "x") in given:
        scene = replace(scene, zone=replace(scene.zone, position=place("zone", scene.zone.position, 0.0)))
    return scene


def fit(renderer: SceneRenderer, encoder: Encoder, supposed: SceneSpec, sights: Sequence[Sight]) -> Fitted:
    """The copy that looks most like what was seen.

    Args:
        renderer: draws copies; what it held is gone afterwards.
        encoder: whose embeddings ``sights`` holds.
        supposed: where to begin, from the policy's reading.
        sights: from the start of an episode on, before anything was touched; ``VIEWS`` of them are compared.

    Raises:
        ValueError: without a sight.
    """
    if not sights:
        raise ValueError("there are no sights to compare; give at least one")
    chosen = np.unique(np.linspace(0, len(sights) - 1, VIEWS).round().astype(int))
    views = [sights[place] for place in chosen]
    seen = np.concatenate([view.embedding for view in views]).astype(np.float64)
    goal, drawn = supposed.goal, 0

    def look(values: Values) -> Values:
        nonlocal drawn
        drawn += len(views)
        renderer.reset(changed(supposed, goal, values))
        return np.concatenate([_drawn(renderer, encoder, supposed, view.state, goal, values) for view in views])

    count = changes(supposed, goal)
    values, damping, width = np.zeros(count), 1e-3, WIDEST
    found = look(values)
    error = float(np.sum(np.square(found - seen)))
    for _ in range(ROUNDS):
        slopes = np.stack([(look(values + width * unit) - found) / width for unit in np.eye(count)], axis=1)
        normal, downhill = slopes.T @ slopes, slopes.T @ (seen - found)
        gained = 0.0
        for _ in range(TRIES):
            # What no picture shows stays as it is.
            damped = normal + np.diag(damping * np.diag(normal) + 1e-9)
            step = np.clip(np.linalg.solve(damped, downhill), -FARTHEST, FARTHEST)
            there = look(values + step)
            left = float(np.sum(np.square(there - seen)))
            if left < error:
                gained = 1.0 - left / error
                values, found, error, damping = values + step, there, left, 0.3 * damping
                break
            damping *= 10.0
        if gained < ENOUGH:
            # Differences over a wide step lead astray near the end.
            width, damping = -0.5 * width, 1e-3
            if abs(width) < NARROWEST:
                break
    return Fitted(changed(supposed, goal, values), math.sqrt(error / len(views)), drawn)


def _names(scene: SceneSpec, goal: Goal) -> Iterator[tuple[str, str]]:
    if scene.drawer is not None:
        yield from (("drawer", kind) for kind in ("x", "y", "turn", "size"))
        return
    wanted = (goal.target, DESTINATIONS[goal.task])
    for thing in scene.objects:
        if thing.name in wanted:
            yield from ((thing.name, kind) for kind in ("x", "y", "turn", "size"))
    for name, furniture in (("bin", scene.bin), ("zone", scene.zone)):
        if furniture is not None and name in wanted:
            yield from ((name, kind) for kind in ("x", "y"))


def _drawn(
    renderer: SceneRenderer, encoder: Encoder, supposed: SceneSpec, state: RobotState, goal: Goal, values: Values
) -> Values:
    """The embedding of a copy, seen by a robot in that state: (D,)."""
    scene = changed(supposed, goal, values)
    finger = state.gripper_width / 2
    joints = np.concatenate([state.joint_positions[:7], [finger, finger]])
    objects = {
        thing.name: (np.array(thing.position), np.array([0.0, 0.0, math.sin(thing.yaw / 2), math.cos(thing.yaw / 2)]))
        for thing in scene.objects
    }
    opening = np.zeros(0 if scene.drawer is None else 1)
    renderer.update(SceneState(joints, objects, opening))
    return encoder.encode({"front": renderer.render(FRONT), "wrist": renderer.render(WRIST)}).astype(np.float64)
