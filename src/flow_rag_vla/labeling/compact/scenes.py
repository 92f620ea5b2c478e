# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes to learn from and to be tried on: every task and variant, any light, strangers on the table, the arm in front.

A frame is a pure function of its seed. Seeds to learn from, to choose by and to be tried on do not meet: see
``TRAINING_SEEDS``, ``DEVELOPMENT_SEEDS`` and ``TEST_SEEDS``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flow_rag_vla.core.goal import GOALS, OBJECT_WORDS, task_names
from flow_rag_vla.labeling.compact.truth import Light, TruthFrame, TruthRenderer
from flow_rag_vla.learn.still_scenes import random_pose
from flow_rag_vla.sim.bodies import SceneState, yaw_quaternion
from flow_rag_vla.sim.camera import FRONT, VIEW, WRIST
from flow_rag_vla.sim.ground import CameraModel
from flow_rag_vla.sim.scene import VARIANTS, CameraOffset, ObjectSpec, SceneSpec, sample_scene

TRAINING_SEEDS = 5_000_000
"""First seed of training scenes."""
TEST_SEEDS = 6_000_000
"""First seed of scenes that no training has seen."""
DEVELOPMENT_SEEDS = 7_000_000
"""First seed of scenes on which choices are made (thresholds, shapes): neither learned from nor reported."""
FRAMES_A_SCENE = 6

SIZES = (((128, 128), 0.2), ((320, 240), 0.3), ((480, 360), 0.1), ((640, 480), 0.4))
"""(width, height) of pictures and how often each is drawn; the robot's own cameras give the first."""

_STRANGE = (
    (0.55, 0.20, 0.65, 1.0),
    (0.15, 0.50, 0.25, 1.0),
    (0.95, 0.55, 0.75, 1.0),
    (0.15, 0.15, 0.16, 1.0),
    (0.92, 0.92, 0.90, 1.0),
    (0.10, 0.60, 0.60, 1.0),
    (0.45, 0.28, 0.15, 1.0),
    (0.55, 0.55, 0.58, 1.0),
)
"""Colours of things that have no category."""

_KINDS: tuple[ObjectSpec, ...] = (
    ObjectSpec("red_cube", "box", (0.04, 0.04, 0.04), (0.85, 0.13, 0.12, 1.0), 0.1, 0.8, (0.0, 0.0, 0.02)),
    ObjectSpec("blue_box", "box", (0.06, 0.044, 0.04), (0.12, 0.30, 0.82, 1.0), 0.1, 0.8, (0.0, 0.0, 0.02)),
    ObjectSpec("yellow_cylinder", "cylinder", (0.044, 0.044, 0.05), (0.95, 0.78, 0.1, 1.0), 0.1, 0.8, (0.0, 0.0, 0.0)),
)  # fmt: skip
_STRANGER_SHARE, _TWIN_SHARE = 0.5, 0.4
_GAP = 0.075


def labelled_frames(
    first_seed: int,
    scenes: int,
    *,
    frames_a_scene: int = FRAMES_A_SCENE,
    cameras: tuple[CameraModel, ...] = (),
    size: tuple[int, int] | None = None,
) -> Iterator[TruthFrame]:
    """Pictures with their truth, ``frames_a_scene`` of each scene.

    Args:
        first_seed: of the first scene; the next have the seeds that follow.
        scenes: how many.
        frames_a_scene: poses of robot and things in each.
        cameras: which may look; default: the robot's two and the one for people.
        size: (width, height) of every picture; default: drawn from ``SIZES``.
    """  # fmt: skip
    with TruthRenderer() as renderer:
        for seed in range(first_seed, first_seed + scenes):
            rng = np.random.default_rng([seed, 17])
            spec = crowded_scene(seed, rng)
            renderer.reset(spec)
            for index in range(frames_a_scene):
                renderer.update(_posed(spec, index, rng))
                camera = _camera(rng, cameras, size)
                yield renderer.render(camera, random_light(rng))


