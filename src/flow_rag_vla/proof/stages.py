# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the proof does, step by step. Each step leaves a folder and is skipped when that is there.

1. ``policy-S``: a policy for each training seed, from few demonstrations of the plain scenes.
2. ``bank-S-TASK``: that policy practises in the declared gap; an expert takes over where it is stuck. Of another source
   of corrections its name is behind that, and behind what is made of it.
3. ``dagger-S-TASK``: the control that is fine-tuned on the labels of that bank, where it is asked for.
4. ``trials-TASK``: every variant on the same fresh starts with the same noise, pooled over the training seeds.

Where the memory is to begin empty (``online``) there is no practice: each failure among the trials is learned from
before the next one.

The ground, the memory's settings and the variants were fixed on development seeds (below 70,000); trials begin at
100,000.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.evaluate.trials.plan import Plan, make_plan
from flow_rag_vla.evaluate.trials.practice import LABELS, practise
from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec, simulated_spec
from flow_rag_vla.evaluate.trials.variants import parse_all
from flow_rag_vla.learn.few_demonstrations import SAMPLES, train_from_few
from flow_rag_vla.learn.fine_tune import fine_tune
from flow_rag_vla.learn.samples import read_samples
from flow_rag_vla.proof.steps import Progress, Step, run_steps

TEST_SEED = 100_000
PRACTICE_SEED = 70_000

USUAL_SOURCE = "expert"
"""Who says what would have been right, unless something else is asked; it stands in no folder's name."""

BEFORE_SOURCES = (("source", USUAL_SOURCE),)
"""What practice was before there was a choice."""

TITLES = ("Policies", "Practice", "Fine-tuned controls")
"""Of the steps before the trials, as they follow from one another."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A task in the scene variant on which the memory is measured."""

    task: str
    scene: str

    def __str__(self) -> str:
        return f"{self.task}-{self.scene}"


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """Everything that decides the outcome.

    demonstrations: of each goal, for each training seed; practice: episodes from which each bank is made
    source: who says in practice what would have been right, one of ``practice.SOURCES``
    rounds: how often a start that failed in practice is tried again with what is remembered by then, at most; of the
        sources ``expert`` and ``takeover``
    iterations, tuning: of a policy's training, and of the control's fine-tuning
    episodes: fresh starts of each training seed; variants: as ``variants.parse_all`` reads them
    repeats: noises with which each start that failed in practice is tried again, under ``repeated`` only
    online: the memory begins empty and grows with the fresh starts, in order, instead of practice
    """

    grounds: tuple[Ground, ...] = (Ground("open_drawer", "object_size"),)
    training_seeds: tuple[int, ...] = (0, 1, 2)
    demonstrations: int = 20
    iterations: int = 3000
    tuning: int = 800
    practice: int = 100
    source: str = USUAL_SOURCE
    rounds: int = 0
    episodes: int = 134
    repeats: int = 1
    repeated: str = "off,by_cause"
    online: bool = False
    variants: str = "off,retry,blend,shuffled+by_cause,dagger,by_cause:50,by_cause"


def policy_path(work: Path, seed: int) -> Path:
    """Folder of a training seed's policy."""
    return work / f"policy-{seed}"


def ground_name(ground: Ground, source: str = USUAL_SOURCE, *, online: bool = False) -> str:
    """How folders and results of a ground are called."""
    return "-".join([str(ground), *([source] if source != USUAL_SOURCE else []), *(["online"] if online else [])])


def bank_path(work: Path, seed: int, ground: Ground, source: str = USUAL_SOURCE) -> Path:
    """Folder of the bank that a policy's practice made."""
    return work / f"bank-{seed}-{ground_name(ground, source)}"


def dagger_path(work: Path, seed: int, ground: Ground, source: str = USUAL_SOURCE) -> Path:
    """Folder of the policy that was fine-tuned on a bank's labels."""
    return work / f"dagger-{seed}-{ground_name(ground, source)}"


def trials_path(work: Path, ground: Ground, settings: ProofSettings) -> Path:
    """Folder of a ground's trials, over all training seeds."""
    return work / f"trials-{ground_name(ground, settings.source, online=settings.online)}"


