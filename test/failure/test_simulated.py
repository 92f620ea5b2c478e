# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Every kind of failure, and success, in the simulator: the rules on what a simulated robot really senses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pybullet
import pytest

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import task_names
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.scene import SceneSpec, sample_scene
from flow_rag_vla.sim.world import World

STAY_OPEN = np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32)

Act = Callable[[RobotState, Phase, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


def run(
    world: World,
    spec: SceneSpec,
    act: Act | None = None,
    ticks: int = 200,
    timeout: float = 0.0,
    on_tick: Callable[[int, Phase], None] | None = None,
) -> list[FailureReport]:
    """Let the expert, or ``act`` in its place, work on a scene; what the detector reports until success."""
    state = world.reset(spec)
    expert, integrator = ScriptedExpert(world, spec.goal, np.random.default_rng(spec.seed)), TargetIntegrator()
    detector = FailureDetector()
    detector.start(Episode(1, spec.task, state.stamp_ns, timeout))
    reports: list[FailureReport] = []
    for tick in range(ticks):
        if on_tick is not None:
            on_tick(tick, detector.phase)
        action = expert.action()
        if act is not None:
            action = act(state, detector.phase, action)
        target, _, _ = integrator.advance(action, state)
        detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
        state = world.step(target)
        reports += detector.update(state)
        if world.success():
            break
    return reports


def types(reports: list[FailureReport]) -> list[FailureType]:
    return [report.failure_type for report in reports]


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("seed", [3, 4])
def test_a_success_raises_nothing(world, task, seed):
    reports = run(world, sample_scene(task, "plain", seed), ticks=480)
    assert world.success()
    assert reports == []


def test_closing_beside_the_object_is_a_grasp_failure(world):
    spec = sample_scene("pick_and_place", "plain", 1)

    def miss(state, phase, action):
        action = action.copy()
        if state.position[2] < 0.15 or phase is Phase.GRASP:
            action[:] = (0, 0, 0.002, 0, 0, 0, 0)
        return action

    reports = run(world, spec, miss)
    assert types(reports)[0] is FailureType.GRASP_FAILURE
    assert reports[0].phase is Phase.REACH
    assert {item.name for item in reports[0].evidence} >= {"gripper_width", "gripper_effort"}


def test_an_object_that_turns_slippery_in_the_air_is_a_drop(world):
    spec = sample_scene("pick_and_place", "plain", 2)
    carried: list[int] = []

    def slip(tick, phase):
        if phase is Phase.TRANSPORT and world.robot_state().position[2] > 0.12 and not carried:
            carried.append(tick)
            body = world._loaded().objects[spec.goal.target]
            pybullet.changeDynamics(body, -1, lateralFriction=0.0, mass=1.0, physicsClientId=world._client)

    def keep_closed(state, phase, action):
        action = action.copy()
        if carried:
            action[6] = 0.0
        return action

    reports = run(world, spec, keep_closed, on_tick=slip)
    assert carried
    assert types(reports)[0] is FailureType.DROP
    assert reports[0].phase is Phase.TRANSPORT
    assert carried[0] * 25_000_000 <= reports[0].onset_ns <= reports[0].stamp_ns


@pytest.mark.parametrize("opening", [0.0, 1.0])
def test_pushing_down_on_an_object_is_a_collision(world, opening):
    spec = sample_scene("pick_and_place", "plain", 1)
    over = np.array(spec.object(spec.goal.target).position)
    # An open hand straddles a cube; a little aside, one finger lands on it.
    over[1] += 0.035 * opening

    def press(state, phase, action):
        way = np.clip(np.array([over[0], over[1], 0.0]) - state.position, -0.01, 0.01)
        return np.array([*way, 0, 0, 0, opening], dtype=np.float32)

    reports = run(world, spec, press, ticks=150)
    assert FailureType.COLLISION in types(reports)
    collision = next(report for report in reports if report.failure_type is FailureType.COLLISION)
    force = next(item for item in collision.evidence if item.name == "external_force")
    assert force.value > force.threshold
    assert "along z" in collision.description


def test_pushing_into_the_table_is_a_collision(world):
    spec = sample_scene("push", "plain", 1)
    state = world.reset(spec)
    detector = FailureDetector()
    detector.start(Episode(1, spec.task, state.stamp_ns))
    reports: list[FailureReport] = []
    position = state.position.copy()
    for _ in range(120):
        position[2] = max(position[2] - 0.006, -0.03)
        target = CartesianTarget(position.copy(), state.orientation, 0.0)
        detector.offer_command(Command(state.stamp_ns, target))
        state = world.step(target)
        reports += detector.update(state)
    assert FailureType.COLLISION in types(reports)


def test_an_arm_that_cannot_follow_is_misaligned(world):
    spec = sample_scene("pick_and_place", "plain", 1)
    away = np.array([0.01, 0.006, 0.002, 0, 0, 0, 1], dtype=np.float32)
    reports = run(world, spec, lambda state, phase, action: away, ticks=120)
    assert types(reports) == [FailureType.MISALIGNMENT]


def test_an_arm_that_stands_still_times_out(world):
    reports = run(world, sample_scene("stack", "plain", 1), lambda state, phase, action: STAY_OPEN, ticks=200)
    assert types(reports) == [FailureType.TIMEOUT]


def test_an_episode_without_an_end_times_out(world):
    def circle(state, phase, action):
        return np.array([0, 0.004 if state.stamp_ns % 2_000_000_000 < 1_000_000_000 else -0.004, 0, 0, 0, 0, 1])

    reports = run(world, sample_scene("stack", "plain", 1), circle, ticks=160, timeout=3.0)
    assert types(reports) == [FailureType.TIMEOUT]
    assert reports[0].evidence[0].name == "episode_time"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("pick_and_place", [Phase.REACH, Phase.GRASP, Phase.TRANSPORT, Phase.RELEASE]),
        ("stack", [Phase.REACH, Phase.GRASP, Phase.TRANSPORT, Phase.RELEASE]),
        ("open_drawer", [Phase.REACH, Phase.GRASP, Phase.TRANSPORT]),
        ("push", [Phase.REACH, Phase.TRANSPORT]),
    ],
)
def test_the_expert_goes_through_the_phases_in_order(world, task, expected):
    seen: list[Phase] = []

    def note(tick, phase):
        if phase is not Phase.IDLE and (not seen or seen[-1] is not phase):
            seen.append(phase)

    run(world, sample_scene(task, "plain", 5), ticks=480, on_tick=note)
    assert seen[: len(expected)] == expected
