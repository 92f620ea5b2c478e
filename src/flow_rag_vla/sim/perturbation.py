# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Makes things go wrong on purpose, at a known time and by a known amount, and says what it did.

A ``Perturber`` stands between whoever drives (the expert, a policy) and the robot: observations and actions pass
through it once a tick. Some perturbations need another scene from the start; ``perturbed_scene`` gives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, GRIPPER, TRANSLATION, YAW
from flow_rag_vla.core.goal import TASKS, Goal
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH
from flow_rag_vla.sim.expert import RETREAT_HEIGHT, ScriptedExpert, paced_step
from flow_rag_vla.sim.scene import CameraOffset, ObjectSpec, SceneSpec, Vector3
from flow_rag_vla.sim.world import World

T = TypeVar("T")

OBSTACLE = "obstacle"
_OBSTACLE_SIDE = 0.03
_PARKED = (0.0, 0.0, -20.0)
_OBSTACLE_GAP = 0.065
_HAND_RADIUS = 0.13
"""Metres around the tool within which the open hand could touch a post."""
_SLIP_FRICTION = 0.02
_ASKEW_DISTANCE, _ASKEW_EFFORT, _ASKEW_WIDTH = 0.025, 5.0, 0.015
"""Metres, newtons, metres: fingers that press this near to the thing hold it, if not as the expert would."""


class PerturbationKind(str, Enum):
    """What goes wrong."""

    GRASP_TOO_EARLY = "grasp_too_early"
    SLIP = "slip"
    TRANSLATION_ERROR = "translation_error"
    ROTATION_ERROR = "rotation_error"
    WRONG_TARGET = "wrong_target"
    WRONG_ORDER = "wrong_order"
    OBSTACLE = "obstacle"
    CAMERA_SHIFT = "camera_shift"
    FRICTION_CHANGE = "friction_change"
    MASS_CHANGE = "mass_change"
    LATENCY = "latency"
    DROPPED_FRAMES = "dropped_frames"


@dataclass(frozen=True, slots=True)
class PerturbationInfo:
    """What one kind means: the unit and usual range of its magnitude, and the tasks to which it applies."""

    sentence: str
    unit: str
    low: float
    high: float
    tasks: tuple[str, ...] = tuple(TASKS)


_GRASPING = ("pick_and_place", "stack", "open_drawer")
_MOVABLE = ("pick_and_place", "push", "stack")

PERTURBATIONS: Mapping[PerturbationKind, PerturbationInfo] = {
    PerturbationKind.GRASP_TOO_EARLY: PerturbationInfo(
        "The fingers close when the tool comes within the magnitude of the grasp.", "m", 0.025, 0.06, _GRASPING
    ),
    PerturbationKind.SLIP: PerturbationInfo(
        "What is held loses its grip for as many ticks as the magnitude says.", "ticks", 8.0, 20.0, _GRASPING
    ),
    PerturbationKind.TRANSLATION_ERROR: PerturbationInfo(
        "The tool is drawn sideways by the magnitude, whatever is commanded.", "m", 0.015, 0.05
    ),
    PerturbationKind.ROTATION_ERROR: PerturbationInfo("The hand is turned by the magnitude.", "rad", 0.3, 0.8),
    PerturbationKind.WRONG_TARGET: PerturbationInfo(
        "For as many ticks as the magnitude says another object is gone for.", "ticks", 30.0, 80.0, ("pick_and_place",)
    ),
    PerturbationKind.WRONG_ORDER: PerturbationInfo(
        "For as many ticks as the magnitude says the hand goes to deliver what it may not hold yet.",
        "ticks", 20.0, 60.0, _MOVABLE,
    ),
    PerturbationKind.OBSTACLE: PerturbationInfo(
        "A post as high as the magnitude appears on the way.", "m", 0.07, 0.13
    ),
    PerturbationKind.CAMERA_SHIFT: PerturbationInfo(
        "Every camera is moved by the magnitude from the start.", "m", 0.015, 0.04
    ),
    PerturbationKind.FRICTION_CHANGE: PerturbationInfo(
        "The target's friction becomes the magnitude.", "coefficient", 0.10, 0.30
    ),
    PerturbationKind.MASS_CHANGE: PerturbationInfo("The target's mass becomes the magnitude.", "kg", 0.5, 1.5),
    PerturbationKind.LATENCY: PerturbationInfo(
        "Actions arrive late by as many ticks as the magnitude says, from onset on.", "ticks", 4.0, 12.0
    ),
    PerturbationKind.DROPPED_FRAMES: PerturbationInfo(
        "For as many ticks as the magnitude says the last observation is seen again.", "ticks", 8.0, 30.0
    ),
}  # fmt: skip
"""Every perturbation, with the range from which ``sample_perturbation`` draws."""


