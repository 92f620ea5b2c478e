# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which environments there are, by name: ``metaworld/<task>`` with its scripted expert, ``gym/<id>`` for all others.

Meta-World: Yu et al. 2019, "Meta-World: A benchmark and evaluation for multi-task and meta reinforcement learning"
(arXiv 1910.10897), in the Farama Foundation's version 3.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.evaluate.external.cases import Relations
from flow_rag_vla.evaluate.external.environment import BoxEnvironment, ExternalError, SuccessRule, success_rule
from flow_rag_vla.evaluate.external.pixels import PixelObserver

Observation = Literal["state", "pixels"]
OBSERVATIONS: tuple[Observation, ...] = ("state", "pixels")

Expert = Callable[[Any], NDArray[np.floating]]
"""The environment's own observation to an action in its units."""

METAWORLD_TASKS = ("pick-place-v3", "push-v3", "drawer-open-v3", "door-open-v3", "peg-insert-side-v3")
"""The five that the paired protocol runs; any other name that Meta-World knows works too."""

STEP_LIMITS = {"peg-insert-side-v3": 250}
STEP_LIMIT = 150
"""Of a Meta-World episode here (500 in the benchmark): experts need 46 to 106 steps, 249 for a peg that they drop."""

HAND_COLUMNS = 4
"""Of a Meta-World observation: the hand's place (metres) and how far the fingers are open. What a robot feels."""

HAND, FINGERS, THING, GOAL = slice(0, 3), slice(3, 4), slice(4, 7), slice(36, 39)
"""Columns of a Meta-World observation: places of the hand, of the (first) thing and of its goal, and the fingers."""

TARGET_M, OTHER_M, NEAR_M, FINGERS_UNIT, ALIKE = 0.10, 0.15, 0.03, 1.5, 0.4
"""What counts as one unit of a situation: metres of the thing's place, of the goal's and of the hand's height; metres
near the hand, where farther off makes no difference; the fingers. So many units apart two are still alike."""

PICTURE_SIDE = 96
"""Pixels. Rendering in software costs most of a step with pictures."""


@dataclass(frozen=True, slots=True)
class ExternalTask:
    """An environment by name.

    make: makes it, observing state or pixels
    expert: makes a scripted expert; None where there is none
    home: makes, from the first observation of an episode, a controller that brings the robot back to where it began
        with its hand open (an action in -1..1 of each observation); None where that makes no sense
    relations: what the memory looks situations up by under ``consensus``; None for the standardised observation
    """

    name: str
    make: Callable[[Observation], BoxEnvironment]
    expert: Callable[[], Expert] | None = None
    home: Callable[[Any], Expert] | None = None
    relations: Relations | None = None


def external_task(name: str, *, success: str = "", step_limit: int = 0) -> ExternalTask:
    """Find a task.

    Args:
        name: ``metaworld/<task>`` or ``gym/<id of Gymnasium's registry>``.
        success: words for :func:`success_rule`; empty for Meta-World's own, or ``terminated``.
        step_limit: of an episode; 0 for 150 in Meta-World (250 for the peg), else the environment's own (or 1000).

    Raises:
        ExternalError: for an unknown name or a package that is not installed.
    """
    kind, _, rest = name.partition("/")
    if kind == "metaworld" and rest:
        return _metaworld(rest, success or "info:success", step_limit or STEP_LIMITS.get(rest, STEP_LIMIT))
    if kind == "gym" and rest:
        return _registered(rest, success or "terminated", step_limit)
    raise ExternalError(f"task {name!r} is not understood; give metaworld/<task> or gym/<environment id>")


def task_of(
    name: str,
    make: Callable[[], Any],
    *,
    success: str | SuccessRule,
    step_limit: int,
    expert: Callable[[], Expert] | None = None,
    home: Callable[[Any], Expert] | None = None,
    relations: Relations | None = None,
    cameras: Mapping[str, Callable[[Any], NDArray[np.uint8]]] | None = None,
) -> ExternalTask:
    """A task of an environment of your own.

    Args:
        name: for messages, files and the memory.
        make: makes the Gymnasium environment; with ``render_mode="rgb_array"`` if pixels are to be observed.
        success: words for :func:`success_rule`, or a callable.
        step_limit: of an episode.
        expert: makes a scripted expert, if there is one.
        home: see :class:`ExternalTask`.
        relations: see :class:`ExternalTask`.
        cameras: for pixels, see :class:`PixelObserver`; None renders one picture.
    """
    rule = success_rule(success) if isinstance(success, str) else success

    def made(observation: Observation) -> BoxEnvironment:
        environment = make()
        observer = PixelObserver(name, cameras) if observation == "pixels" else None
        return BoxEnvironment(environment, name=name, success=rule, step_limit=step_limit, observer=observer)

    return ExternalTask(name, made, expert, home, relations)


