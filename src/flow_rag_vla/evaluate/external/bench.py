# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Paired trials in an external environment: what ``evaluate.trials`` runs.

What a variant means here:

- ``consensus``: the answer of the running graph, ``memory.consensus``: all through the flow toward what failures'
  corrections and successes nearby agree on
- ``guide``: the flow is pulled early toward the kernel-weighted correction of the nearest credible cases
- ``residual``: the kernel-weighted difference of correction and failed chunk is added, cut
- ``negative``: away from the failed chunks of the nearest cases
- ``blend``: 0.7 of the chunk and 0.3 of the correction (no rule by failure type: those speak of a gripper)
- ``rag_only``: the kernel-weighted correction itself
- ``dispatch``: ``residual`` if it was admitted: on development starts it made more succeed than fail, see
  ``Admission``; else nothing, because a memory that hurts is not used
- ``retry``: half-way to the step limit the robot goes back to where it began, and the policy begins anew
- ``dagger``: the policy fine-tuned on the same corrections
- ``NAME:N``: only the failures of the first N failed episodes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from flow_rag_vla.core.files import file_revision, write_text
from flow_rag_vla.evaluate.external.cases import AGREEMENT, ExternalMemory, RecallSettings, shuffled
from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.evaluate.external.key import KernelKey
from flow_rag_vla.evaluate.external.preparation import (
    ADMISSION_EPISODES,
    ADMISSION_FILE,
    DEVELOPMENT_SEEDS,
    FAILURES_FILE,
    POLICY_FOLDER,
    POLICY_STRIDE,
    load_bank,
    load_prepared,
)
from flow_rag_vla.evaluate.external.rollout import EpisodeResult, EpisodeSettings, Use, run_episode
from flow_rag_vla.evaluate.external.tasks import ExternalTask, external_task
from flow_rag_vla.evaluate.trials.protocol import FailureSeen, Intervention, Start, Trial, TrialError, TrialResult
from flow_rag_vla.evaluate.trials.variants import OFF, Variant, parse
from flow_rag_vla.memory.consensus import ConsensusSettings

USES: Mapping[str, Use] = {
    "guide": "guide",
    "residual": "residual",
    "negative": "negative",
    "blend": "blend",
    "rag_only": "replace",
    "dispatch": "residual",
    "consensus": "consensus",
}
"""Method of a variant to what is done with what is recalled."""
SHUFFLE_SEED = 7
RELATION_SCALE = 1.0
"""Length of the key of relations, in their own units."""
AGREED_SCALE = 0.3
"""Length of the key of a standardised observation under ``consensus``, times the root of how many numbers it has: how
far apart two of them are grows with it."""


