# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated copies of a situation, built from what was sensed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.evaluate.trials.copies import (
    DISPLACEMENTS,
    SIZES,
    Felt,
    likely_copies,
    replay,
    supposed_scene,
    unlikeness,
)
from flow_rag_vla.policy.observation import relative_reading
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.scene import SceneSpec, sample_scene
from flow_rag_vla.sim.tasks import handle_position
from flow_rag_vla.sim.world import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as found:
        yield found


def true_reading(scene: SceneSpec, state: RobotState) -> np.ndarray:
    entities = {thing.name: (np.array(thing.position), thing.yaw) for thing in scene.objects}
    for name, part in (("bin", scene.bin), ("zone", scene.zone)):
        if part is not None:
            entities[name] = np.array(part.position), part.yaw
    if scene.drawer is not None:
        entities["cabinet"] = np.array(scene.drawer.position), scene.drawer.yaw
        entities["drawer"] = handle_position(scene, 0.0), scene.drawer.yaw
    return relative_reading(state, entities)[0]


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.task}-{goal.target}")
def test_a_true_reading_supposes_the_scene_as_it_is(world: World, goal: Goal) -> None:
    scene = sample_scene(goal.task, "plain", 51_000, goal)
    state = world.reset(scene)
    copy = supposed_scene(goal, true_reading(scene, state), state)
    for one, other in zip(copy.objects, scene.objects, strict=True):
        assert np.allclose(one.position[:2], other.position[:2], atol=1e-5)
        assert (one.name, one.shape) == (other.name, other.shape)
    for one, other in ((copy.bin, scene.bin), (copy.zone, scene.zone), (copy.drawer, scene.drawer)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert np.allclose(one.position, other.position, atol=1e-5)
    if copy.drawer is not None and scene.drawer is not None:
        assert copy.drawer.yaw == pytest.approx(scene.drawer.yaw, abs=1e-4)
    assert np.allclose(world.reset(copy).position, state.position, atol=0.002)


def test_size_and_displacement_are_what_is_supposed(world: World) -> None:
    goal = next(goal for goal in GOALS if goal.task == "stack")
    scene = sample_scene("stack", "plain", 51_000, goal)
    state = world.reset(scene)
    reading = true_reading(scene, state)
    usual, small = supposed_scene(goal, reading, state), supposed_scene(goal, reading, state, 0.5, (0.02, -0.01))
    for one, other in zip(small.objects, usual.objects, strict=True):
        assert np.allclose(one.size, np.array(other.size) / 2)
        assert one.position[2] == pytest.approx(other.position[2] / 2)
        assert np.allclose(np.subtract(one.position[:2], other.position[:2]), (0.02, -0.01))


def attempt(world: World, scene: SceneSpec, ticks: int) -> Felt:
    """What is felt while the expert opens a drawer."""
    states, targets = [world.reset(scene)], []
    expert, integrator = ScriptedExpert(world, scene.goal, np.random.default_rng(0)), TargetIntegrator()
    for _ in range(ticks):
        targets.append(integrator.advance(expert.action(), states[-1])[0])
        states.append(world.step(targets[-1]))
    return Felt(tuple(states), tuple(targets))


def test_the_copy_in_which_the_fingers_felt_the_same_is_the_likest(world: World) -> None:
    goal = next(goal for goal in GOALS if goal.task == "open_drawer")
    scene = sample_scene("open_drawer", "plain", 51_000, goal)
    assert scene.drawer is not None
    small = replace(scene, drawer=replace(scene.drawer, scale=0.8))
    felt = attempt(world, small, 60)
    reading = true_reading(small, felt.states[0])
    found = likely_copies(world, goal, reading, felt, len(SIZES) * len(DISPLACEMENTS))
    assert len(found) == len(SIZES) * len(DISPLACEMENTS)
    assert [copy.unlikeness for copy in found] == sorted(copy.unlikeness for copy in found)
    assert found[0].size == 0.8
    assert {copy.size for copy in likely_copies(world, goal, reading, felt, 2)} <= {0.8, 0.9}
    with pytest.raises(ValueError, match="count is 0"):
        likely_copies(world, goal, reading, felt, 0)


def test_the_same_scene_feels_exactly_the_same_and_time_is_not_mixed_up(world: World) -> None:
    scene = sample_scene("open_drawer", "plain", 51_001)
    felt = attempt(world, scene, 20)
    assert unlikeness(replay(world, scene, felt.targets), felt.states) == 0.0
    moved = tuple(replace(state, gripper_width=state.gripper_width + 0.01) for state in felt.states)
    assert unlikeness(moved, felt.states) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        unlikeness(felt.states[:-1], felt.states)


def test_a_target_is_replayed_as_it_was(world: World) -> None:
    scene = sample_scene("open_drawer", "plain", 51_001)
    state = world.reset(scene)
    up = CartesianTarget(state.position + np.array([0.0, 0.0, 0.01]), state.orientation, 0.08)
    after = replay(world, scene, [up] * 10)
    assert len(after) == 11
    assert after[-1].position[2] > state.position[2] + 0.005
