# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the proof does, step by step. Each step leaves a folder and is skipped when that is there.

1. ``policy-S``: a policy for each training seed, from few demonstrations of the plain scenes.
2. ``bank-S-TASK``: that policy practises in the declared gap; an expert takes over where it is stuck. Of another source
   of corrections its name is behind that, and behind what is made of it.
3. ``dagger-S-TASK``: the control that is fine-tuned on the labels of that bank.
4. ``trials-TASK``: every variant on the same fresh starts with the same noise, pooled over the training seeds.

The ground, the memory's settings and the variants were fixed on development seeds (below 70,000); trials begin at
100,000.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.processes import worker_pool
from flow_rag_vla.evaluate.trials.plan import Plan, make_plan
from flow_rag_vla.evaluate.trials.practice import LABELS, practise
from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec, simulated_spec
from flow_rag_vla.evaluate.trials.variants import parse_all
from flow_rag_vla.learn.few_demonstrations import SAMPLES, train_from_few
from flow_rag_vla.learn.fine_tune import fine_tune
from flow_rag_vla.learn.samples import read_samples

TEST_SEED = 100_000
PRACTICE_SEED = 70_000

DONE = "done"
"""File that says that a step's folder is whole."""

USUAL_SOURCE = "expert"
"""Who says what would have been right, unless something else is asked; it stands in no folder's name."""

MADE = "made.json"
"""File that says with which numbers it was made; folders of earlier versions lack it and are taken as they are."""


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
    variants: str = "off,retry,blend,shuffled+by_cause,dagger,by_cause:50,by_cause"


Progress = Callable[[str, int, int, str], None]
"""(step, done, total, note)."""

_Arguments = tuple[object, ...]
"""Of a step: its folder, then what decides what comes of it."""


def policy_path(work: Path, seed: int) -> Path:
    """Folder of a training seed's policy."""
    return work / f"policy-{seed}"


def ground_name(ground: Ground, source: str = USUAL_SOURCE) -> str:
    """How folders and results of a ground are called."""
    return str(ground) if source == USUAL_SOURCE else f"{ground}-{source}"


def bank_path(work: Path, seed: int, ground: Ground, source: str = USUAL_SOURCE) -> Path:
    """Folder of the bank that a policy's practice made."""
    return work / f"bank-{seed}-{ground_name(ground, source)}"


def dagger_path(work: Path, seed: int, ground: Ground, source: str = USUAL_SOURCE) -> Path:
    """Folder of the policy that was fine-tuned on a bank's labels."""
    return work / f"dagger-{seed}-{ground_name(ground, source)}"


def trials_path(work: Path, ground: Ground, source: str = USUAL_SOURCE) -> Path:
    """Folder of a ground's trials, over all training seeds."""
    return work / f"trials-{ground_name(ground, source)}"


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
    trained: dict[Path, _Arguments] = {}
    practised, tuned = [], []
    for work, settings in jobs:
        for seed in settings.training_seeds:
            policy = policy_path(work, seed)
            trained[policy] = (policy, settings.demonstrations, seed, settings.iterations)
        source = settings.source
        for ground in settings.grounds:
            for seed in settings.training_seeds:
                policy, bank = policy_path(work, seed), bank_path(work, seed, ground, source)
                asked = (bank, policy, ground, settings.practice, settings.rounds, source)
                practised.append((_practise, asked))
                tuned.append((_tune, (dagger_path(work, seed, ground, source), policy, bank, settings.tuning)))
    _run("Policies", [(_train, arguments) for arguments in trained.values()], workers, progress)
    _run("Practice", practised, workers, progress)
    _run("Fine-tuned controls", tuned, workers, progress)


def plans(work: Path, settings: ProofSettings, ground: Ground) -> tuple[Plan, ...]:
    """The paired trials of one ground, over all training seeds: fresh starts, then also the starts of old failures.

    Raises:
        TrialError: if something is missing; ``prepare`` first.
    """
    specs: list[SimulatedSpec] = [
        simulated_spec(
            ground.task,
            ground.scene,
            checkpoint=policy_path(work, seed),
            cases=bank_path(work, seed, ground, settings.source),
            dagger=dagger_path(work, seed, ground, settings.source),
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


def _step(work: Callable[..., str], arguments: tuple[Path, ...]) -> str:
    """Do a step in its folder, from nothing if it was begun before."""
    import torch

    torch.set_num_threads(1)
    folder = arguments[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note = work(*arguments)
    write_text(folder / MADE, json.dumps(_settings_of(work, arguments)) + "\n")
    write_text(folder / DONE, note + "\n")
    return note


def _run(title: str, steps: Sequence[tuple[Callable[..., str], _Arguments]], workers: int, progress: Progress) -> None:
    missing = [step for step in steps if not (Path(str(step[1][0])) / DONE).is_file()]
    done = len(steps) - len(missing)
    for work, arguments in steps:
        _check_made(Path(str(arguments[0])), _settings_of(work, arguments))
    progress(title, done, len(steps), "")
    for note in _notes(missing, workers):
        done += 1
        progress(title, done, len(steps), note)


def _settings_of(work: Callable[..., str], arguments: tuple[object, ...]) -> dict[str, Any]:
    """What a step is told, by name, less where its folders lie."""
    told = zip(inspect.signature(work).parameters, arguments, strict=True)
    return {
        name: str(value) if isinstance(value, Ground) else value for name, value in told if not isinstance(value, Path)
    }


def _check_made(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a whole folder that was made with other settings: its trials would be told as what they are not.

    Raises:
        TrialError: if it was.
    """
    if not (folder / DONE).is_file() or not (folder / MADE).is_file():
        return
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrialError(f"{folder / MADE} cannot be read ({error}); delete {folder}, it is made again") from error
    # Before there was a choice, it was an expert.
    if made != wanted and {"source": USUAL_SOURCE, **made} != wanted:
        raise TrialError(f"{folder} was made with {made}, not with {wanted}; name another --work, or delete it")


def _notes(steps: Sequence[tuple[Callable[..., str], _Arguments]], workers: int) -> Iterator[str]:
    with worker_pool(workers) as pool:
        futures = [pool.submit(_step, work, arguments) for work, arguments in steps]  # type: ignore[arg-type]
        for future in as_completed(futures):
            yield future.result()
