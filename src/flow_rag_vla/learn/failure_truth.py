# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What really went wrong, told from the simulator's ground truth: labels for training, never read by a robot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.grip import Grip, GripTracker
from flow_rag_vla.failure.phase import PUSH_TASKS
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.scene import HANDLE_WIDTH, ObjectSpec, SceneSpec
from flow_rag_vla.sim.tasks import TASK_RULES, handle_position

HELD_DISTANCE = 0.045
"""Metres between tool and thing within which the fingers can hold it."""

LIFTED = 0.02
"""Metres above its start from which a thing counts as carried."""

DRAWER_MOVED = 0.015
"""Metres of the drawer's travel from which a grasp of its handle has come to something."""

KNOCKED = 0.025
"""Metres that nothing moves unless it is touched by mistake; a grasp shifts things by less."""

ATTEMPT_TICKS = 6
"""A hand that was told to close for fewer made no attempt at a grasp."""

KNOCK_PAUSE = 40
"""Ticks after it was held in which a thing that falls or rolls is not called knocked: that was told as a drop."""

PRESSED, PRESSED_TICKS = 80.0, 4
"""Newtons between the hand and the world, and for how many ticks, that no task needs (they stay below 35)."""

PLACING_TICKS = 16
"""Ticks after the hand opened in which what was placed comes to rest."""


@dataclass(frozen=True, slots=True)
class TrueFailure:
    """One thing that went wrong. kind: missed, dropped, misplaced, knocked, pressed, wrong_target."""

    tick: int
    kind: str
    failure_type: FailureType


@dataclass(slots=True)
class Attempt:
    """One closing of the hand: since when, how far the drawer was open, and what came of it.

    held: something was between the fingers; moved: it was lifted, or the drawer was; told: its failure was told
    """

    tick: int
    drawer: float
    held: bool = False
    moved: bool = False
    told: bool = False


class FailureTruth:
    """Watches one simulated episode tick by tick."""

    def __init__(self, spec: SceneSpec, scene: SceneState) -> None:
        self._spec = spec
        self._rule = TASK_RULES[spec.task]
        self._pushing = spec.task in PUSH_TASKS
        self._grip = GripTracker()
        self._fixed = {thing.name for thing in spec.objects if thing.fixed}
        self._rest = {name: position.copy() for name, (position, _) in scene.objects.items()}
        self._height = {name: float(position[2]) for name, (position, _) in scene.objects.items()}
        self._fallen = {name: _fallen(orientation) for name, (_, orientation) in scene.objects.items()}
        self._held_tick = dict.fromkeys(scene.objects, -KNOCK_PAUSE)
        self._carried: str | None = None
        self._attempt: Attempt | None = None
        self._placed_tick: int | None = None
        self._wrong_told = False
        self._pressing = 0

    def update(self, tick: int, scene: SceneState, state: RobotState, opening: float) -> list[TrueFailure]:
        """Take one tick in; what went wrong at it."""
        grip = self._grip.update(state.stamp_ns, state.gripper_width, state.gripper_effort, opening)
        held = self._held(scene, state) if grip.closing else None
        found: list[TrueFailure] = []
        if self._placed_tick is not None and tick - self._placed_tick >= PLACING_TICKS:
            self._placed_tick = None
            if not self._rule.satisfied(self._spec, scene, state):
                found.append(TrueFailure(tick, "misplaced", FailureType.DROP))
        if self._missed(tick, grip, held, scene):
            found.append(TrueFailure(tick, "missed", FailureType.GRASP_FAILURE))
        if self._carried is not None and held != self._carried:
            if grip.closing:
                found.append(TrueFailure(tick, "dropped", FailureType.DROP))
            else:
                self._placed_tick = tick
            self._carried = None
        if held is not None and held in scene.objects:
            self._held_tick[held] = tick
            if float(scene.objects[held][0][2]) > self._height[held] + LIFTED:
                self._carried, self._placed_tick = held, None
                if held != self._spec.goal.target and not self._wrong_told:
                    self._wrong_told = True
                    found.append(TrueFailure(tick, "wrong_target", FailureType.UNKNOWN))
        found += self._knocks(tick, scene)
        self._pressing = self._pressing + 1 if float(np.linalg.norm(state.wrench[:3])) > PRESSED else 0
        if self._pressing == PRESSED_TICKS:
            found.append(TrueFailure(tick, "pressed", FailureType.COLLISION))
        return found

    def _missed(self, tick: int, grip: Grip, held: str | None, scene: SceneState) -> bool:
        """Whether a grasp came to nothing: its fingers stand still on nothing, or open again with nothing moved."""
        if self._pushing:
            return False
        if not grip.closing:
            attempt, self._attempt = self._attempt, None
            gave_up = attempt is not None and tick - attempt.tick >= ATTEMPT_TICKS
            return attempt is not None and gave_up and not attempt.moved and not attempt.told
        drawer = float(scene.articulation[0]) if len(scene.articulation) else 0.0
        if self._attempt is None:
            self._attempt = Attempt(tick, drawer)
        attempt = self._attempt
        attempt.held = attempt.held or held is not None
        attempt.moved = attempt.moved or self._carried is not None or abs(drawer - attempt.drawer) > DRAWER_MOVED
        if attempt.held or attempt.told or not grip.settled:
            return False
        attempt.told = True
        return True

    def _held(self, scene: SceneState, state: RobotState) -> str | None:
        spec = self._spec
        if state.gripper_effort < 2.0:
            return None
        for thing in spec.objects:
            if thing.name in scene.objects and _between(thing, scene.objects[thing.name][0], state):
                return thing.name
        if spec.drawer is not None:
            handle = handle_position(spec, float(scene.articulation[0]))
            width = HANDLE_WIDTH * spec.drawer.scale
            # It may turn between the fingers, and is wider across than along.
            around = width - 0.006 < state.gripper_width < width + 0.02
            if around and math.dist(handle, state.position) < HELD_DISTANCE:
                return "drawer"
        return None

    def _knocks(self, tick: int, scene: SceneState) -> list[TrueFailure]:
        found = []
        for name, (position, orientation) in scene.objects.items():
            if name in self._fixed:
                continue
            fallen = _fallen(orientation)
            toppled = fallen and not self._fallen[name]
            self._fallen[name] = fallen
            if tick - self._held_tick[name] < KNOCK_PAUSE:
                self._rest[name] = position.copy()
                continue
            pushed = self._pushing and name == self._spec.goal.target
            moved = math.dist(position, self._rest[name]) > KNOCKED and not pushed
            if moved or toppled:
                self._rest[name] = position.copy()
                found.append(TrueFailure(tick, "knocked", FailureType.COLLISION))
        return found


def _between(thing: ObjectSpec, position: NDArray[np.float64], state: RobotState) -> bool:
    near = math.dist(position, state.position) < HELD_DISTANCE
    # A box may be held across its corners.
    widest = math.hypot(*sorted(thing.size)[1:]) + 0.005
    return near and min(thing.size) - 0.005 < state.gripper_width < widest


def _fallen(orientation: NDArray[np.float64]) -> bool:
    # 45 degrees: a pushed cylinder leans by less and comes back.
    x, y = float(orientation[0]), float(orientation[1])
    return 1 - 2 * (x * x + y * y) < math.cos(math.radians(45))
