# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One episode of the simulated robot under the eyes of the failure detector.

It is ``evaluate.rollout.rollout`` with more eyes: a failure detector fed at 40 Hz, the phases that the memory is
searched by, and, for a memory that grows, the expert who says afterwards what would have been right.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_S
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.arbitration import Arbitration
from flow_rag_vla.evaluate.rollout import RolloutSettings
from flow_rag_vla.evaluate.trials.answers import Answering, EpisodeContext
from flow_rag_vla.evaluate.trials.homing import HOME_TICKS, homeward, is_home
from flow_rag_vla.evaluate.trials.lessons import Teaching
from flow_rag_vla.evaluate.trials.protocol import FailureSeen, Intervention, Latency, Trial, TrialResult
from flow_rag_vla.evaluate.trials.rewinding import Rewinding
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.policy.encoders import Encoder
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World


class SimulatedEpisode:
    """One episode under the eyes of the failure detector."""

    def __init__(
        self,
        world: World,
        policy: FlowPolicy,
        encoder: Encoder,
        scene: SceneSpec,
        noise: int,
        settings: RolloutSettings,
        *,
        answering: Answering | None = None,
        retries: int = 0,
        rewinding: Rewinding | None = None,
        lessons: Teaching | None = None,
    ) -> None:
        """Set an episode up.

        Args:
            world: reset when the episode runs.
            policy: what acts.
            encoder: the one that the policy was trained with.
            scene: the start.
            noise: seed of the policy's noise.
            settings: delays.
            answering: what the memory answers.
            retries: how often a detected failure sends the arm back to its start to try with other noise.
            rewinding: goes back after a failure as the running graph does.
            lessons: takes failures in, where a memory grows.
        """
        self._world, self._policy, self._encoder, self._scene = world, policy, encoder, scene
        self._noise, self._retries, self._answering, self._lessons = noise, retries, answering, lessons
        self._rewinding = rewinding
        extra = 0 if answering is None else answering.delay_ticks
        self._settings = replace(settings, delay_ticks=settings.delay_ticks + extra)
        self._detector = FailureDetector()
        self._memory_ms: list[float] = []
        self._policy_ms: list[float] = []
        self._seen: NDArray[np.float32] | None = None
        arbiter = None if answering is None else answering.arbiter
        self._arbitration = Arbitration(self._answer, arbiter or ArbiterSettings())
        self._starved = self._chunks = 0

    def run(self, trial: Trial, policy: str, cases: int) -> TrialResult:
        """Run until success or the time limit.

        Args:
            trial: what is asked; it is in the result.
            policy: name and revision of what acts, for the result.
            cases: how many the memory holds, for the result.
        """
        world, scene, settings = self._world, self._scene, self._settings
        limit = round(TASK_RULES[scene.task].time_limit_s * CONTROL_RATE_HZ)
        home = state = world.reset(scene)
        detector, integrator = self._detector, TargetIntegrator()
        detector.start(Episode(1, scene.task, state.stamp_ns, limit * TICK_S, scene.goal))
        detector.update(state)
        if self._lessons is not None:
            self._lessons.begin(trial.place + 1, scene, state.stamp_ns)
        if self._answering is not None:
            self._answering.begin(EpisodeContext(scene.task, lambda: detector.phase.value, trial.start))
        if self._rewinding is not None:
            self._rewinding.begin(scene.task, state)
        failures: list[FailureSeen] = []
        follower, retried, rewind_from, best, tick = self._follower(self._noise), 0, -1, 0.0, 0
        while tick < limit and not world.success():
            rewinding = rewind_from >= 0
            if tick % settings.replan_ticks == 0:
                best = max(best, world.progress())
                if not rewinding:
                    self._observe(follower, tick, state)
            action = homeward(state, home, tick - rewind_from) if rewinding else follower.action(tick, state)
            target, _, _ = integrator.advance(action, state)
            detector.offer_command(Command(state.stamp_ns, target, self._arbitration.followed_ns or state.stamp_ns))
            state = world.step(target)
            tick += 1
            reports = detector.update(state)
            failures += [_seen(report) for report in reports]
            if self._lessons is not None:
                self._lessons.watch(state, detector.phase.value, reports)
            if self._rewinding is not None:
                self._rewinding.watch(state, reports)
            if rewinding and (is_home(state, home) or tick - rewind_from >= HOME_TICKS):
                rewind_from = -1
                self._count(follower)
                follower = self._follower(noise_seed(self._noise, -retried))
            elif reports and not rewinding and retried < self._retries:
                retried, rewind_from = retried + 1, tick
        self._count(follower)
        success = world.success()
        return TrialResult(
            trial=trial,
            task=scene.task,
            scene=scene.variant,
            policy=policy,
            success=success,
            duration=tick * TICK_S,
            progress=1.0 if success else best,
            ticks=tick,
            observations=self._chunks,
            starved_ticks=self._starved,
            retries=retried if self._rewinding is None else self._rewinding.attempts,
            failures=tuple(failures),
            interventions=tuple(
                Intervention(mode.name.lower(), count, tuple(sorted(self._arbitration.cases[mode])))
                for mode, count in sorted(self._arbitration.modes.items())
            ),
            cases=cases,
            detail={"target": scene.goal.target},
            timing=(*_latency("policy", self._policy_ms), *_latency("memory", self._memory_ms)),
        )

    def _follower(self, noise: int) -> ChunkFollower:
        return ChunkFollower(
            self._policy,
            self._encoder,
            self._scene.goal,
            seed=noise,
            delay_ticks=self._settings.delay_ticks,
            corrector=self._arbitration.correct,
            arrived=self._arbitration.arrive,
        )

    def _count(self, follower: ChunkFollower) -> None:
        self._starved += follower.starved_ticks
        self._chunks += follower.chunks

    def _observe(self, follower: ChunkFollower, tick: int, state: RobotState) -> None:
        images = {"front": self._world.render(FRONT), "wrist": self._world.render(WRIST)}
        started, before = time.perf_counter(), sum(self._memory_ms)
        chunk = follower.observe(tick, images, state)
        spent = (time.perf_counter() - started) * 1e3
        self._policy_ms.append(spent - (sum(self._memory_ms) - before))
        if self._rewinding is not None:
            self._rewinding.planned(chunk)
        if self._lessons is not None and self._seen is not None:
            self._lessons.observe(self._seen, chunk, state)

    def _answer(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        self._seen = embedding
        if self._answering is None and self._rewinding is None:
            return None
        started = time.perf_counter()
        correction = None if self._answering is None else self._answering(embedding, state, goal, stamp_ns)
        if self._rewinding is not None:
            correction = self._rewinding.correct(stamp_ns, correction)
        self._memory_ms.append((time.perf_counter() - started) * 1e3)
        return correction


def _seen(report: FailureReport) -> FailureSeen:
    at = round(report.stamp_ns * 1e-9, 6)
    return FailureSeen(FailureType(report.failure_type).name.lower(), at, report.phase.value, report.detector)


def _latency(name: str, values_ms: list[float]) -> tuple[Latency, ...]:
    if not values_ms:
        return ()
    p50, p99 = np.percentile(values_ms, [50, 99])
    return (Latency(name, len(values_ms), round(float(p50), 4), round(float(p99), 4), round(max(values_ms), 4)),)
