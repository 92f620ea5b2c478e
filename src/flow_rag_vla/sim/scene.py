# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What stands on the table at the start of an episode: a pure function of task, variant, seed and goal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from flow_rag_vla.core.goal import GOALS, Goal, check_task, task_names
from flow_rag_vla.sim.kinematics import downward_joints

Vector3 = tuple[float, float, float]

VARIANTS: Mapping[str, str] = {
    "plain": "The training distribution: every object at x of 0.40 m or more.",
    "held_out_strip": "The target lies in the near strip, x from 0.32 to 0.375 m, which plain never uses.",
    "object_size": "Objects, and the cabinet with its handle, are 15 to 25 % smaller or 10 to 18 % larger.",
    "friction": (
        "Objects are slippery (0.25 to 0.35) and 2.5 times as heavy; the drawer is twice as stiff, its handle slippery."
    ),
    "camera_shift": "Each camera is moved by 15 to 30 mm and turned by 2 to 4 degrees.",
}
"""Every way in which a scene can differ from the training distribution."""

PLAIN_X = (0.40, 0.60)
STRIP_X = (0.32, 0.375)
BIN_INSIDE: tuple[float, float] = (0.18, 0.14)
"""Metres along the bin's x and y; ``urdf/bin.urdf``."""
BIN_HEIGHT = 0.05
ZONE_RADIUS = 0.055
DRAWER_TRAVEL = 0.18
HANDLE_FORWARD, HANDLE_HEIGHT, HANDLE_WIDTH = 0.05, 0.055, 0.024
"""Metres from the cabinet's front, above the table, and across; times the drawer's scale. ``urdf/drawer.urdf``."""

_OBJECT_SPACING = 0.115
_HARD_SPACING = 0.095


class UnknownVariantError(ValueError):
    """A variant that no scene has."""


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """One loose object. ``size``: full extents along its own x, y, z, metres (a cylinder's x and y: its diameter)."""

    name: str
    shape: Literal["box", "cylinder"]
    size: Vector3
    colour: tuple[float, float, float, float]
    mass: float
    friction: float
    position: Vector3
    yaw: float = 0.0
    fixed: bool = False
    """A fixed object never moves by itself, whatever its mass."""

    @property
    def grasp_width(self) -> float:
        """Metres between fingertips that hold it across its y axis."""
        return self.size[1]


@dataclass(frozen=True, slots=True)
class FurnitureSpec:
    """The bin (origin: middle of its underside) or the green zone (its centre). Metres, radians."""

    position: Vector3
    yaw: float = 0.0


@dataclass(frozen=True, slots=True)
class DrawerSpec:
    """A cabinet with one drawer. Origin: on the table, middle of the front; it opens along its own -x.

    friction: newtons that hold the drawer back; handle_friction: Coulomb coefficient
    """

    position: Vector3
    yaw: float
    scale: float = 1.0
    friction: float = 3.0
    handle_friction: float = 0.9


@dataclass(frozen=True, slots=True)
class CameraOffset:
    """How far a camera is from where its model says, in its mount's frame: metres, and a rotation vector in radians."""

    camera: str
    translation: Vector3 = (0.0, 0.0, 0.0)
    rotation: Vector3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """The start of an episode. Base frame: the Panda's base at the origin, table top at z = 0, metres, radians."""

    task: str
    variant: str
    seed: int
    goal: Goal
    objects: tuple[ObjectSpec, ...]
    start_joints: tuple[float, ...]
    bin: FurnitureSpec | None = None
    zone: FurnitureSpec | None = None
    drawer: DrawerSpec | None = None
    camera_offsets: tuple[CameraOffset, ...] = ()

    def object(self, name: str) -> ObjectSpec:
        """The loose object of that name.

        Raises:
            KeyError: naming the objects that the scene has.
        """
        for entry in self.objects:
            if entry.name == name:
                return entry
        raise KeyError(f"no object {name!r} in this scene; it has {', '.join(o.name for o in self.objects) or 'none'}")

    def camera_offset(self, camera: str) -> CameraOffset:
        """The offset of a camera; none if the scene names none."""
        for entry in self.camera_offsets:
            if entry.camera == camera:
                return entry
        return CameraOffset(camera)