def installed(module: str, extra: str) -> ModuleType:
    """Import a package of an extra.

    Raises:
        ExternalError: naming the extra when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ExternalError(
            f"{error.name} is not installed; it comes with the extra {extra!r}: pip install 'flow_rag_vla[{extra}]'"
        ) from error


def _registered(identity: str, success: str, step_limit: int) -> ExternalTask:
    gymnasium = installed("gymnasium", "gymnasium")
    try:
        spec = gymnasium.spec(identity)
    except gymnasium.error.Error as error:
        raise ExternalError(f"Gymnasium knows no environment {identity!r}: {error}") from error
    limit = step_limit or int(spec.max_episode_steps or 1000)
    name = f"gym/{identity}"
    rule = success_rule(success)

    def make(observation: Observation) -> BoxEnvironment:
        pixels = observation == "pixels"
        try:
            environment = gymnasium.make(identity, **({"render_mode": "rgb_array"} if pixels else {}))
        except (gymnasium.error.Error, ImportError) as error:
            raise ExternalError(f"{name} cannot be made: {error}") from error
        observer = PixelObserver(name) if pixels else None
        return BoxEnvironment(environment, name=name, success=rule, step_limit=limit, observer=observer)

    return ExternalTask(name, make, EXPERTS.get(identity))


def _swing(state: Any) -> NDArray[np.floating]:
    """MountainCarContinuous: pushing the way the car already rolls adds energy until it is over the hill."""
    return np.array([0.6 if state[1] >= 0.0 else -0.6])


EXPERTS: Mapping[str, Callable[[], Expert]] = {"MountainCarContinuous-v0": lambda: _swing}
"""Scripted experts of environments of Gymnasium itself."""


def _metaworld(task: str, success: str, step_limit: int) -> ExternalTask:
    # Only a machine with a display can do without: GLFW, MuJoCo's default, opens a window.
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    known = installed("metaworld.env_dict", "metaworld").ALL_V3_ENVIRONMENTS
    policies = installed("metaworld.policies", "metaworld").ENV_POLICY_MAP
    if task not in known:
        near = get_close_matches(task, [*known, *(name.removesuffix("-v3") for name in known)], n=1)
        meant = f"; did you mean {near[0].removesuffix('-v3')}-v3?" if near else ""
        raise ExternalError(f"Meta-World knows no task {task!r}{meant}; it knows {', '.join(sorted(known))}")
    name = f"metaworld/{task}"
    rule = success_rule(success)

    def make(observation: Observation) -> BoxEnvironment:
        pixels = observation == "pixels"
        view = {"camera_name": "corner2", "width": PICTURE_SIDE, "height": PICTURE_SIDE}
        environment = known[task](**({"render_mode": "rgb_array", **view} if pixels else {}))
        # As Meta-World's own registry does it: the goal is observed, and each reset draws a new start.
        environment._partially_observable = False
        environment._freeze_rand_vec = False
        environment._set_task_called = True
        environment.seeded_rand_vec = True
        vars(environment).pop("sawyer_observation_space", None)
        environment.observation_space = environment.sawyer_observation_space
        observer = PixelObserver(name, {"front": _upright}, felt=HAND_COLUMNS) if pixels else None
        return BoxEnvironment(
            environment, name=name, success=rule, step_limit=step_limit, observer=observer, reseed=_reseed
        )

    def expert() -> Expert:
        scripted = policies[task]()

        def act(state: Any) -> NDArray[np.floating]:
            with warnings.catch_warnings():
                # It warns at each action beyond -1..1 that the environment cuts; so does the adapter.
                warnings.simplefilter("ignore")
                return np.asarray(scripted.get_action(state))

        return act

    return ExternalTask(name, make, expert, _hand_home, _hand_and_things)


def _reseed(environment: Any, seed: int) -> Any:
    # Meta-World's reset ignores its seed.
    environment.seed(seed)
    return environment.reset()[0]


def _upright(environment: Any) -> NDArray[np.uint8]:
    # This camera hangs upside down in Meta-World's scenes.
    return np.ascontiguousarray(environment.render()[::-1, ::-1])


def _hand_and_things(observation: NDArray[np.floating]) -> NDArray[np.floating]:
    hand, fingers, thing, goal = (observation[columns] for columns in (HAND, FINGERS, THING, GOAL))
    target = thing - hand
    near = np.tanh(target / NEAR_M)
    units = [target / TARGET_M, near, (goal - hand) / OTHER_M, hand[2:] / OTHER_M, 2.0 * fingers * FINGERS_UNIT]
    return np.concatenate(units) / ALIKE


def _hand_home(first: Any) -> Expert:
    place = np.array(first[:3], dtype=np.float64)

    def act(state: Any) -> NDArray[np.floating]:
        return np.append(10.0 * (place - state[:3]), -1.0)

    return act
