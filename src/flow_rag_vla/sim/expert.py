# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A scripted expert with sight of the ground truth: demonstrations, and corrections from any state.

It keeps no memory. What it does is a function of the present poses and of the gripper's width, all of which a policy
sees too, so that equal observations have equal labels; and whatever goes wrong, a miss, a slip, a push, it finds itself
in a state from which it knows the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import (
    ACTION_DIM,
    GRIPPER,
    MAX_ROTATION_PER_TICK,
    MAX_TRANSLATION_PER_TICK,
    TRANSLATION,
    YAW,
)
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.sim.scene import BIN_HEIGHT, BIN_INSIDE, HANDLE_WIDTH, FurnitureSpec, ObjectSpec
from flow_rag_vla.sim.tasks import handle_position, in_bin, stacked_height, upright
from flow_rag_vla.sim.world import World

Vector = NDArray[np.float64]
Part = TypeVar("Part")

HOVER = 0.09
"""Metres above a grasp at which the hand travels: the fingers clear everything on the table."""
CARRY_HEIGHT = 0.17
RETREAT_HEIGHT = 0.22

_OPEN_WIDTH = 0.066
"""Metres; the fingers count as open from here: wider than any object."""
_FINGER_CLEARANCE = 0.012
_PRESSING = 0.014
"""Metres; below it the fingertips press on the table and stick: straight up first."""
_WIDEST_GRASP = 0.066
_FINGER_SPREAD, _FINGER_ROOM = 0.052, 0.042
"""Metres from the tool to the middle of an open finger; from there to the middle of a thing that is not touched."""


@dataclass(frozen=True, slots=True)
class Graspable:
    """Something to close the fingers on: where, at which hand yaw, and how wide it is."""

    point: Vector
    yaw: float
    width: float


