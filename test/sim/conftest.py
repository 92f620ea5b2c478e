# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A world to share (a reset makes it as new) and an expert's episode in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.state import CartesianTarget
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World


@dataclass
class Episode:
    """What an expert did and what came of it."""

    actions: list[np.ndarray] = field(default_factory=list)
    targets: list[CartesianTarget] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    success: bool = False


def fingerprint(world: World) -> np.ndarray:
    """Every number that a world reports, in one row."""
    robot, scene = world.robot_state(), world.scene_state()
    objects = [part for pose in scene.objects.values() for part in pose]
    return np.concatenate(
        [
            robot.position, robot.orientation, robot.joint_velocities, robot.wrench, [robot.gripper_effort],
            scene.joint_positions, *objects, scene.articulation,
        ]
    )  # fmt: skip


def run_expert(
    world: World,
    spec: SceneSpec,
    ticks: int | None = None,
    interfere: Callable[[int, np.ndarray], np.ndarray] | None = None,
    prepare: Callable[[World], None] | None = None,
) -> Episode:
    """Drive a fresh episode until success, or for exactly ``ticks`` ticks when given."""
    state = world.reset(spec)
    if prepare is not None:
        prepare(world)
    expert, integrator = ScriptedExpert(world, spec.goal, np.random.default_rng(0)), TargetIntegrator()
    episode = Episode()
    for tick in range(ticks or int(TASK_RULES[spec.task].time_limit_s * 40)):
        action = expert.action()
        episode.actions.append(action)
        target, _, _ = integrator.advance(action if interfere is None else interfere(tick, action), state)
        state = world.step(target)
        episode.targets.append(target)
        episode.states.append(fingerprint(world))
        episode.progress.append(world.progress())
        if ticks is None and world.success():
            break
    episode.success = world.success()
    return episode


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    return shared_world


@pytest.fixture
def drive() -> Callable[..., Episode]:
    return run_expert


@pytest.fixture
def state_of() -> Callable[[World], np.ndarray]:
    return fingerprint