def sample_scene(task: str, variant: str, seed: int, goal: Goal | None = None) -> SceneSpec:
    """The scene that task, variant and seed name; the same arguments give the same scene, in every process.

    Without a goal one is drawn from the seed; the layout does not depend on it. A variant keeps every draw of the plain
    scene but those that it declares in ``VARIANTS``, so trials can be paired.

    Raises:
        UnknownTaskError: for a task that does not exist.
        UnknownVariantError: for a variant that is not in ``VARIANTS``.
        ValueError: for a negative seed, or a goal of another task.
    """
    check_task(task)
    if variant not in VARIANTS:
        raise UnknownVariantError(f"unknown variant {variant!r}; known variants: {', '.join(VARIANTS)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    goals = [entry for entry in GOALS if entry.task == task]
    if goal is not None and goal not in goals:
        raise ValueError(f"goal {goal} is none of task {task!r}; its targets: {', '.join(g.target for g in goals)}")
    key = [task_names().index(task), seed]
    drawn = goals[int(np.random.default_rng([*key, 1]).integers(len(goals)))]
    plain = _plain_scene(goal or drawn, seed, np.random.default_rng([*key, 2]))
    # 3 and the variant's place keep the streams apart; the plain stream above is shared by all variants.
    rng = np.random.default_rng([*key, 3, tuple(VARIANTS).index(variant)])
    if variant == "held_out_strip":
        scene = _in_held_out_strip(plain, rng)
    elif variant == "object_size":
        scene = _resized(plain, rng)
    elif variant == "friction":
        scene = _slippery(plain, rng)
    elif variant == "camera_shift":
        scene = replace(plain, camera_offsets=tuple(_camera_offset(name, rng) for name in ("front", "wrist", "view")))
    else:
        scene = plain
    return replace(scene, variant=variant)


def _plain_scene(goal: Goal, seed: int, rng: np.random.Generator) -> SceneSpec:
    tool = np.array([rng.uniform(0.40, 0.46), rng.uniform(-0.06, 0.06), rng.uniform(0.25, 0.31)])
    start = tuple(float(q) for q in downward_joints(tool, rng.uniform(-0.1, 0.1)))
    base = SceneSpec(goal.task, "plain", seed, goal, (), start)
    if goal.task == "pick_and_place":
        return _pick_and_place(base, rng)
    if goal.task == "push":
        return _push(base, rng)
    if goal.task == "stack":
        return _stack(base, rng)
    if goal.task == "open_drawer":
        return _open_drawer(base, rng)
    raise ValueError(f"task {goal.task!r} has no scene; say in sim/scene.py what stands where")


def _pick_and_place(base: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    bin_ = FurnitureSpec((rng.uniform(0.42, 0.56), rng.uniform(0.20, 0.26), 0.0), rng.uniform(-0.15, 0.15))
    places = _spaced_places(3, PLAIN_X, (-0.28, 0.04), _OBJECT_SPACING, rng)
    objects = (_red_cube(places[0], rng), _blue_box(places[1], rng), _yellow_cylinder(places[2], rng))
    return replace(base, objects=objects, bin=bin_)


def _push(base: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    while True:
        start = np.array([rng.uniform(PLAIN_X[0], 0.52), rng.uniform(-0.20, 0.20)])
        # Away from the robot: the hand pushes with its broad side, and its yaw then stays within 75 degrees.
        zone = start + rng.uniform(0.13, 0.20) * _heading(rng.uniform(-1.3, 1.3))
        if zone[0] <= 0.64 and abs(zone[1]) <= 0.26:
            break
    cylinder = _yellow_cylinder((float(start[0]), float(start[1])), rng)
    return replace(base, objects=(cylinder,), zone=FurnitureSpec((float(zone[0]), float(zone[1]), 0.0)))


def _stack(base: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    places = _spaced_places(2, PLAIN_X, (-0.22, 0.22), 0.14, rng)
    return replace(base, objects=(_red_cube(places[0], rng), _blue_box(places[1], rng)))


def _open_drawer(base: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    # The handle, 5 cm before the front, then starts between x of 0.51 and 0.60 m and ends at 0.37 or more.
    drawer = DrawerSpec(
        (rng.uniform(0.57, 0.64), rng.uniform(-0.14, 0.14), 0.0),
        rng.uniform(-0.25, 0.25),
        friction=rng.uniform(2.0, 4.0),
        handle_friction=rng.uniform(0.8, 1.0),
    )
    return replace(base, drawer=drawer)


def _red_cube(place: tuple[float, float], rng: np.random.Generator) -> ObjectSpec:
    side = rng.uniform(0.038, 0.042)
    return _placed("red_cube", "box", (side, side, side), (0.85, 0.13, 0.12, 1.0), place, rng)


def _blue_box(place: tuple[float, float], rng: np.random.Generator) -> ObjectSpec:
    size = (rng.uniform(0.057, 0.063), rng.uniform(0.042, 0.046), rng.uniform(0.038, 0.042))
    return _placed("blue_box", "box", size, (0.12, 0.30, 0.82, 1.0), place, rng)


def _yellow_cylinder(place: tuple[float, float], rng: np.random.Generator) -> ObjectSpec:
    diameter = rng.uniform(0.042, 0.046)
    size = (diameter, diameter, rng.uniform(0.048, 0.052))
    return _placed("yellow_cylinder", "cylinder", size, (0.95, 0.78, 0.10, 1.0), place, rng)


def _placed(
    name: str,
    shape: Literal["box", "cylinder"],
    size: Vector3,
    colour: tuple[float, float, float, float],
    place: tuple[float, float],
    rng: np.random.Generator,
) -> ObjectSpec:
    return ObjectSpec(
        name, shape, size, colour,
        mass=rng.uniform(0.08, 0.14),
        friction=rng.uniform(0.7, 0.9),
        position=(*place, size[2] / 2),
        yaw=rng.uniform(-math.pi / 4, math.pi / 4),
    )  # fmt: skip


def _heading(angle: float) -> np.ndarray:
    return np.array([math.cos(angle), math.sin(angle)])


def _spaced_places(
    count: int, x: tuple[float, float], y: tuple[float, float], spacing: float, rng: np.random.Generator
) -> list[tuple[float, float]]:
    places: list[tuple[float, float]] = []
    while len(places) < count:
        places = []
        for _ in range(20 * count):
            place = (rng.uniform(*x), rng.uniform(*y))
            if all(math.dist(place, other) >= spacing for other in places):
                places.append(place)
                if len(places) == count:
                    break
    return places


def _in_held_out_strip(plain: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    if plain.drawer is not None:
        # The handle of a plain drawer is never nearer than 0.51 m.
        x, y, z = plain.drawer.position
        near = replace(plain.drawer, position=(x - rng.uniform(0.08, 0.10), y, z))
        return replace(plain, drawer=near)
    target = plain.object(plain.goal.target)
    others = [entry.position for entry in plain.objects if entry is not target]
    keep_off = [plain.zone.position] if plain.zone else []
    low, high = (-0.28, 0.04) if plain.bin else (-0.20, 0.20)
    best, best_gap = target.position, -math.inf
    for _ in range(400):
        place = (rng.uniform(*STRIP_X), rng.uniform(low, high), target.position[2])
        gap = min((math.dist(place[:2], other[:2]) for other in others), default=1.0) - _HARD_SPACING
        gap = min(gap, min((math.dist(place[:2], other[:2]) for other in keep_off), default=1.0) - 0.12)
        if gap > best_gap:
            best, best_gap = place, gap
        if gap >= 0.0:
            break
    moved = replace(target, position=best)
    return replace(plain, objects=tuple(moved if entry is target else entry for entry in plain.objects))


def _resized(plain: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    def scale() -> float:
        return rng.uniform(0.75, 0.85) if rng.random() < 0.5 else rng.uniform(1.10, 1.18)

    def resized(entry: ObjectSpec) -> ObjectSpec:
        factor = scale()
        size = (entry.size[0] * factor, entry.size[1] * factor, entry.size[2] * factor)
        return replace(entry, size=size, position=(entry.position[0], entry.position[1], size[2] / 2))

    objects = tuple(resized(entry) for entry in plain.objects)
    drawer = replace(plain.drawer, scale=scale()) if plain.drawer else None
    return replace(plain, objects=objects, drawer=drawer)


def _slippery(plain: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    objects = tuple(replace(entry, friction=rng.uniform(0.25, 0.35), mass=2.5 * entry.mass) for entry in plain.objects)
    drawer = plain.drawer
    if drawer is not None:
        drawer = replace(drawer, friction=2.0 * drawer.friction, handle_friction=rng.uniform(0.35, 0.45))
    return replace(plain, objects=objects, drawer=drawer)


def _camera_offset(name: str, rng: np.random.Generator) -> CameraOffset:
    def vector(length: float) -> Vector3:
        direction = rng.normal(size=3)
        x, y, z = (float(value) for value in direction / np.linalg.norm(direction) * length)
        return (x, y, z)

    return CameraOffset(name, vector(rng.uniform(0.015, 0.03)), vector(math.radians(rng.uniform(2.0, 4.0))))