class ScriptedExpert:
    """Does a goal in a world, one action at a time.

    ``jitter`` (metres per tick) adds seeded noise to the translation, for demonstrations that visit more states; the
    labels are then those of an expert that knows nothing of the noise.
    """

    def __init__(self, world: World, goal: Goal, rng: np.random.Generator, jitter: float = 0.0) -> None:
        self._world = world
        self._goal = goal
        self._rng = rng
        self._jitter = jitter
        self._rules = {
            "pick_and_place": self._pick_and_place,
            "push": self._push,
            "stack": self._stack,
            "open_drawer": self._open_drawer,
        }

    def action(self) -> NDArray[np.float32]:
        """(7,) float32: what to do in the present state; no roll, no pitch, gripper 0 or 1."""
        action = self._rules[self._goal.task]()
        if self._jitter > 0.0:
            action[TRANSLATION] += self._rng.normal(0.0, self._jitter, 3)
            length = float(np.linalg.norm(action[TRANSLATION]))
            action[TRANSLATION] *= min(1.0, MAX_TRANSLATION_PER_TICK / max(length, 1e-9))
        return action.astype(np.float32)

    def holding(self) -> bool:
        """Whether the goal's thing (the drawer's handle too) is between closed fingers."""
        return self._holds(self._thing())

    def thing_position(self) -> Vector:
        """(3,) metres: where the fingers close for this goal."""
        return self._thing().point

    # -- tasks -------------------------------------------------------------------------------------------------------

    def _pick_and_place(self) -> Vector:
        spec = self._world.spec
        bin_ = _need(spec.bin, spec.task, "bin")
        thing = self._object(self._goal.target)
        held, robot = self._holds(thing), self._world.robot_state()
        position, _ = self._world.scene_state().objects[self._goal.target]
        over_bin = math.dist(robot.position[:2], bin_.position[:2]) < 0.035 and robot.position[2] < 0.15
        if not held and (in_bin(bin_, position, margin=0.0) or (over_bin and _near_tool(position, robot.position))):
            return self._retreat()
        if not held:
            return self._grasp(thing)
        hang = robot.position[2] - position[2]
        release = BIN_HEIGHT + spec.object(self._goal.target).size[2] / 2 + hang + 0.015
        goal = np.array([bin_.position[0], bin_.position[1], release])
        if over_bin and robot.position[2] < release + 0.02:
            return self._toward(goal, robot_yaw(robot.orientation), 1.0)
        return self._toward(self._arch(goal, CARRY_HEIGHT - release, 0.03, 2.0), 0.0, 0.0)

    def _stack(self) -> Vector:
        spec = self._world.spec
        robot, objects = self._world.robot_state(), self._world.scene_state().objects
        (cube, _), (box, box_orientation) = objects["red_cube"], objects["blue_box"]
        thing = self._object("red_cube")
        held = self._holds(thing)
        height = stacked_height(spec, self._world.scene_state())
        error = math.dist(cube[:2], box[:2])
        placed = error < 0.007 and cube[2] - height < 0.004
        if not held:
            if error < 0.02 and abs(cube[2] - height) < 0.01:
                return self._retreat()
            return self._grasp(thing)
        if placed:
            return self._toward(robot.position, robot_yaw(robot.orientation), 1.0)
        # The cube is steered, not the hand: it may sit a little off in the fingers. The arch stands over the box.
        lift = min(max(3.0 * (error - 0.006), 0.0), HOVER)
        goal = robot.position + np.array([box[0], box[1], height - 0.002 + lift]) - cube
        return self._toward(goal, _square_yaw(yaw_of(box_orientation)), 0.0)

    def _push(self) -> Vector:
        spec = self._world.spec
        zone = np.array(_need(spec.zone, spec.task, "green zone").position[:2])
        robot, thing = self._world.robot_state(), spec.object(self._goal.target)
        position, orientation = self._world.scene_state().objects[self._goal.target]
        way = zone - position[:2]
        distance = float(np.linalg.norm(way))
        if distance < 0.012 or not upright(orientation):
            return self._retreat(gripper=0.0)
        along = way / distance
        # At the end of the way its direction means nothing any more.
        yaw = _square_yaw(math.atan2(along[1], along[0])) if distance > 0.03 else robot_yaw(robot.orientation)
        radius = thing.size[0] / 2
        from_object = robot.position[:2] - position[:2]
        behind = -float(from_object @ along)
        aside = from_object + behind * along
        off = float(np.linalg.norm(aside))
        low = 0.02
        if robot.position[2] < low + 0.012 and 0.0 < behind < radius + 0.06 and off < 0.018:
            # Just ahead of the hand, on the line, and a little beyond it: what drifts aside is brought back.
            ahead = min(distance, 0.07) + 0.012
            goal2 = robot.position[:2] + along * ahead - 1.5 * aside
            if robot.position[2] < _PRESSING:
                goal2 = robot.position[:2]
            return self._toward(np.array([*goal2, low]), yaw, 0.0, speed=0.006)
        start = position[:2] - along * (radius + 0.032)
        goal = np.array([start[0], start[1], low])
        return self._toward(self._arch(goal, HOVER, 0.008, 3.0), yaw, 0.0)

    def _open_drawer(self) -> Vector:
        spec = self._world.spec
        drawer = _need(spec.drawer, spec.task, "drawer")
        opening = float(self._world.scene_state().articulation[0])
        handle = self._handle()
        robot = self._world.robot_state()
        held = self._holds(handle)
        if held and opening < 0.145:
            pull = np.array([-math.cos(drawer.yaw), -math.sin(drawer.yaw), 0.0])
            aside = robot.position - handle.point
            aside = aside - (aside @ pull) * pull
            return self._toward(robot.position + pull * (0.165 - opening) - aside, drawer.yaw, 0.0, speed=0.010)
        if held or opening > 0.125:
            return self._retreat()
        return self._grasp(handle)

    # -- skills ------------------------------------------------------------------------------------------------------

    def _thing(self) -> Graspable:
        return self._handle() if self._goal.task == "open_drawer" else self._object(self._goal.target)

    def _handle(self) -> Graspable:
        spec = self._world.spec
        drawer = _need(spec.drawer, spec.task, "drawer")
        # A little above its middle, so that the fingertips clear the stem that carries it.
        middle = handle_position(spec, float(self._world.scene_state().articulation[0])) + np.array([0.0, 0.0, 0.006])
        return Graspable(middle, drawer.yaw, HANDLE_WIDTH * drawer.scale)

    def _object(self, name: str) -> Graspable:
        """How to take an object: the first way that leaves the fingers room; the first of all if none does."""
        objects = self._world.scene_state().objects
        ways = grasps(self._world.spec.object(name), *objects[name])
        if len(ways) > 1 and objects[name][0][2] < HOVER:
            others = [pose[0] for other, pose in objects.items() if other != name]
            ways = [way for way in ways if self._has_room(way, others)] or ways
        return ways[0]

    def _has_room(self, way: Graspable, others: list[Vector]) -> bool:
        across = np.array([-math.sin(way.yaw), math.cos(way.yaw)])
        spots = [way.point[:2] + side * _FINGER_SPREAD * across for side in (-1.0, 1.0)]
        bin_ = self._world.spec.bin
        blocked = any(math.dist(spot, other[:2]) < _FINGER_ROOM for spot in spots for other in others)
        return not blocked and not (bin_ and any(_on_bin(bin_, spot) for spot in spots))

    def _holds(self, thing: Graspable) -> bool:
        robot = self._world.robot_state()
        aside = float(np.linalg.norm(robot.position[:2] - thing.point[:2]))
        level = abs(float(robot.position[2] - thing.point[2]))
        return aside < 0.018 and level < 0.022 and abs(robot.gripper_width - thing.width) < 0.004

    def _grasp(self, thing: Graspable) -> Vector:
        """Open, come down over the thing like through a funnel, close when it is between the fingers."""
        robot = self._world.robot_state()
        error = robot.position - thing.point
        aside = float(np.linalg.norm(error[:2]))
        turn = abs(_wrapped(robot_yaw(robot.orientation) - thing.yaw))
        # Once the fingers are closing they may have moved the thing a little: the gate is wider then.
        loose = 2.0 if robot.gripper_width < 0.078 else 1.0
        around = robot.gripper_width > thing.width - 0.003
        if around and aside < 0.006 * loose and abs(error[2]) < 0.008 * loose and turn < 0.10 * loose:
            return self._toward(thing.point, thing.yaw, 0.0)
        wide = max(aside + 0.03 * turn, 0.05 if robot.gripper_width < thing.width + _FINGER_CLEARANCE else 0.0)
        lift = min(max(3.0 * (wide - 0.006), 0.0), HOVER)
        return self._toward(self._safely(thing.point, lift), thing.yaw, 1.0)

    def _retreat(self, gripper: float = 1.0) -> Vector:
        """Let go, then straight up, and stay there."""
        robot = self._world.robot_state()
        goal = robot.position.copy()
        if gripper == 0.0 or robot.gripper_width > _OPEN_WIDTH:
            goal[2] = RETREAT_HEIGHT
        return self._toward(goal, robot_yaw(robot.orientation), gripper)

    def _arch(self, goal: Vector, height: float, radius: float, slope: float) -> Vector:
        """Where to head for now so as to come down on ``goal`` from above: higher by the distance that is left."""
        aside = float(np.linalg.norm(self._world.robot_state().position[:2] - goal[:2]))
        return self._safely(goal, min(max(slope * (aside - radius), 0.0), height))

    def _safely(self, goal: Vector, lift: float) -> Vector:
        """``goal`` raised by ``lift``; sideways motion waits, smoothly, for a hand that is still too low."""
        tool = self._world.robot_state().position
        raised: Vector = goal + np.array([0.0, 0.0, lift])
        low = max(float(raised[2] - tool[2]) - 0.01, 0.0)
        share = min(max(1.0 - low / 0.03, 0.0), 1.0)
        raised[:2] = tool[:2] + share * (raised[:2] - tool[:2])
        return raised

    def _toward(self, goal: Vector, yaw: float, gripper: float, speed: float = MAX_TRANSLATION_PER_TICK) -> Vector:
        robot = self._world.robot_state()
        action = np.zeros(ACTION_DIM)
        action[TRANSLATION] = paced_step(goal - robot.position, speed)
        turn = _wrapped(yaw - robot_yaw(robot.orientation))
        action[YAW] = min(max(0.2 * turn, -0.9 * MAX_ROTATION_PER_TICK), 0.9 * MAX_ROTATION_PER_TICK)
        action[GRIPPER] = gripper
        return action