@dataclass(frozen=True, slots=True)
class ExternalBenchSpec:
    """A prepared task, by its folder.

    length_scale: of the memory's key, in standard deviations; consensus: settings of the method of that name
    """

    name: str
    folder: str
    observation: str
    policy: str
    success: str = ""
    step_limit: int = 0
    length_scale: float = 3.0
    recall: RecallSettings = field(default_factory=RecallSettings)
    consensus: ConsensusSettings = AGREEMENT

    @classmethod
    def of(
        cls,
        name: str,
        folder: str | Path,
        *,
        success: str = "",
        step_limit: int = 0,
        length_scale: float = 3.0,
        recall: RecallSettings | None = None,
    ) -> ExternalBenchSpec:
        """Describe what ``preparation.prepare`` left in a folder.

        Raises:
            ExternalError: if something is missing.
        """
        prepared = load_prepared(folder)
        if prepared.policy.config.task != name:
            raise ExternalError(f"{folder} was prepared for {prepared.policy.config.task}, not for {name}")
        return cls(
            name,
            str(folder),
            prepared.preparation.observation,
            f"seed{prepared.preparation.policy_seed}-{prepared.revision}",
            success,
            step_limit,
            length_scale,
            recall or RecallSettings(),
        )

    @property
    def key(self) -> str:
        """Environment, task, observation, policy."""
        return f"{self.name}/{self.observation}/{self.policy}"

    @property
    def task(self) -> str:
        """What is to be done."""
        return self.name

    @property
    def scene(self) -> str:
        """What is observed of it."""
        return self.observation

    def check(self, variant: str) -> None:
        """Refuse a variant that cannot be run here.

        Raises:
            TrialError: with the reason and the remedy.
        """
        wanted = parse(variant)
        method = wanted.method.name
        if wanted.online:
            raise TrialError(f"{self.name}: memory {variant!r} does not grow here; leave online out")
        if method not in (*USES, "off", "retry", "dagger"):
            raise TrialError(
                f"{self.name}: memory {variant!r} is not known here; known: off, retry, dagger, {_known()}"
            )
        if method == "retry" and self._task().home is None:
            raise TrialError(f"{self.name} knows no way back to its start, so retry means nothing; leave it out")
        if wanted.needs_cases and not load_bank(Path(self.folder) / FAILURES_FILE).failures:
            raise TrialError(f"{self.name}: {self.folder} holds no failure to remember; collect from more episodes")

    def failed_starts(self) -> tuple[Start, ...]:
        """Starts that failed while the memory was built, in their order, with the noise under which they did."""
        return tuple(Start(seed, seed) for seed in load_bank(Path(self.folder) / FAILURES_FILE).failed_seeds)

    def build(self) -> ExternalBench:
        """The bench, in the process that calls."""
        return ExternalBench(self, self._task())

    def _task(self) -> ExternalTask:
        return external_task(self.name, success=self.success, step_limit=self.step_limit)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a memory did on development starts. helped, hurt: episodes that only it, or only the policy alone, did."""

    episodes: int
    helped: int
    hurt: int

    @property
    def admitted(self) -> bool:
        """Whether it helped more often than it hurt."""
        return self.helped > self.hurt


def read_admission(path: str | Path, settings: Mapping[str, object]) -> Admission | None:
    """What was decided about a memory of these settings; None if nothing was, or about another."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if values.pop("settings") != settings:
            return None
        return Admission(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class ExternalBench:
    """Runs trials of one prepared task. Not safe for use by two threads at once."""

    def __init__(self, spec: ExternalBenchSpec, task: ExternalTask) -> None:
        """Load the policies and make the environment; ``task`` may be one that has no name to find it by."""
        import torch

        torch.set_num_threads(1)
        self._spec = spec
        self._task = task
        self._prepared = load_prepared(spec.folder)
        self._environment = task.make(self._prepared.preparation.observation)
        self._memories: dict[tuple[int | None, bool, bool], ExternalMemory] = {}
        self._alone: tuple[Start, EpisodeResult] | None = None
        self._admission: Admission | None = None

    def run(self, trial: Trial) -> TrialResult:
        """Run one episode to its end.

        Raises:
            TrialError: if the variant cannot be run here.
        """
        spec = self._spec
        if trial.variant != OFF:
            spec.check(trial.variant)
        variant = parse(trial.variant)
        method = variant.method.name
        memory = None
        if method in USES and (method != "dispatch" or self._admitted()):
            memory = self._memory(variant)
        retry_after = self._environment.step_limit // 2 if method == "retry" else 0
        try:
            result = self._episode(trial.start, method, memory, retry_after)
        except ExternalError as error:
            raise TrialError(f"{spec.name}, {trial.key}: {error}") from error
        seconds = result.steps * self._environment.step_seconds
        kind = "broken" if result.broken else "timeout"
        return TrialResult(
            trial=trial,
            task=spec.task,
            scene=spec.scene,
            policy=spec.policy,
            success=result.success,
            duration=seconds,
            progress=float(result.success),
            ticks=result.steps,
            observations=result.chunks,
            retries=int(retry_after > 0 and result.steps > retry_after),
            failures=() if result.success else (FailureSeen(kind, seconds, detector="step limit"),),
            interventions=(Intervention(method, result.corrected, result.case_ids),) if result.corrected else (),
            cases=0 if memory is None else len(memory),
            detail={"strength": round(result.strength, 4), **({"broken": result.broken} if result.broken else {})},
        )

    def close(self) -> None:
        """Close the environment and the memories."""
        self._environment.close()
        for memory in self._memories.values():
            memory.close()
        self._memories.clear()

    def _episode(self, start: Start, method: str, memory: ExternalMemory | None, retry_after: int) -> EpisodeResult:
        # Equal episodes are not played twice: without a memory they are those of the policy alone, and a blind retry
        # is one as long as nothing is retried.
        same = memory is None and method != "dagger"
        if same and self._alone is not None and self._alone[0] == start:
            known = self._alone[1]
            if retry_after == 0 or known.steps <= retry_after:
                return known
        prepared = self._prepared
        result = run_episode(
            self._environment,
            prepared.dagger if method == "dagger" else prepared.policy,
            start.seed,
            memory=memory,
            settings=EpisodeSettings(prepared.preparation.episode.execute, USES.get(method, "guide"), retry_after),
            task=self._task,
            noise=start.noise,
            displaced=start.displaced,
        )
        if same and retry_after == 0:
            self._alone = (start, result)
        return result

    def _admitted(self) -> bool:
        """Whether the memory may act: decided once, on development starts, and kept beside the policy."""
        if self._admission is None:
            path = Path(self._spec.folder) / ADMISSION_FILE
            settings = {"length_scale": self._spec.length_scale, **asdict(self._spec.recall)}
            self._admission = read_admission(path, settings)
            if self._admission is None:
                self._admission = self._try_out()
                write_text(path, json.dumps({"settings": settings, **asdict(self._admission)}, indent=1) + "\n")
        return self._admission.admitted

    def _try_out(self) -> Admission:
        memory = self._memory(parse("dispatch"))
        first = DEVELOPMENT_SEEDS + POLICY_STRIDE * self._prepared.preparation.policy_seed
        helped = hurt = 0
        for seed in range(first, first + ADMISSION_EPISODES):
            start = Start(seed, seed)
            alone = self._episode(start, OFF, None, 0).success
            corrected = self._episode(start, "dispatch", memory, 0).success
            helped += int(corrected and not alone)
            hurt += int(alone and not corrected)
        return Admission(ADMISSION_EPISODES, helped, hurt)

    def _memory(self, variant: Variant) -> ExternalMemory:
        agreeing = variant.method.name == "consensus"
        wanted = (variant.episodes, variant.shuffled, agreeing)
        memory = self._memories.get(wanted)
        if memory is None:
            prepared, spec = self._prepared, self._spec
            config = prepared.policy.config.velocity
            relations = self._task.relations if agreeing and spec.observation == "state" else None
            key = KernelKey(config.condition_dim, spec.length_scale)
            if relations is not None:
                key = KernelKey(len(relations(np.zeros(config.condition_dim))), RELATION_SCALE)
            elif agreeing:
                key = KernelKey(config.condition_dim, AGREED_SCALE * config.condition_dim**0.5)
            memory = ExternalMemory(
                spec.name,
                file_revision(Path(spec.folder) / POLICY_FOLDER / "policy.safetensors"),
                key,
                (config.horizon, config.action_dim),
                spec.recall,
                consensus=spec.consensus,
                relations=relations,
            )
            failures = prepared.bank.of_first(variant.episodes)
            memory.remember(shuffled(failures, SHUFFLE_SEED) if variant.shuffled else failures)
            if agreeing:
                memory.observe_done(prepared.bank.done_by(variant.episodes))
            else:
                memory.calibrate(prepared.bank.calm)
            self._memories[wanted] = memory
        return memory


def _known() -> str:
    return ", ".join(USES)