def crowded_scene(seed: int, rng: np.random.Generator) -> SceneSpec:
    """A scene of any task and variant, often with strangers and with second things of the known kinds."""
    task = task_names()[int(rng.integers(len(task_names())))]
    goals = [goal for goal in GOALS if goal.task == task]
    goal = goals[int(rng.integers(len(goals)))]
    variant = tuple(VARIANTS)[int(rng.integers(len(VARIANTS)))]
    spec = sample_scene(goal.task, variant, seed, goal)
    objects = list(spec.objects)
    numbers: dict[str, int] = {}
    for share, kind in ((_STRANGER_SHARE, None), (_TWIN_SHARE, _KINDS)):
        while rng.random() < share:
            extra = _stranger(rng) if kind is None else kind[int(rng.integers(len(kind)))]
            place = _free_place(objects, spec, rng)
            if place is None:
                break
            numbers[extra.name] = numbers.get(extra.name, 1) + 1
            scale = rng.uniform(0.85, 1.15)
            length, width, height = (scale * value for value in extra.size)
            objects.append(
                replace(
                    extra,
                    name=f"{extra.name}_{numbers[extra.name]}",
                    size=(length, width, height),
                    position=(*place, height / 2),
                    yaw=rng.uniform(-math.pi, math.pi),
                )
            )
    offsets = tuple(_jittered(camera.name, rng) for camera in (FRONT, WRIST, VIEW))
    return replace(spec, objects=tuple(objects), camera_offsets=spec.camera_offsets or offsets)


def random_light(rng: np.random.Generator) -> Light:
    """From any side, dim to bright, warm to cold, with or without shadows; one time in four the simulator's own."""
    if rng.random() < 0.25:
        return Light()
    turn = rng.uniform(-math.pi, math.pi)
    exposure = rng.uniform(0.75, 1.2)
    warm = rng.uniform(-0.08, 0.08)
    return Light(
        direction=(1.4 * math.cos(turn), 1.4 * math.sin(turn), rng.uniform(0.8, 2.5)),
        ambient=rng.uniform(0.4, 0.7),
        diffuse=rng.uniform(0.3, 0.6),
        specular=rng.uniform(0.0, 0.15),
        shadow=bool(rng.random() < 0.3),
        gains=(exposure * (1 + warm), exposure, exposure * (1 - warm)),
    )


def _posed(spec: SceneSpec, index: int, rng: np.random.Generator) -> SceneState:
    """The task's own things where an episode may have them, everything else where it stands."""
    own = tuple(item for item in spec.objects if item.name in OBJECT_WORDS)
    _, state = random_pose(replace(spec, objects=own), index, rng)
    still = {
        item.name: (np.array(item.position), np.array(yaw_quaternion(item.yaw)))
        for item in spec.objects
        if item.name not in state.objects
    }
    return replace(state, objects={**state.objects, **still})


def _camera(rng: np.random.Generator, cameras: tuple[CameraModel, ...], size: tuple[int, int] | None) -> CameraModel:
    choice = cameras or (FRONT, FRONT, WRIST, WRIST, VIEW)
    camera = choice[int(rng.integers(len(choice)))]
    if size is None:
        size = SIZES[int(rng.choice(len(SIZES), p=[share for _, share in SIZES]))][0]
        if size == (128, 128) and camera.name == "wrist":
            size = (WRIST.width, WRIST.height)
    return replace(camera, width=size[0], height=size[1])


def _stranger(rng: np.random.Generator) -> ObjectSpec:
    colour = _STRANGE[int(rng.integers(len(_STRANGE)))]
    if rng.random() < 0.5:
        diameter = rng.uniform(0.02, 0.07)
        size = (diameter, diameter, rng.uniform(0.03, 0.12))
        return ObjectSpec("stranger", "cylinder", size, colour, 0.1, 0.8, (0.0, 0.0, 0.0))
    size = (rng.uniform(0.02, 0.09), rng.uniform(0.02, 0.07), rng.uniform(0.02, 0.12))
    return ObjectSpec("stranger", "box", size, colour, 0.1, 0.8, (0.0, 0.0, 0.0))


def _free_place(objects: list[ObjectSpec], spec: SceneSpec, rng: np.random.Generator) -> tuple[float, float] | None:
    for _ in range(30):
        place = (rng.uniform(0.28, 0.75), rng.uniform(-0.45, 0.45))
        others = [item.position[:2] for item in objects]
        others += [item.position[:2] for item in (spec.bin, spec.drawer) if item is not None]
        reach = [_GAP] * len(objects) + [0.2] * (len(others) - len(objects))
        if all(math.dist(place, other) > gap for other, gap in zip(others, reach, strict=True)):
            return place
    return None


def _jittered(name: str, rng: np.random.Generator) -> CameraOffset:
    # A few millimetres and a degree: cameras are never where their drawing says.
    x, y, z = (float(value) for value in rng.normal(0.0, 0.006, 3))
    a, b, c = (float(value) for value in rng.normal(0.0, 0.015, 3))
    return CameraOffset(name, (x, y, z), (a, b, c))
