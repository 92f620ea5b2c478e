# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes that go wrong on purpose, with what the robot sensed and what really happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import GRIPPER, MOTION, TRANSLATION
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.learn.failure_truth import FailureTruth, TrueFailure
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.perturbation import (
    PERTURBATIONS,
    Perturbation,
    Perturber,
    perturbed_scene,
    sample_perturbation,
)
from flow_rag_vla.sim.scene import SceneSpec, sample_scene
from flow_rag_vla.sim.world import World

FRAME_TICKS = 4
"""Ticks between camera frames: the simulator camera's 10 Hz."""

AFTER_TICKS = 20
"""How long an episode goes on after success: that nothing is said about a finished task is part of the score."""


TROUBLES: Mapping[str, tuple[int, int]] = {
    "grip_flip": (4, 25),
    "shove": (8, 30),
    "freeze": (20, 60),
    "committed_miss": (40, 60),
    "plunge": (15, 40),
}
"""Kinds of trouble, and the fewest and most ticks that each lasts.

grip_flip: the hand does the opposite of what it should; shove: the tool is pushed one way; freeze: it stands still;
committed_miss: the aim is off by ``push / AIM_GAIN``, the hand closes there and lifts, as a mistaken policy does;
plunge: the tool goes down wherever it is. They complement ``sim.perturbation``.
"""

AIM_GAIN = 0.17
"""Share of the distance that the expert takes a tick: a constant push moves its aim by push / AIM_GAIN."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong. start, ticks: when and for how long; push: (3,) metres per tick."""

    kind: str
    start: int
    ticks: int
    push: tuple[float, float, float] = (0.0, 0.0, 0.0)


def draw_troubles(rng: np.random.Generator) -> tuple[Trouble, ...]:
    """One or two troubles for one episode."""
    troubles = []
    for _ in range(int(rng.integers(1, 3))):
        kind = str(rng.choice(tuple(TROUBLES)))
        way = rng.normal(size=3)
        x, y, z = way * float(rng.uniform(0.003, 0.009)) / max(float(np.linalg.norm(way)), 1e-9)
        ticks = int(rng.integers(*TROUBLES[kind], endpoint=True))
        troubles.append(Trouble(kind, int(rng.integers(5, 70)), ticks, (float(x), float(y), float(z))))
    return tuple(troubles)


Disturb = Callable[[NDArray[np.float32], int, RobotState], NDArray[np.float32]]
"""The action, the tick and the state before it, to what is done instead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A scene, and what goes wrong in it: troubles, or one perturbation, or nothing."""

    spec: SceneSpec
    troubles: tuple[Trouble, ...] = ()
    perturbation: Perturbation | None = None

    def disturb(self, world: World, rng: np.random.Generator) -> Disturb | None:
        """What changes the actions, once the world holds the scene."""
        if self.perturbation is not None:
            perturber = Perturber(world, self.perturbation, rng)
            return lambda action, tick, state: perturber.action(action)
        return Mischief(self.troubles).change if self.troubles else None


SHARE_OF_PERTURBATIONS = 0.5
"""Of the episodes in which something goes wrong; the others have troubles."""


def draw_plan(task: str, seed: int, trouble: float, *, variant: str = "plain") -> Plan:
    """What happens in the episode of a seed; ``trouble``: chance that something goes wrong."""
    rng = np.random.default_rng((seed, 7))
    spec = sample_scene(task, variant, seed)
    if rng.random() >= trouble:
        return Plan(spec)
    if rng.random() >= SHARE_OF_PERTURBATIONS:
        return Plan(spec, draw_troubles(rng))
    kinds = [kind for kind, info in PERTURBATIONS.items() if task in info.tasks]
    perturbation = sample_perturbation(kinds[int(rng.integers(len(kinds)))], task, rng)
    return Plan(perturbed_scene(spec, perturbation, rng), perturbation=perturbation)


class Mischief:
    """Changes an expert's actions as its troubles say."""

    def __init__(self, troubles: Sequence[Trouble]) -> None:
        self._troubles = tuple(troubles)
        self._missing_since: dict[Trouble, int] = {}

    def change(self, action: NDArray[np.float32], tick: int, state: RobotState) -> NDArray[np.float32]:
        """(7,) float32: the action that is done instead of ``action``."""
        changed = action.copy()
        for trouble in self._troubles:
            if trouble.kind == "committed_miss":
                self._miss(changed, trouble, tick, state)
            elif trouble.start <= tick < trouble.start + trouble.ticks:
                _apply(changed, trouble)
        return changed

    def _miss(self, action: NDArray[np.float32], trouble: Trouble, tick: int, state: RobotState) -> None:
        since = self._missing_since.get(trouble)
        if since is None:
            if action[GRIPPER] < 0.5:
                return  # it holds something already: nothing to miss
            action[:2] += np.asarray(trouble.push[:2], dtype=np.float32)
            # The expert stays high while its aim is off; a mistaken policy comes down regardless.
            action[2] = min(float(action[2]), -0.004)
            if state.position[2] > 0.03:
                return
            self._missing_since[trouble] = since = tick
        if tick < since + trouble.ticks:
            action[:] = 0.0
            if tick > since + 12:
                action[2] = 0.006


def _apply(action: NDArray[np.float32], trouble: Trouble) -> None:
    if trouble.kind == "grip_flip":
        action[GRIPPER] = 1.0 - action[GRIPPER]
    elif trouble.kind == "shove":
        action[TRANSLATION] = trouble.push
    elif trouble.kind == "freeze":
        action[MOTION] = 0.0
    elif trouble.kind == "plunge":
        action[TRANSLATION] = (0.0, 0.0, -0.010)


@dataclass(frozen=True, slots=True)
class FailureEpisode:
    """One episode: the truth, and what the rules said."""

    goal: Goal
    variant: str
    seed: int
    success: bool
    ticks: int
    truth: tuple[TrueFailure, ...]
    reports: tuple[FailureReport, ...]

    @property
    def clean(self) -> bool:
        """Whether the task was done and nothing went wrong on the way."""
        return self.success and not self.truth


def run_episode(world: World, plan: Plan, rng: np.random.Generator, *, limit: int = 240) -> FailureEpisode:
    """Let the expert work while things go wrong.

    Args:
        world: reset here.
        plan: the scene and what goes wrong.
        rng: of the expert and of the perturbation.
        limit: ticks after which the episode ends.
    """
    spec = plan.spec
    state = world.reset(spec)
    expert, integrator = ScriptedExpert(world, spec.goal, rng), TargetIntegrator()
    disturb = plan.disturb(world, rng)
    truth = FailureTruth(spec, world.scene_state())
    detector = FailureDetector()
    detector.start(Episode(1, spec.task, state.stamp_ns))
    failures: list[TrueFailure] = []
    reports: list[FailureReport] = []
    end, tick, success = limit, 0, False
    while tick < end:
        action = expert.action()
        if disturb is not None and not success:
            action = disturb(action, tick, state)
        opening = float(action[GRIPPER])
        target, _, _ = integrator.advance(action, state)
        detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
        state = world.step(target)
        tick += 1
        if not success:
            failures += truth.update(tick, world.scene_state(), state, opening)
            reports += detector.update(state)
        if not success and world.success():
            success, end = True, min(limit, tick + AFTER_TICKS)
    return FailureEpisode(
        spec.goal,
        spec.variant,
        spec.seed,
        success,
        tick,
        tuple(failures),
        tuple(reports),
    )