def robot_yaw(orientation: Vector) -> float:
    """Yaw of a hand that points down, radians; 0 when its fingers open along the base's y axis."""
    return yaw_of(orientation)


def grasps(spec: ObjectSpec, position: Vector, orientation: Vector) -> list[Graspable]:
    """Ways to close a hand that points down on an object as it lies, the most natural first.

    position (3,) metres and orientation (4,) x y z w are the object's present pose.
    """
    if spec.shape == "cylinder":
        if upright(orientation) or upright(_flipped(orientation)):
            return [Graspable(position.copy(), yaw, spec.size[1]) for yaw in (0.0, math.pi / 4, -math.pi / 4)]
        return [Graspable(position.copy(), _square_yaw(_axis_heading(orientation, 2)), spec.size[1])]
    # A box that fell on a side has another axis up; the hand closes across the shortest of the level ones.
    vertical = int(np.argmax([abs(_axis(orientation, i)[2]) for i in range(3)]))
    level = [i for i in range(3) if i != vertical]
    closing = min(level, key=lambda i: (round(spec.size[i], 4), -i))
    other = level[0] if level[1] == closing else level[1]
    square = abs(spec.size[closing] - spec.size[other]) < 0.004
    yaw = _square_yaw(_axis_heading(orientation, other), quarter=square)
    found = [Graspable(position.copy(), yaw, spec.size[closing])]
    if spec.size[other] < _WIDEST_GRASP:
        found.append(Graspable(position.copy(), _square_yaw(yaw + math.pi / 2), spec.size[other]))
    return found


