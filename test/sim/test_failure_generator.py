# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Faults that come back: what they do to whoever drives, and what their label says."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.failure_generator import (
    PAUSE_TICKS,
    SEVERITY,
    STRIKES,
    FailureGenerator,
    Fault,
    FaultLabel,
    faulty_scene,
    sample_fault,
)
from flow_rag_vla.sim.perturbation import PERTURBATIONS, Perturbation, PerturbationKind
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

RNG = np.random.default_rng


def drive(world: World, fault: Fault, task: str, seed: int, ticks: int = 200) -> tuple[FaultLabel | None, list[bool]]:
    """The expert under a fault: the label, and at which ticks its action was changed."""
    rng = RNG(seed)
    state = world.reset(faulty_scene(sample_scene(task, "plain", seed), fault, rng))
    expert, generator = ScriptedExpert(world, world.spec.goal, rng), FailureGenerator(world, fault, rng)
    integrator, changed = TargetIntegrator(), []
    for tick in range(ticks):
        generator.observation(tick)
        meant = expert.action()
        sent = generator.action(meant)
        changed.append(not np.array_equal(meant, sent))
        target, _, _ = integrator.advance(sent, state)
        state = world.step(target)
        if world.success():
            break
    return generator.label, changed


@pytest.mark.parametrize("kind", tuple(PerturbationKind), ids=lambda kind: kind.value)
def test_every_kind_strikes_and_its_label_says_what_when_and_how_much(world: World, kind: PerturbationKind) -> None:
    task = PERTURBATIONS[kind].tasks[0]
    fault = sample_fault(kind, task, RNG(3))
    low, high = SEVERITY[kind]
    assert low <= fault.perturbation.magnitude <= high
    label, _ = drive(world, fault, task, 501)
    assert label is not None
    assert (label.kind, label.magnitude, label.unit) == (kind, fault.perturbation.magnitude, PERTURBATIONS[kind].unit)
    assert label.onset_tick >= fault.perturbation.onset_tick
    assert label.strikes >= 1
    assert label.description


def test_a_single_strike_passes_and_a_lasting_cause_strikes_again(world: World) -> None:
    wanted = Perturbation(PerturbationKind.TRANSLATION_ERROR, 10, 0.04)
    once, changed_once = drive(world, Fault(wanted, 1), "pick_and_place", 501)
    again, changed_again = drive(world, Fault(wanted, STRIKES), "pick_and_place", 501)
    assert once is not None and again is not None
    assert once.strikes == 1 < again.strikes
    assert sum(changed_once) < sum(changed_again)
    assert (once.onset_tick, once.description) == (again.onset_tick, again.description)


def test_between_two_strikes_the_driver_is_left_alone(world: World) -> None:
    wanted = Perturbation(PerturbationKind.WRONG_ORDER, 10, 20.0)
    _, changed = drive(world, Fault(wanted, STRIKES), "push", 502, ticks=120)
    first = changed.index(True)
    quiet = changed[first + 21 : first + 21 + PAUSE_TICKS]
    assert not any(quiet)
    assert any(changed[first + 21 + PAUSE_TICKS :])


def test_the_same_seed_makes_the_same_fault() -> None:
    for kind in PerturbationKind:
        task = PERTURBATIONS[kind].tasks[-1]
        assert sample_fault(kind, task, RNG(9)) == sample_fault(kind, task, RNG(9))


def test_what_makes_no_sense_is_refused(world: World) -> None:
    wanted = Perturbation(PerturbationKind.LATENCY, 0, 3.0)
    with pytest.raises(ValueError, match="strikes of latency is 0"):
        Fault(wanted, 0)
    world.reset(sample_scene("push", "plain", 0))
    with pytest.raises(ValueError, match=r"shape \(6,\)"):
        FailureGenerator(world, Fault(wanted), RNG(0)).action(np.zeros(6, dtype=np.float32))
