# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One start of the simulator, done in this or that way.

Plans are measured, failures regretted and corrections checked by it. A way is the policy alone, or with one thing
changed: other noise, a shifted perception, a lower speed, a failure memory that acts. The same start and way give the
same outcome in every process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_S
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.deliberation.history import CONTACT_PHASES, EpisodeFact
from flow_rag_vla.evaluate.arbitration import Arbitration
from flow_rag_vla.evaluate.trials.answers import Answering, EpisodeContext
from flow_rag_vla.evaluate.trials.labelled import Seen
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.simulated import scene_of
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed
from flow_rag_vla.policy.policy import SHIFT_SHAPE
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import TASK_RULES


@dataclass(frozen=True, slots=True)
class Way:
    """How a start is done.

    noise: draw of the policy's noise; 0: the start's own
    shift: rows of ``SHIFT_SHAPE``, metres, by which target, destination and hand are perceived elsewhere; empty: none
    speed_scale: pace, above 0 and at most 1: the same plans, stretched in time

    Raises:
        ValueError: for what makes no sense.
    """

    name: str
    noise: int = 0
    shift: tuple[tuple[float, ...], ...] = ()
    speed_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.shift and (np.shape(self.shift) != SHIFT_SHAPE or not np.isfinite(self.shift).all()):
            raise ValueError(f"shift of {self.name!r} is {self.shift}, expected {SHIFT_SHAPE} finite numbers in metres")
        if not (math.isfinite(self.speed_scale) and 0.0 < self.speed_scale <= 1.0):
            raise ValueError(f"speed scale of {self.name!r} is {self.speed_scale}, expected above 0 and at most 1")
        if self.noise < 0:
            raise ValueError(f"noise of {self.name!r} is {self.noise}, expected 0 or more")


AS_TAKEN = Way("as taken")
"""The policy alone, as it went."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How a start went in one way.

    progress: 0 to 1, the farthest; ticks: of 25 ms; fact: what a log would hold, forces and side effects too
    reports: of the failure detector; seen: what was observed and planned, in its order
    """

    way: Way
    goal: Goal
    success: bool
    progress: float
    ticks: int
    fact: EpisodeFact
    reports: tuple[FailureReport, ...] = ()
    seen: tuple[Seen, ...] = field(default=(), repr=False)

    @property
    def value(self) -> float:
        """What the outcome is worth, 0 to 1: a success from 0.5 to 1, the sooner the more; a failure by its progress.

        Half of the range divides the two, so that no failure is worth as much as any success.
        """
        limit = TASK_RULES[self.goal.task].time_limit_s
        if self.success:
            return 1.0 - 0.5 * min(self.ticks * TICK_S / limit, 1.0)
        return 0.5 * min(max(self.progress, 0.0), 0.99)

    @property
    def last_wrench(self) -> tuple[float, ...]:
        """Newtons and newton metres at the tool when it was last looked; empty if it never was."""
        return tuple(float(value) for value in self.seen[-1].state.wrench) if self.seen else ()

    @property
    def kind(self) -> FailureType:
        """Of the first failure that was reported; a timeout if none was."""
        return self.reports[0].failure_type if self.reports else FailureType.TIMEOUT


def rehearse(rig: Rig, start: Start, way: Way = AS_TAKEN, answering: Answering | None = None) -> Rehearsed:
    """Do a start of the rig's task and scene, until success or the task's time limit.

    Args:
        rig: policy and world; the world is reset.
        start: where to begin.
        way: how.
        answering: a failure memory that acts, as in trials; None: none does.
    """
    spec = rig.spec
    scene = scene_of(spec.task, spec.scene, start)
    world, settings = rig.world, spec.settings
    # What is done slower may take longer, as in the graph.
    limit = round(TASK_RULES[scene.task].time_limit_s / way.speed_scale * CONTROL_RATE_HZ)
    state = world.reset(scene)
    integrator = TargetIntegrator()
    integrator.pace = way.speed_scale
    detector = FailureDetector()
    detector.start(Episode(1, scene.task, state.stamp_ns, limit * TICK_S, scene.goal, way.speed_scale))
    detector.update(state)
    watch = _Watch(scene, world.scene_state())
    eyes = _Eyes(answering)
    arbiter = None if answering is None else answering.arbiter
    arbitration = Arbitration(eyes, arbiter or ArbiterSettings())
    if answering is not None:
        answering.begin(EpisodeContext(scene.task, lambda: detector.phase.value, start))
    follower = ChunkFollower(
        rig.policy,
        rig.encoder,
        scene.goal,
        seed=noise_seed(start.noise, -way.noise) if way.noise else start.noise,
        delay_ticks=settings.delay_ticks + (0 if answering is None else answering.delay_ticks),
        corrector=arbitration.correct,
        arrived=arbitration.arrive,
        shift=np.array(way.shift) if way.shift else None,
        pace=way.speed_scale,
    )
    seen: list[Seen] = []
    reports: list[FailureReport] = []
    best, tick = 0.0, 0
    while tick < limit and not world.success():
        if tick % settings.replan_ticks == 0:
            chunk = follower.observe(tick, {"front": world.render(FRONT), "wrist": world.render(WRIST)}, state)
            seen.append(Seen(eyes.embedding, state, detector.phase.value, chunk))
            best = max(best, world.progress())
            watch.scene(world.scene_state())
        target, _, _ = integrator.advance(follower.action(tick, state), state)
        detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
        state = world.step(target)
        tick += 1
        reports += detector.update(state)
        watch.tick(tick, state, detector.phase.value)
    success = world.success()
    fact = EpisodeFact(
        scene.task,
        success,
        tick * TICK_S,
        tuple(report.failure_type.name.lower() for report in reports),
        sum(arbitration.modes.values()) > 0,
        watch.first_contact,
        watch.peak_force,
        watch.moved_others,
        "rehearsal",
        spec.scene,
        start.seed,
        way.name,
    )
    return Rehearsed(way, scene.goal, success, 1.0 if success else best, tick, fact, tuple(reports), tuple(seen))


class _Eyes:
    """Notes what the policy sees, and asks the memory if there is one."""

    def __init__(self, answering: Answering | None) -> None:
        self.embedding: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._answering = answering

    def __call__(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        self.embedding = embedding
        return None if self._answering is None else self._answering(embedding, state, goal, stamp_ns)


class _Watch:
    """Forces, first contact, and what was moved that the task is not about."""

    def __init__(self, scene: SceneSpec, start: SceneState) -> None:
        self._others = [entry.name for entry in scene.objects if entry.name != scene.goal.target]
        if scene.task == "stack":
            # The box is what the cube is put on: it may be touched.
            self._others = []
        self._start = {name: start.objects[name][0].copy() for name in self._others}
        self.first_contact: float | None = None
        self.peak_force = 0.0
        self.moved_others = 0.0

    def tick(self, tick: int, state: RobotState, phase: str) -> None:
        """A tick passed."""
        self.peak_force = max(self.peak_force, float(np.linalg.norm(state.wrench[:3])))
        if self.first_contact is None and phase in CONTACT_PHASES:
            self.first_contact = tick * TICK_S

    def scene(self, now: SceneState) -> None:
        """Where things are."""
        for name, before in self._start.items():
            self.moved_others = max(self.moved_others, float(np.linalg.norm(now.objects[name][0] - before)))