def _axis(orientation: Vector, index: int) -> Vector:
    x, y, z, w = (float(value) for value in orientation)
    columns = (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.array(columns[index])


def _axis_heading(orientation: Vector, index: int) -> float:
    x, y, _ = _axis(orientation, index)
    return math.atan2(y, x)


def _flipped(orientation: Vector) -> Vector:
    """The same body turned over about its x axis."""
    x, y, z, w = orientation
    return np.array([w, z, -y, -x])


def paced_step(way: Vector, speed: float = MAX_TRANSLATION_PER_TICK) -> Vector:
    """A step along ``way`` that slows down with what is left of it.

    way: (3,) metres; speed: the longest step, metres per tick
    """
    distance = float(np.linalg.norm(way))
    if distance < 1e-9:
        return np.zeros(3)
    return np.asarray(way * (min(speed, 0.17 * distance + 0.001, 0.4 * distance) / distance))


def _square_yaw(angle: float, quarter: bool = False) -> float:
    """The angle nearest zero that a hand (or, by quarters, a square) cannot tell from ``angle``."""
    return math.remainder(angle, math.pi / 2 if quarter else math.pi)


def _wrapped(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


def _on_bin(bin_: FurnitureSpec, spot: Vector) -> bool:
    offset = spot - np.array(bin_.position[:2])
    cosine, sine = math.cos(bin_.yaw), math.sin(bin_.yaw)
    along, across = cosine * offset[0] + sine * offset[1], -sine * offset[0] + cosine * offset[1]
    return bool(abs(along) < BIN_INSIDE[0] / 2 + 0.022 and abs(across) < BIN_INSIDE[1] / 2 + 0.022)


def _near_tool(position: Vector, tool: Vector) -> bool:
    return math.dist(position[:2], tool[:2]) < 0.03


def _need(part: Part | None, task: str, name: str) -> Part:
    if part is None:
        raise ValueError(f"the scene of task {task!r} has no {name}; sample it with that task")
    return part