_STRIKE_TICKS: Mapping[PerturbationKind, float] = {
    PerturbationKind.GRASP_TOO_EARLY: 16,
    PerturbationKind.TRANSLATION_ERROR: 8,
    PerturbationKind.ROTATION_ERROR: 16,
}
"""For how long a strike lasts whose magnitude is not its length."""

_LASTING_TICKS = PerturbationKind.LATENCY
"""Counted in ticks, but it lasts."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What shall go wrong, from which tick, and how much (in the unit of its ``PerturbationInfo``)."""

    kind: PerturbationKind
    onset_tick: int
    magnitude: float

    def __post_init__(self) -> None:
        if self.onset_tick < 0:
            raise ValueError(f"onset tick of {self.kind.value} is {self.onset_tick}, expected 0 or more")
        if not (np.isfinite(self.magnitude) and self.magnitude > 0.0):
            raise ValueError(f"magnitude of {self.kind.value} is {self.magnitude}, expected a positive number")


@dataclass(frozen=True, slots=True)
class PerturbationRecord:
    """The label of an episode: what did go wrong, from which tick, and how much."""

    kind: PerturbationKind
    onset_tick: int
    magnitude: float
    unit: str
    description: str


def sample_perturbation(
    kind: PerturbationKind, task: str, rng: np.random.Generator, onset_ticks: tuple[int, int] = (5, 40)
) -> Perturbation:
    """A perturbation with a usual magnitude and an onset within ``onset_ticks`` (inclusive).

    Cameras are shifted from the start, and an obstacle comes as early as allowed: it waits for room by itself.

    Raises:
        ValueError: for a kind that does not apply to the task.
    """
    info = PERTURBATIONS[kind]
    _check_task(kind, task)
    onset = int(rng.integers(onset_ticks[0], onset_ticks[1] + 1))
    onset = {PerturbationKind.CAMERA_SHIFT: 0, PerturbationKind.OBSTACLE: onset_ticks[0]}.get(kind, onset)
    magnitude = float(rng.uniform(info.low, info.high))
    return Perturbation(kind, onset, float(round(magnitude)) if info.unit == "ticks" else magnitude)


def perturbed_scene(spec: SceneSpec, perturbation: Perturbation, rng: np.random.Generator) -> SceneSpec:
    """The scene that a perturbation needs: with shifted cameras, or an obstacle in store; else the scene as it is.

    Raises:
        ValueError: for a kind that does not apply to the scene's task.
    """
    _check_task(perturbation.kind, spec.task)
    if perturbation.kind is PerturbationKind.CAMERA_SHIFT:
        offsets = []
        for name in ("front", "wrist", "view"):
            direction = rng.normal(size=3)
            direction *= perturbation.magnitude / np.linalg.norm(direction)
            offset = spec.camera_offset(name)
            moved = tuple(float(a + b) for a, b in zip(offset.translation, direction, strict=True))
            offsets.append(CameraOffset(name, _vector3(moved), offset.rotation))
        return replace(spec, camera_offsets=tuple(offsets))
    if perturbation.kind is PerturbationKind.OBSTACLE:
        size = (_OBSTACLE_SIDE, _OBSTACLE_SIDE, perturbation.magnitude)
        post = ObjectSpec(OBSTACLE, "box", size, (0.55, 0.25, 0.62, 1.0), 1.0, 0.6, _PARKED, fixed=True)
        return replace(spec, objects=(*spec.objects, post))
    return spec


