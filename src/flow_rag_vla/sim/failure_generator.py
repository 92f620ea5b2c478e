# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a policy fail, in closed loop, and labels what was done to it.

A policy that looks again ten times a second takes back a single nudge, so most single perturbations end in success.
Here the same kinds strike again whenever their occasion comes back: every approach closes too early, every hold slips.
``Perturber`` does each strike; this module says when the next one is due and keeps the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.perturbation import (
    PERTURBATIONS,
    Perturbation,
    PerturbationKind,
    PerturbationRecord,
    Perturber,
    perturbed_scene,
    sample_perturbation,
)
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.world import World

T = TypeVar("T")

STRIKES = 40
"""More than fit into an episode: the cause stays."""

PAUSE_TICKS = 8
"""Ticks between the end of one strike and the earliest start of the next."""

NEAR = 0.08
"""Metres between tool and target within which an error of aim strikes again: where it does harm."""

SEVERITY: Mapping[PerturbationKind, tuple[float, float]] = {
    PerturbationKind.GRASP_TOO_EARLY: (0.03, 0.07),
    PerturbationKind.SLIP: (10.0, 25.0),
    PerturbationKind.TRANSLATION_ERROR: (0.03, 0.06),
    PerturbationKind.ROTATION_ERROR: (0.5, 1.0),
    PerturbationKind.WRONG_TARGET: (120.0, 380.0),
    PerturbationKind.WRONG_ORDER: (40.0, 100.0),
    PerturbationKind.OBSTACLE: (0.08, 0.13),
    PerturbationKind.CAMERA_SHIFT: (0.03, 0.08),
    PerturbationKind.FRICTION_CHANGE: (0.02, 0.10),
    PerturbationKind.MASS_CHANGE: (1.5, 5.0),
    PerturbationKind.LATENCY: (8.0, 24.0),
    PerturbationKind.DROPPED_FRAMES: (60.0, 300.0),
}
"""Ranges of magnitude, in the unit of ``PERTURBATIONS``, from which ``sample_fault`` draws."""

_AIM = frozenset({PerturbationKind.TRANSLATION_ERROR, PerturbationKind.ROTATION_ERROR})


@dataclass(frozen=True, slots=True)
class Fault:
    """What shall go wrong: the first strike, and how often it may strike."""

    perturbation: Perturbation
    strikes: int = 1

    def __post_init__(self) -> None:
        if self.strikes < 1:
            kind = self.perturbation.kind.value
            raise ValueError(f"strikes of {kind} is {self.strikes}, expected 1 or more")


@dataclass(frozen=True, slots=True)
class FaultLabel:
    """What did go wrong in an episode.

    onset_tick: of the first strike; magnitude: in ``unit``; strikes: how many there were; description: of the first
    """

    kind: PerturbationKind
    onset_tick: int
    magnitude: float
    unit: str
    strikes: int
    description: str


def sample_fault(kind: PerturbationKind, task: str, rng: np.random.Generator) -> Fault:
    """A fault of a kind, severe enough to make many episodes fail; one in five strikes once only.

    Raises:
        ValueError: for a kind that does not apply to the task.
    """
    drawn = sample_perturbation(kind, task, rng)
    low, high = SEVERITY[kind]
    magnitude = float(rng.uniform(low, high))
    if PERTURBATIONS[kind].unit == "ticks":
        magnitude = float(round(magnitude))
    strikes = 1 if rng.random() < 0.2 else STRIKES
    return Fault(Perturbation(kind, drawn.onset_tick, magnitude), strikes)


def faulty_scene(spec: SceneSpec, fault: Fault, rng: np.random.Generator) -> SceneSpec:
    """The scene that a fault needs; see ``perturbed_scene``."""
    return perturbed_scene(spec, fault.perturbation, rng)


class FailureGenerator:
    """Stands between a policy and the robot: pictures and actions pass through it once a tick.

    Call ``observation`` (at ticks where something is observed) and then ``action`` at every tick. The world must hold
    the scene that ``faulty_scene`` gave.
    """

    def __init__(self, world: World, fault: Fault, rng: np.random.Generator) -> None:
        self._world, self._fault, self._rng = world, fault, rng
        self._expert = ScriptedExpert(world, world.spec.goal, rng)
        self._strike: Perturber | None = Perturber(world, fault.perturbation, rng)
        self._first: PerturbationRecord | None = None
        self._strikes = 0
        self._next_tick = 0

    @property
    def label(self) -> FaultLabel | None:
        """What went wrong so far; None as long as nothing has."""
        self._note()
        if self._first is None:
            return None
        first = self._first
        return FaultLabel(first.kind, first.onset_tick, first.magnitude, first.unit, self._strikes, first.description)

    def observation(self, value: T) -> T:
        """What the policy gets to see instead of ``value``."""
        return value if self._strike is None else self._strike.observation(value)

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """(7,) float32: what the robot gets instead of ``action``.

        Raises:
            ValueError: for an action of another shape.
        """
        changed = np.asarray(action, dtype=np.float32)
        if changed.shape != (ACTION_DIM,):
            raise ValueError(f"action has shape {changed.shape}, expected ({ACTION_DIM},)")
        if self._strike is None and self._due():
            again = replace(self._fault.perturbation, onset_tick=self._world.ticks)
            self._strike = Perturber(self._world, again, self._rng)
        if self._strike is not None:
            changed = self._strike.action(changed)
            self._note()
            if self._strike.over:
                self._strike = None
                self._next_tick = self._world.ticks + PAUSE_TICKS
        return changed

    def _note(self) -> None:
        """Count the strike under way, once."""
        record = None if self._strike is None else self._strike.record
        if record is None or record.onset_tick < self._next_tick:
            return
        self._strikes += 1
        self._next_tick = record.onset_tick + 1
        self._first = self._first or record

    def _due(self) -> bool:
        if self._strikes >= self._fault.strikes or self._world.ticks < self._next_tick:
            return False
        if self._fault.perturbation.kind not in _AIM:
            return True
        tool, thing = self._world.robot_state().position, self._expert.thing_position()
        return float(np.linalg.norm(tool - thing)) < NEAR
