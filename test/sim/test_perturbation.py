# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
import pytest

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.perturbation import (
    OBSTACLE,
    PERTURBATIONS,
    Perturbation,
    PerturbationKind,
    PerturbationRecord,
    Perturber,
    perturbed_scene,
    sample_perturbation,
)
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

RNG = np.random.default_rng
KINDS = tuple(PerturbationKind)


class Run:
    """A disturbed episode: what was meant, what was sent, what was sensed."""

    def __init__(self, world: World, perturbation: Perturbation, task: str, seed: int, ticks: int = 120) -> None:
        rng = RNG(seed)
        self.spec = perturbed_scene(sample_scene(task, "plain", seed), perturbation, rng)
        state = world.reset(self.spec)
        expert, perturber = ScriptedExpert(world, self.spec.goal, rng), Perturber(world, perturbation, rng)
        integrator = TargetIntegrator()
        self.meant, self.sent = [], []
        self.states: list[RobotState] = [state]
        self.seen: list[int] = []
        for tick in range(ticks):
            self.seen.append(perturber.observation(tick))
            self.meant.append(expert.action())
            self.sent.append(perturber.action(self.meant[-1]))
            target, _, _ = integrator.advance(self.sent[-1], state)
            state = world.step(target)
            self.states.append(state)
        self.record: PerturbationRecord | None = perturber.record

    @property
    def first_change(self) -> int:
        return next(i for i, (a, b) in enumerate(zip(self.meant, self.sent, strict=True)) if not np.array_equal(a, b))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_every_kind_takes_effect_and_says_when_and_how_much(world: World, kind: PerturbationKind) -> None:
    task = PERTURBATIONS[kind].tasks[0]
    wanted = sample_perturbation(kind, task, RNG(1))
    record = Run(world, wanted, task, 501).record
    assert record is not None
    assert record.kind is kind
    assert record.onset_tick >= wanted.onset_tick
    assert record.magnitude == wanted.magnitude
    assert record.unit == PERTURBATIONS[kind].unit
    assert record.description


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_the_same_seed_makes_the_same_failure(world: World, kind: PerturbationKind) -> None:
    task = PERTURBATIONS[kind].tasks[-1]
    wanted = sample_perturbation(kind, task, RNG(2))
    one, two = (Run(world, wanted, task, 502, ticks=60) for _ in range(2))
    assert np.array_equal(one.sent, two.sent)
    assert one.record == two.record
    assert np.array_equal(one.states[-1].position, two.states[-1].position)


@pytest.mark.parametrize(
    "kind",
    [PerturbationKind.TRANSLATION_ERROR, PerturbationKind.ROTATION_ERROR, PerturbationKind.WRONG_TARGET,
     PerturbationKind.WRONG_ORDER, PerturbationKind.GRASP_TOO_EARLY, PerturbationKind.LATENCY],
    ids=lambda kind: kind.value,
)  # fmt: skip
def test_actions_are_untouched_until_the_onset_that_is_recorded(world: World, kind: PerturbationKind) -> None:
    run = Run(world, sample_perturbation(kind, "pick_and_place", RNG(3), (12, 20)), "pick_and_place", 503)
    assert run.record is not None
    # The first late action may happen to be the same as the one meant.
    assert run.record.onset_tick <= run.first_change <= run.record.onset_tick + 3


def test_an_early_grasp_closes_before_the_object_is_reached(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.GRASP_TOO_EARLY, 0, 0.05), "pick_and_place", 504)
    assert run.record is not None
    onset = run.record.onset_tick
    assert run.meant[onset][6] == 1.0
    assert run.sent[onset][6] == 0.0
    thing = np.array(run.spec.object(run.spec.goal.target).position)
    assert 0.01 < np.linalg.norm(run.states[onset].position - thing) < 0.05


def test_a_slip_takes_the_object_out_of_the_fingers(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.SLIP, 0, 20.0), "pick_and_place", 505, ticks=90)
    assert run.record is not None
    held = run.states[run.record.onset_tick].gripper_width
    after = [state.gripper_width for state in run.states[run.record.onset_tick : run.record.onset_tick + 40]]
    assert min(after) < held - 0.01 or max(after) > held + 0.01