def is_tuned(settings: ProofSettings) -> bool:
    """Whether anything is compared with a policy that is fine-tuned on the same labels."""
    asked = ",".join(filter(None, (settings.variants, settings.repeated)))
    return any(variant.method.name == "dagger" for variant in parse_all(asked))


def prepare(work: Path, settings: ProofSettings, workers: int, progress: Progress) -> None:
    """Make policies, banks and fine-tuned controls; what is there is kept.

    Raises:
        TrialError: if what is there was made with other settings.
    """
    prepare_all([(work, settings)], workers, progress)


def prepare_all(jobs: Sequence[tuple[Path, ProofSettings]], workers: int, progress: Progress) -> None:
    """The same for several proofs at once, each in its folder; those in one folder share their policies.

    Raises:
        TrialError: if what is there was made with other settings.
    """
    # Of what several share, one step.
    steps: dict[Path, Step] = {}
    for work, settings in jobs:
        for step in _steps(work, settings):
            steps.setdefault(step.folder, step)
    run_steps(sorted(steps.values(), key=lambda step: TITLES.index(step.title)), workers, progress)


def _steps(work: Path, settings: ProofSettings) -> Iterator[Step]:
    """Everything before the trials."""
    policies, practice, controls = TITLES
    source = settings.source
    for seed in settings.training_seeds:
        policy = policy_path(work, seed)
        yield Step(policies, _train, (policy, settings.demonstrations, seed, settings.iterations))
        for ground in () if settings.online else settings.grounds:
            bank = bank_path(work, seed, ground, source)
            asked = (bank, policy, ground, settings.practice, settings.rounds, source)
            yield Step(practice, _practise, asked, BEFORE_SOURCES)
            if is_tuned(settings):
                tuned = dagger_path(work, seed, ground, source)
                yield Step(controls, _tune, (tuned, policy, bank, settings.tuning))


def plans(work: Path, settings: ProofSettings, ground: Ground) -> tuple[Plan, ...]:
    """The paired trials of one ground, over all training seeds: fresh starts, then also the starts of old failures.

    Raises:
        TrialError: if something is missing; ``prepare`` first.
    """
    if settings.online:
        growing = [
            simulated_spec(
                ground.task,
                ground.scene,
                checkpoint=policy_path(work, seed),
                workspace=work / f"online-{seed}-{ground_name(ground, settings.source)}",
                source=settings.source,
            )
            for seed in settings.training_seeds
        ]
        variants = parse_all(settings.variants)
        return (make_plan(growing, variants, episodes=settings.episodes, first_seed=TEST_SEED, online=True),)
    specs: list[SimulatedSpec] = [
        simulated_spec(
            ground.task,
            ground.scene,
            checkpoint=policy_path(work, seed),
            cases=bank_path(work, seed, ground, settings.source),
            dagger=dagger_path(work, seed, ground, settings.source) if is_tuned(settings) else None,
        )
        for seed in settings.training_seeds
    ]
    return tuple(
        make_plan(specs, parse_all(variants), episodes=settings.episodes, first_seed=TEST_SEED, repeats=repeats)
        for variants, repeats in ((settings.variants, 0), (settings.repeated, settings.repeats))
        if variants and (repeats or variants == settings.variants)
    )


def _train(folder: Path, demonstrations: int, seed: int, iterations: int) -> str:
    train_from_few(folder, demonstrations, seed, iterations=iterations)
    shutil.rmtree(folder / "demonstrations")
    return f"seed {seed}"


def _practise(folder: Path, policy: Path, ground: Ground, episodes: int, rounds: int, source: str) -> str:
    spec = simulated_spec(ground.task, ground.scene, checkpoint=policy)
    failed = practise(folder, spec, episodes, PRACTICE_SEED, source=source, rounds=rounds)
    return f"{policy.name} {ground}: failed {failed} of {episodes}"


def _tune(folder: Path, policy: Path, bank: Path, iterations: int) -> str:
    if not (bank / LABELS).is_file():
        raise TrialError(f"{bank} holds no labels: its policy did not fail; practise more, or train on fewer")
    fine_tune(policy, read_samples(bank / LABELS), read_samples(policy / SAMPLES), folder, iterations=iterations)
    return bank.name
