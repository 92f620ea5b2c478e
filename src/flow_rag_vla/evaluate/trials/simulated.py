# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The bench of the simulated robot: a task in a scene variant, done by a policy checkpoint with the graph's delays."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.evaluate.rollout import RolloutSettings
from flow_rag_vla.evaluate.trials.answers import ANSWERS, AnswerContext, Answering, key_stamp, memory_stamp
from flow_rag_vla.evaluate.trials.bank import BankEpisode, CaseBank, GrowingBank, TemporaryMemory
from flow_rag_vla.evaluate.trials.lessons import PRACTISED, Lessons, Teaching
from flow_rag_vla.evaluate.trials.practised import PractisedLessons
from flow_rag_vla.evaluate.trials.protocol import Trial, TrialResult
from flow_rag_vla.evaluate.trials.rewinding import REWINDS, Rewinding
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.scenes import scene_of
from flow_rag_vla.evaluate.trials.simulated_description import SimulatedDescription, policy_folder
from flow_rag_vla.evaluate.trials.simulated_episode import SimulatedEpisode
from flow_rag_vla.evaluate.trials.variants import OFF, Variant, parse
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.situation import NAME, SituationKey
from flow_rag_vla.sim.world import World

__all__ = ["SimulatedBench", "scene_of"]

RETRIES = 3
"""Blind retries of one episode, and ways back to a checkpoint, at most."""


@lru_cache(maxsize=4)
def _policy(checkpoint: str | None, settings: RolloutSettings) -> FlowPolicy:
    import torch

    torch.set_num_threads(1)
    policy = FlowPolicy.load(checkpoint)
    policy.configure(solver=settings.solver, steps=settings.steps, samples=settings.samples)
    return policy


@lru_cache(maxsize=4)
def _key(checkpoint: str | None) -> SituationKey:
    return SituationKey.load(policy_folder(checkpoint))


@lru_cache(maxsize=2)
def _encoder(name: str) -> Encoder:
    return make_encoder(name)


@lru_cache(maxsize=1)
def _world() -> World:
    # One for all benches of a process: the same spec gives the same states whatever the world did before.
    return World()


class SimulatedBench:
    """A task in a scene variant with a checkpoint; see ``protocol.Bench``."""

    def __init__(self, spec: SimulatedDescription) -> None:
        """Load policy, encoder and bank.

        Raises:
            CheckpointError: if they do not fit together.
        """
        self.spec = spec
        self._encoder = _encoder(spec.encoder)
        self._memories: dict[tuple[int | None, bool], TemporaryMemory] = {}
        self._bank = None if spec.cases is None else CaseBank(spec.cases)
        self._rig: Rig | None = None

    def close(self) -> None:
        """Close the memories, and what was practised with."""
        if self._rig is not None:
            self._rig.close()
            self._rig = None
        while self._memories:
            self._memories.popitem()[1].close()

    def run(self, trial: Trial) -> TrialResult:
        """Run one episode until success or the task's time limit; see ``protocol.Bench``."""
        variant = parse(trial.variant)
        if variant.online:
            return self._run_online(trial, variant)
        return self._episode(trial, variant, self._memory(variant), None)

    def collect(self, folder: str | Path, trial: Trial) -> TrialResult:
        """Run an episode without memory, whose failures become cases of the bank in ``folder``.

        Raises:
            TrialError: if the bank does not hold exactly the episodes before the trial's place.
        """
        with GrowingBank(folder, trial.place) as bank:
            return self._taught(trial, parse(OFF), bank)

    def _run_online(self, trial: Trial, variant: Variant) -> TrialResult:
        assert self.spec.workspace is not None  # checked above
        folder = Path(self.spec.workspace) / trial.bench.replace("/", "_") / str(variant)
        with GrowingBank(folder, trial.place) as bank:
            return self._taught(trial, variant, bank)

    def _taught(self, trial: Trial, variant: Variant, bank: GrowingBank) -> TrialResult:
        lessons = self._teaching(trial, bank)
        result = self._episode(trial, variant, bank.memory, lessons)
        lessons.end(result.success, [case_id for item in result.interventions for case_id in item.case_ids])
        bank.finish(
            BankEpisode(trial.place, trial.bench, trial.start, result.success, lessons.cases, lessons.situations)
        )
        return result

    def _teaching(self, trial: Trial, bank: GrowingBank) -> Teaching:
        if self.spec.source not in PRACTISED:
            return Lessons(bank.memory, _world(), self._encoder, self.spec.source)
        if self._rig is None:
            self._rig = Rig(self.spec)
        return PractisedLessons(bank.memory, self._rig, self.spec.source, bank.folder, trial.start)

    def _memory(self, variant: Variant) -> FailureMemory | None:
        if not variant.needs_cases or self._bank is None:
            return None
        key = variant.episodes, variant.shuffled
        found = self._memories.get(key)
        if found is None:
            found = self._memories[key] = self._bank.memory(episodes=variant.episodes, shuffled=variant.shuffled)
        return found.memory

    def _context(self, memory: FailureMemory, policy: FlowPolicy, goal: Goal) -> AnswerContext:
        """A memory says by its stamp what it is asked with: embeddings, or the policy's own situations."""
        if memory.stamp is None or memory.stamp.encoder != NAME:
            return AnswerContext(memory, memory_stamp(self._encoder), policy, self._encoder, goal)
        key = _key(self.spec.checkpoint)
        return AnswerContext(memory, key_stamp(key), policy, self._encoder, goal, key)

    def _episode(
        self, trial: Trial, variant: Variant, memory: FailureMemory | None, lessons: Teaching | None
    ) -> TrialResult:
        spec = self.spec
        method = variant.method.name
        checkpoint = spec.dagger if method == "dagger" else spec.checkpoint
        policy, world = _policy(checkpoint, spec.settings), _world()
        scene = scene_of(spec.task, spec.scene, trial.start)
        answering: Answering | None = None
        if memory is not None and variant.method.needs_cases:
            answering = ANSWERS[method](self._context(memory, policy, scene.goal))
        cases = 0 if memory is None else memory.statistics().cases
        episode = SimulatedEpisode(
            world, policy, self._encoder, scene, trial.start.noise, spec.settings,
            answering=answering, retries=RETRIES if method == "retry" else 0,
            rewinding=Rewinding(RETRIES) if method in REWINDS else None, lessons=lessons,
        )  # fmt: skip
        return episode.run(trial, spec.policy, cases)