class Perturber:
    """Passes observations and actions on, changed as one perturbation says.

    Call ``observation`` (where something is observed) and then ``action`` once a tick, before the integrator. The world
    must hold the scene that ``perturbed_scene`` gave.
    """

    def __init__(self, world: World, perturbation: Perturbation, rng: np.random.Generator) -> None:
        _check_task(perturbation.kind, world.spec.task)
        self._world = world
        self._perturbation = perturbation
        self._rng = rng
        self._expert = ScriptedExpert(world, world.spec.goal, rng)
        self._other: ScriptedExpert | None = None
        self._onset: int | None = None
        self._description = ""
        self._queue: deque[NDArray[np.float32]] = deque()
        self._heading = np.zeros(3)
        self._frozen: object = None
        self._restore_friction = False
        if perturbation.kind is PerturbationKind.CAMERA_SHIFT:
            self._begin("cameras moved from the start", 0)

    @property
    def record(self) -> PerturbationRecord | None:
        """What went wrong; None as long as nothing has."""
        if self._onset is None:
            return None
        wanted, unit = self._perturbation, PERTURBATIONS[self._perturbation.kind].unit
        return PerturbationRecord(wanted.kind, self._onset, wanted.magnitude, unit, self._description)

    @property
    def over(self) -> bool:
        """Whether its effect has come and gone; what lasts to the episode's end is never over."""
        if self._onset is None:
            return False
        length = _STRIKE_TICKS.get(self._perturbation.kind)
        if PERTURBATIONS[self._perturbation.kind].unit == "ticks" and self._perturbation.kind is not _LASTING_TICKS:
            length = self._perturbation.magnitude
        return length is not None and self._elapsed() > length

    def observation(self, value: T) -> T:
        """What the driver gets to see instead of ``value``."""
        if self._perturbation.kind is not PerturbationKind.DROPPED_FRAMES:
            return value
        if self._onset is None and self._due():
            self._begin(f"observation of tick {self._world.ticks} shown again", self._world.ticks)
            self._frozen = value
        if self._onset is not None and self._elapsed() < self._perturbation.magnitude:
            return self._frozen  # type: ignore[return-value]
        return value

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """(7,) float32: what the robot gets instead of ``action``."""
        changed = np.array(action, dtype=np.float32)
        if changed.shape != (ACTION_DIM,):
            raise ValueError(f"action has shape {changed.shape}, expected ({ACTION_DIM},)")
        kind = self._perturbation.kind
        if self._onset is None and self._due():
            self._try_begin(kind)
        if self._onset is None:
            return changed
        return self._changed(kind, changed)

    # -- beginning ---------------------------------------------------------------------------------------------------

    def _due(self) -> bool:
        return self._world.ticks >= self._perturbation.onset_tick

    def _elapsed(self) -> int:
        return self._world.ticks - (self._onset or 0)

    def _begin(self, description: str, tick: int) -> None:
        self._onset, self._description = tick, description

    def _try_begin(self, kind: PerturbationKind) -> None:
        """Begin if the situation allows it: a slip needs something held, an early grasp something near."""
        world, amount, now = self._world, self._perturbation.magnitude, self._world.ticks
        target = world.spec.goal.target
        if kind is PerturbationKind.GRASP_TOO_EARLY:
            distance = float(np.linalg.norm(world.robot_state().position - self._expert.thing_position()))
            if distance < amount and not self._held():
                self._begin(f"fingers closed {distance:.3f} m before the grasp of {target}", now)
        elif kind is PerturbationKind.SLIP:
            if self._held():
                world.set_dynamics(target, friction=_SLIP_FRICTION)
                self._restore_friction = True
                self._begin(f"{target} lost its grip", now)
        elif kind is PerturbationKind.TRANSLATION_ERROR:
            angle = self._rng.uniform(-np.pi, np.pi)
            self._heading = np.array([np.cos(angle), np.sin(angle), 0.0])
            self._begin(f"tool drawn {amount:.3f} m toward {np.degrees(angle):.0f} degrees", now)
        elif kind is PerturbationKind.ROTATION_ERROR:
            self._heading[2] = 1.0 if self._rng.random() < 0.5 else -1.0
            self._begin(f"hand turned by {self._heading[2] * amount:.2f} rad", now)
        elif kind is PerturbationKind.WRONG_TARGET:
            others = [name for name in TASKS[world.spec.task].targets if name != target]
            wrong = others[int(self._rng.integers(len(others)))]
            self._other = ScriptedExpert(world, Goal(world.spec.task, wrong), self._rng)
            self._begin(f"{wrong} taken for {target}", now)
        elif kind is PerturbationKind.WRONG_ORDER:
            if not self._held():
                self._begin(f"went to deliver before {target} was held", now)
        elif kind is PerturbationKind.OBSTACLE:
            self._place_obstacle(now)
        elif kind is PerturbationKind.FRICTION_CHANGE:
            world.set_dynamics(target, friction=amount)
            self._begin(f"friction of {target} set to {amount:.2f}", now)
        elif kind is PerturbationKind.MASS_CHANGE:
            world.set_dynamics(target, mass=amount)
            self._begin(f"mass of {target} set to {amount:.2f} kg", now)
        elif kind is PerturbationKind.LATENCY:
            self._begin(f"actions late by {amount:.0f} ticks", now)

    def _place_obstacle(self, now: int) -> None:
        tool = self._world.robot_state().position
        height = self._perturbation.magnitude
        goal = self._delivery() if self._held() and self._world.spec.drawer is None else None
        place = self._expert.thing_position() if goal is None else goal
        way = tool[:2] - place[:2]
        distance = float(np.linalg.norm(way))
        # Beside what is gone for, on the hand's side of it; half-way to where a held thing is taken.
        spot = place[:2] + way / max(distance, 1e-6) * (_OBSTACLE_GAP if goal is None else distance / 2)
        # It must touch nothing when it appears, neither hand nor object; else a later tick will do.
        clear_of_hand = tool[2] > height + 0.03 or float(np.linalg.norm(spot - tool[:2])) > _HAND_RADIUS
        others = [pose[0][:2] for name, pose in self._world.scene_state().objects.items() if name != OBSTACLE]
        if not clear_of_hand or any(float(np.linalg.norm(other - spot)) < 0.055 for other in others):
            return
        self._world.move_object(OBSTACLE, np.array([spot[0], spot[1], height / 2]))
        self._begin(f"post at ({spot[0]:.2f}, {spot[1]:.2f}) m", now)

    # -- while it lasts ----------------------------------------------------------------------------------------------

    def _changed(self, kind: PerturbationKind, action: NDArray[np.float32]) -> NDArray[np.float32]:
        amount, elapsed = self._perturbation.magnitude, self._elapsed()
        if kind is PerturbationKind.GRASP_TOO_EARLY and elapsed < _STRIKE_TICKS[kind]:
            # Long enough for the fingers to close on whatever is, or is not, between them.
            action[:] = 0.0
        elif kind is PerturbationKind.SLIP and self._restore_friction and elapsed >= amount:
            self._world.set_dynamics(self._world.spec.goal.target, friction=self._friction())
            self._restore_friction = False
        elif kind is PerturbationKind.TRANSLATION_ERROR and elapsed < _STRIKE_TICKS[kind]:
            # In place of the driver's own sideways motion, which would take it back at once.
            action[:2] = self._heading[:2] * (amount / _STRIKE_TICKS[kind])
        elif kind is PerturbationKind.ROTATION_ERROR and elapsed < _STRIKE_TICKS[kind]:
            action[YAW] = self._heading[2] * amount / _STRIKE_TICKS[kind]
        elif kind is PerturbationKind.WRONG_TARGET and elapsed < amount and self._other is not None:
            action = self._other.action()
        elif kind is PerturbationKind.WRONG_ORDER and elapsed < amount:
            action[:] = 0.0
            action[TRANSLATION] = paced_step(self._delivery() - self._world.robot_state().position)
        elif kind is PerturbationKind.LATENCY:
            self._queue.append(action)
            late = self._queue.popleft() if len(self._queue) > amount else np.zeros(ACTION_DIM, dtype=np.float32)
            if not late.any():
                late[GRIPPER] = round(self._world.robot_state().gripper_width / GRIPPER_MAX_WIDTH)
            action = late
        return action

    def _held(self) -> bool:
        """Whether the goal's thing is between closed fingers, also where a policy took it askew."""
        if self._expert.holding():
            return True
        robot = self._world.robot_state()
        near = float(np.linalg.norm(robot.position - self._expert.thing_position())) < _ASKEW_DISTANCE
        return near and robot.gripper_effort > _ASKEW_EFFORT and robot.gripper_width > _ASKEW_WIDTH

    def _friction(self) -> float:
        spec = self._world.spec
        return spec.drawer.handle_friction if spec.drawer else spec.object(spec.goal.target).friction

    def _delivery(self) -> NDArray[np.float64]:
        spec, objects = self._world.spec, self._world.scene_state().objects
        if spec.bin is not None:
            place = spec.bin.position[:2]
        elif spec.zone is not None:
            place = spec.zone.position[:2]
        else:
            place = (float(objects["blue_box"][0][0]), float(objects["blue_box"][0][1]))
        return np.array([place[0], place[1], 0.75 * RETREAT_HEIGHT])


def _check_task(kind: PerturbationKind, task: str) -> None:
    if task not in PERTURBATIONS[kind].tasks:
        possible = [other.value for other, info in PERTURBATIONS.items() if task in info.tasks]
        raise ValueError(f"{kind.value} does not apply to task {task!r}; what does: {', '.join(possible)}")


def _vector3(values: tuple[float, ...]) -> Vector3:
    return (values[0], values[1], values[2])