def test_a_translation_error_draws_the_tool_by_its_magnitude(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.TRANSLATION_ERROR, 10, 0.04), "pick_and_place", 506)
    drawn = np.sum([action[:2] for action in run.sent[10:18]], axis=0)
    assert np.linalg.norm(drawn) == pytest.approx(0.04, rel=1e-4)


def test_a_rotation_error_turns_the_hand_by_its_magnitude(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.ROTATION_ERROR, 10, 0.6), "pick_and_place", 506)
    assert abs(sum(float(action[5]) for action in run.sent[10:26])) == pytest.approx(0.6, rel=1e-4)


def test_the_wrong_target_is_another_object(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.WRONG_TARGET, 5, 40.0), "pick_and_place", 507, ticks=45)
    assert run.record is not None
    wrong = run.record.description.split()[0]
    assert wrong != run.spec.goal.target
    tool = run.states[45].position[:2]
    distances = {entry.name: math.dist(tool, entry.position[:2]) for entry in run.spec.objects}
    assert min(distances, key=lambda name: distances[name]) == wrong


def test_an_obstacle_waits_out_of_sight_and_then_stands_on_the_table(world: World) -> None:
    wanted = Perturbation(PerturbationKind.OBSTACLE, 6, 0.10)
    spec = perturbed_scene(sample_scene("stack", "plain", 508), wanted, RNG(0))
    world.reset(spec)
    assert world.scene_state().objects[OBSTACLE][0][2] < -1.0
    run = Run(world, wanted, "stack", 508, ticks=60)
    assert run.record is not None
    assert world.scene_state().objects[OBSTACLE][0][2] == pytest.approx(0.05, abs=1e-3)


def test_an_obstacle_in_the_way_of_the_drawer_keeps_it_shut(world: World) -> None:
    Run(world, Perturbation(PerturbationKind.OBSTACLE, 0, 0.10), "open_drawer", 509, ticks=160)
    assert not world.success()


def test_a_camera_shift_moves_every_camera_by_its_magnitude() -> None:
    plain = sample_scene("push", "camera_shift", 0)
    moved = perturbed_scene(plain, Perturbation(PerturbationKind.CAMERA_SHIFT, 0, 0.02), RNG(0))
    for name in ("front", "wrist", "view"):
        before, after = plain.camera_offset(name), moved.camera_offset(name)
        assert math.dist(before.translation, after.translation) == pytest.approx(0.02)
        assert before.rotation == after.rotation


def test_late_actions_are_the_earlier_ones(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.LATENCY, 10, 5.0), "pick_and_place", 510, ticks=40)
    for tick in range(15, 40):
        assert np.array_equal(run.sent[tick], run.meant[tick - 5])
    for tick in range(10, 15):
        assert (run.sent[tick][:6] == 0.0).all()
        assert run.sent[tick][6] == 1.0


def test_dropped_frames_show_the_last_observation_again(world: World) -> None:
    run = Run(world, Perturbation(PerturbationKind.DROPPED_FRAMES, 10, 8.0), "pick_and_place", 510, ticks=30)
    assert run.seen[:10] == list(range(10))
    assert run.seen[10:18] == [10] * 8
    assert run.seen[18:] == list(range(18, 30))


@pytest.mark.parametrize(
    ("kind", "task"),
    [(PerturbationKind.WRONG_TARGET, "stack"), (PerturbationKind.SLIP, "push")],
)
def test_a_kind_that_does_not_apply_is_refused_with_those_that_do(kind: PerturbationKind, task: str) -> None:
    with pytest.raises(ValueError, match=rf"{kind.value} does not apply to task '{task}'.*latency"):
        sample_perturbation(kind, task, RNG(0))


@pytest.mark.parametrize(("onset", "magnitude"), [(-1, 1.0), (0, 0.0), (0, float("nan"))])
def test_a_senseless_perturbation_is_refused(onset: int, magnitude: float) -> None:
    with pytest.raises(ValueError, match="of latency is"):
        Perturbation(PerturbationKind.LATENCY, onset, magnitude)


def test_an_action_of_another_shape_is_refused(world: World) -> None:
    world.reset(sample_scene("push", "plain", 0))
    perturber = Perturber(world, Perturbation(PerturbationKind.LATENCY, 0, 3.0), RNG(0))
    with pytest.raises(ValueError, match=r"shape \(6,\)"):
        perturber.action(np.zeros(6, dtype=np.float32))
