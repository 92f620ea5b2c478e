# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK
from flow_rag_vla.core.goal import GOALS, Goal, task_names
from flow_rag_vla.core.rotation import quaternion_from_rotation_vector, quaternion_multiply
from flow_rag_vla.sim.expert import RETREAT_HEIGHT, ScriptedExpert, grasps, paced_step
from flow_rag_vla.sim.scene import VARIANTS, sample_scene
from flow_rag_vla.sim.world import World

RNG = np.random.default_rng


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.task}-{goal.target}")
@pytest.mark.parametrize("seed", [1, 2])
def test_the_expert_does_every_goal(world: World, drive: Any, goal: Goal, seed: int) -> None:
    assert drive(world, sample_scene(goal.task, "plain", seed, goal)).success


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("plain", "camera_shift")])
def test_the_expert_does_the_hard_variants_too(world: World, drive: Any, task: str, variant: str) -> None:
    assert drive(world, sample_scene(task, variant, 1)).success


@pytest.mark.parametrize("task", task_names())
def test_actions_keep_to_the_action_space(world: World, drive: Any, task: str) -> None:
    actions = np.array(drive(world, sample_scene(task, "plain", 6)).actions)
    assert actions.dtype == np.float32
    assert np.linalg.norm(actions[:, :3], axis=1).max() <= MAX_TRANSLATION_PER_TICK + 1e-6
    assert np.abs(actions[:, 5]).max() <= MAX_ROTATION_PER_TICK
    assert (actions[:, 3:5] == 0.0).all()
    assert set(np.unique(actions[:, 6])) <= {0.0, 1.0}


@pytest.mark.parametrize("task", task_names())
def test_the_gripper_changes_its_mind_no_more_than_the_task_asks(world: World, drive: Any, task: str) -> None:
    gripper = np.array(drive(world, sample_scene(task, "plain", 9)).actions)[:, 6]
    assert np.abs(np.diff(gripper)).sum() <= 2


@pytest.mark.parametrize("task", task_names())
def test_the_expert_keeps_no_memory(world: World, task: str) -> None:
    """One expert for the whole episode and a new one for each tick do the same."""
    spec = sample_scene(task, "plain", 13)
    state = world.reset(spec)
    lasting, integrator = ScriptedExpert(world, spec.goal, RNG(0)), TargetIntegrator()
    for _ in range(70):
        action = lasting.action()
        assert np.array_equal(action, ScriptedExpert(world, spec.goal, RNG(1)).action())
        target, _, _ = integrator.advance(action, state)
        state = world.step(target)


@pytest.mark.parametrize("task", task_names())
def test_after_success_the_hand_rises_and_stays(world: World, drive: Any, task: str) -> None:
    spec = sample_scene(task, "plain", 17)
    episode = drive(world, spec, ticks=180)
    assert episode.success
    assert world.robot_state().position[2] == pytest.approx(RETREAT_HEIGHT, abs=0.01)
    assert np.abs(np.array(episode.actions)[-10:, :6]).max() < 1e-3


@pytest.mark.parametrize("task", ["pick_and_place", "stack", "open_drawer"])
@pytest.mark.parametrize("start", [15, 40, 55])
def test_the_expert_recovers_from_a_stretch_of_other_commands(world: World, drive: Any, task: str, start: int) -> None:
    spec = sample_scene(task, "plain", 31)
    rng = RNG(start)
    drift = rng.normal(0.0, 0.006, 3)

    def disturbed(tick: int, action: np.ndarray) -> np.ndarray:
        if start <= tick < start + 12:
            action = action.copy()
            action[:3] = drift
            action[6] = 1.0 - action[6]
        return action

    assert drive(world, spec, interfere=disturbed).success


def test_a_dropped_object_is_picked_up_again(world: World, drive: Any) -> None:
    spec = sample_scene("pick_and_place", "plain", 3)
    opened: list[int] = []

    def drop(tick: int, action: np.ndarray) -> np.ndarray:
        # From the moment that the object hangs well above the table.
        if world.scene_state().objects[spec.goal.target][0][2] > 0.09 and len(opened) < 15:
            opened.append(tick)
        if opened and tick < opened[0] + 15:
            action = action.copy()
            action[6] = 1.0
        return action

    episode = drive(world, spec, interfere=drop)
    assert opened
    assert episode.success


def test_jitter_is_seeded_and_bounded(world: World) -> None:
    spec = sample_scene("push", "plain", 0)
    world.reset(spec)
    clean = ScriptedExpert(world, spec.goal, RNG(0)).action()
    noisy = [ScriptedExpert(world, spec.goal, RNG(0), jitter=0.004).action() for _ in range(2)]
    assert np.array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], clean)
    expert = ScriptedExpert(world, spec.goal, RNG(0), jitter=0.05)
    assert max(np.linalg.norm(expert.action()[:3]) for _ in range(20)) <= MAX_TRANSLATION_PER_TICK + 1e-6


def test_a_goal_that_the_scene_cannot_serve_is_refused(world: World) -> None:
    world.reset(sample_scene("stack", "plain", 0))
    with pytest.raises(ValueError, match="has no bin"):
        ScriptedExpert(world, Goal("pick_and_place", "red_cube"), RNG(0)).action()


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_paced_step_never_overshoots(x: float, y: float, z: float) -> None:
    way = np.array([x, y, z])
    step = paced_step(way)
    assert np.linalg.norm(step) <= min(MAX_TRANSLATION_PER_TICK, float(np.linalg.norm(way))) + 1e-12
    assert float(step @ way) >= 0.0


@given(st.floats(-math.pi, math.pi))
def test_a_grasp_closes_across_a_narrow_side_however_the_box_lies(yaw: float) -> None:
    spec = sample_scene("stack", "plain", 0).object("blue_box")
    for tip in ([0.0, 0.0, 0.0], [math.pi / 2, 0.0, 0.0], [0.0, math.pi / 2, 0.0]):
        turned = quaternion_from_rotation_vector(np.array([0.0, 0.0, yaw]))
        orientation = quaternion_multiply(turned, quaternion_from_rotation_vector(np.array(tip)))
        first = grasps(spec, np.zeros(3), orientation)[0]
        assert first.width < 0.05
        assert abs(first.yaw) <= math.pi / 2 + 1e-9


@given(st.floats(-math.pi, math.pi))
def test_a_lying_cylinder_is_grasped_across_its_axis(yaw: float) -> None:
    spec = sample_scene("push", "plain", 0).object("yellow_cylinder")
    turned = quaternion_from_rotation_vector(np.array([0.0, 0.0, yaw]))
    lying = quaternion_multiply(turned, quaternion_from_rotation_vector(np.array([0.0, math.pi / 2, 0.0])))
    (only,) = grasps(spec, np.zeros(3), lying)
    assert abs(math.sin(only.yaw - yaw)) < 1e-6


def test_a_grasp_avoids_fingers_on_a_neighbour(world: World, drive: Any) -> None:
    spec = sample_scene("stack", "plain", 4)
    cube = spec.object("red_cube")

    def crowd(changed: World) -> None:
        side = np.array([-math.sin(cube.yaw), math.cos(cube.yaw), 0.0])
        changed.move_object("blue_box", np.array(cube.position) + 0.056 * side, yaw=cube.yaw)

    assert drive(world, spec, prepare=crowd).success
