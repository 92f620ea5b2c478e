# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What trials in an external environment start from: demonstrations, a policy, its failures and their labels.

Everything is made from seeds in blocks that do not meet: demonstrations, failures to remember, development, tests.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import replaced_file, write_text
from flow_rag_vla.evaluate.external.cases import DoneWell, LabelledFailure
from flow_rag_vla.evaluate.external.demonstrations import Demonstrations, collect, load_demonstrations
from flow_rag_vla.evaluate.external.demonstrations import save_demonstrations as keep_demonstrations
from flow_rag_vla.evaluate.external.environment import BoxEnvironment, ExternalError
from flow_rag_vla.evaluate.external.labels import label_visits
from flow_rag_vla.evaluate.external.policy import ChunkPolicy, ExternalPolicyConfig, load_policy, save_policy
from flow_rag_vla.evaluate.external.rollout import EpisodeSettings, Visit, run_episode
from flow_rag_vla.evaluate.external.tasks import ExternalTask, Observation
from flow_rag_vla.evaluate.external.training import ExternalTraining, fine_tune, train

DEMONSTRATION_SEEDS = 0
FAILURE_SEEDS = 10_000
DEVELOPMENT_SEEDS = 20_000
"""First seeds of the blocks; tests begin at ``evaluate.rollout.TEST_SEEDS``."""
POLICY_STRIDE = 1_000
"""Policies of different training seeds fail on starts of their own: seed p collects from FAILURE_SEEDS + p * stride."""
CALM_KEPT = 512
"""Situations of successful episodes that are kept to calibrate the gate with."""

ADMISSION_FILE = "admission.json"
ADMISSION_EPISODES = 10
SETTINGS_FILE = "preparation.json"
DEMONSTRATIONS_FILE = "demonstrations.npz"
FAILURES_FILE = "failures.npz"
POLICY_FOLDER = "policy"
DAGGER_FOLDER = "dagger"
_FORMAT = "flow_rag_vla.external_failures/2"

_DONE = ("done_observations", "done_situations", "done_chunks")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a policy and its bank of failures are made.

    demonstrations: episodes of the expert, few on purpose: the declared gap
    noise: of the expert's demonstrated actions, see ``demonstrate``
    policy_seed: of the training, and which block of failures it collects
    episodes: of the policy alone, in which failures are looked for
    least_difference: root mean square, in -1..1, between failed chunk and correction from which a chunk was wrong
    apart: root mean square, in standard deviations, between labelled situations of an episode
    labels: wrong moments on the way into an episode's failure at most, the earliest: where it went wrong, not where
        it ended up; the expert's way out of it comes on top
    """

    demonstrations: int
    observation: Observation = "state"
    noise: float = 0.0
    policy_seed: int = 0
    episodes: int = 30
    least_difference: float = 0.15
    apart: float = 0.1
    labels: int = 16
    training: ExternalTraining = field(default_factory=ExternalTraining)
    episode: EpisodeSettings = field(default_factory=EpisodeSettings)


@dataclass(frozen=True, slots=True)
class FailureBank:
    """What the policy's failures left behind.

    failures: labelled, in the order of their episodes; done: what went well, of successful episodes, and where the
        expert would have done the same in those that failed
    failed_seeds: starts that failed, in order; episodes: how many were run
    """

    failures: tuple[LabelledFailure, ...]
    done: tuple[DoneWell, ...]
    failed_seeds: tuple[int, ...]
    episodes: int

    @property
    def calm(self) -> list[NDArray[np.float32]]:
        """Standardised situations (D,) of successful episodes."""
        failed = set(self.failed_seeds)
        return [item.situation for item in self.done if item.seed not in failed]

    def of_first(self, episodes: int | None) -> list[LabelledFailure]:
        """Failures of the first failed episodes; None for all."""
        kept = set(self.failed_seeds[:episodes])
        return [failure for failure in self.failures if failure.seed in kept]

    def done_by(self, episodes: int | None) -> list[DoneWell]:
        """What went well until the policy had failed so often; None for all."""
        until = self.failed_seeds[:episodes][-1:] if episodes is not None else ()
        return [item for item in self.done if not until or item.seed <= until[0]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Read from a folder of :func:`prepare`."""

    preparation: Preparation
    policy: ChunkPolicy
    revision: str
    dagger: ChunkPolicy
    bank: FailureBank


def _silent(_: str) -> None:
    pass


def prepare(task: ExternalTask, preparation: Preparation, folder: str | Path, report: Report = _silent) -> None:
    """Make everything that is not there yet: what a folder holds of the same preparation is kept.

    Raises:
        ExternalError: if the task has no expert, or the folder belongs to another preparation.
    """
    folder = Path(folder)
    settings = json.dumps({"task": task.name, **asdict(preparation)}, indent=2) + "\n"
    if (folder / SETTINGS_FILE).is_file():
        if (folder / SETTINGS_FILE).read_text(encoding="utf-8") != settings:
            raise ExternalError(f"{folder} was prepared with other settings (see {SETTINGS_FILE}); give another folder")
    else:
        write_text(folder / SETTINGS_FILE, settings)
    with task.make(preparation.observation) as environment:
        demonstrations = _demonstrations(task, environment, preparation, folder, report)
        windows = demonstrations.windows(preparation.training.horizon)
        if not (folder / POLICY_FOLDER / "policy.json").is_file():
            report(f"training on {len(windows[0])} situations")
            network = train(*windows, preparation.training)
            about = {**asdict(preparation.training), "demonstrations": len(demonstrations.episodes)}
            made = ExternalPolicyConfig(task.name, preparation.observation, network.velocity.config, about)
            save_policy(network, made, folder / POLICY_FOLDER)
        network, config, _ = load_policy(folder / POLICY_FOLDER)
        if not (folder / FAILURES_FILE).is_file():
            bank = collect_failures(task, environment, ChunkPolicy(network, config), preparation, report)
            save_bank(bank, folder / FAILURES_FILE)
        if not (folder / DAGGER_FOLDER / "policy.json").is_file():
            failures = load_bank(folder / FAILURES_FILE).failures
            tuned = network
            if failures:
                report(f"fine-tuning on {len(failures)} corrections")
                labels = (np.stack([item.observation for item in failures]), np.stack([f.correction for f in failures]))
                tuned = fine_tune(network, windows, labels, preparation.training)
            save_policy(tuned, config, folder / DAGGER_FOLDER)


def load_prepared(folder: str | Path) -> Prepared:
    """Read what :func:`prepare` made.

    Raises:
        ExternalError: if something is missing or damaged.
    """
    folder = Path(folder)
    try:
        values = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        values.pop("task")
        training = ExternalTraining(**values.pop("training"))
        episode = EpisodeSettings(**values.pop("episode"))
        preparation = Preparation(training=training, episode=episode, **values)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ExternalError(f"{folder / SETTINGS_FILE} cannot be read ({problem}); prepare anew") from error
    network, config, revision = load_policy(folder / POLICY_FOLDER)
    tuned, tuned_config, _ = load_policy(folder / DAGGER_FOLDER)
    bank = load_bank(folder / FAILURES_FILE)
    return Prepared(preparation, ChunkPolicy(network, config), revision, ChunkPolicy(tuned, tuned_config), bank)


def collect_failures(
    task: ExternalTask,
    environment: BoxEnvironment,
    policy: ChunkPolicy,
    preparation: Preparation,
    report: Report = _silent,
) -> FailureBank:
    """Run the policy alone, and label the moments of the episodes that fail.

    Raises:
        ExternalError: if the task has no expert.
    """
    if task.expert is None:
        raise ExternalError(f"{task.name} has no expert, so nobody says what would have been right; give task_of() one")
    first = FAILURE_SEEDS + POLICY_STRIDE * preparation.policy_seed
    failures: list[LabelledFailure] = []
    failed: list[int] = []
    done: list[DoneWell] = []
    right: list[DoneWell] = []
    for seed in range(first, first + preparation.episodes):
        visits: list[Visit] = []
        result = run_episode(environment, policy, seed, settings=preparation.episode, visits=visits, snapshots=True)
        if result.success:
            done += [DoneWell(seed, visit.observation, visit.situation, visit.chunk) for visit in visits]
            continue
        failed.append(seed)
        labels = label_visits(
            environment,
            task.expert(),
            seed,
            visits,
            policy,
            execute=preparation.episode.execute,
            least_difference=preparation.least_difference,
            apart=preparation.apart,
            most=preparation.labels,
        )
        failures += labels.wrong
        right += [DoneWell(seed, visit.observation, visit.situation, visit.chunk) for visit in labels.right]
    report(f"{len(failed)} of {preparation.episodes} episodes failed, {len(failures)} moments labelled")
    chosen = np.random.default_rng(preparation.policy_seed).permutation(len(done))[:CALM_KEPT]
    kept = [done[index] for index in sorted(chosen)]
    return FailureBank(tuple(failures), (*kept, *right), tuple(failed), preparation.episodes)


def save_bank(bank: FailureBank, path: str | Path) -> None:
    """Write one ``.npz`` file as a whole."""
    failures = bank.failures
    with replaced_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.array(_FORMAT),
            seeds=np.array([item.seed for item in failures], dtype=np.int64),
            steps=np.array([item.step for item in failures], dtype=np.int64),
            observations=_stacked([item.observation for item in failures]),
            situations=_stacked([item.situation for item in failures]),
            failed=_stacked([item.failed for item in failures]),
            corrections=_stacked([item.correction for item in failures]),
            done_seeds=np.array([item.seed for item in bank.done], dtype=np.int64),
            done_observations=_stacked([item.observation for item in bank.done]),
            done_situations=_stacked([item.situation for item in bank.done]),
            done_chunks=_stacked([item.chunk for item in bank.done]),
            failed_seeds=np.array(bank.failed_seeds, dtype=np.int64),
            episodes=np.array(bank.episodes),
        )


def load_bank(path: str | Path) -> FailureBank:
    """Read a file of :func:`save_bank`.

    Raises:
        ExternalError: if it is missing, damaged, or its numbers are not finite.
    """
    names = ("observations", "situations", "failed", "corrections")
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["format"]) != _FORMAT:
                raise ExternalError(f"{path} is of format {stored['format']}, expected {_FORMAT!r}; prepare anew")
            arrays = [stored[name].astype(np.float32) for name in names]
            seeds, steps, done_seeds = stored["seeds"], stored["steps"], stored["done_seeds"]
            done_arrays = [stored[name].astype(np.float32) for name in _DONE]
            failed_seeds, episodes = stored["failed_seeds"], int(stored["episodes"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, ExternalError):
            raise
        problem = f"{type(error).__name__}: {error}"
        raise ExternalError(f"{path} holds no failures ({problem}); prepare anew") from error
    pairs = [(seeds, array) for array in (*arrays, steps)] + [(done_seeds, array) for array in done_arrays]
    if any(len(array) != len(rows) or not np.isfinite(array).all() for rows, array in pairs):
        raise ExternalError(f"{path} is damaged: its arrays do not fit together or are not finite; prepare anew")
    failures = tuple(
        LabelledFailure(int(seed), int(step), *values)
        for seed, step, *values in zip(seeds, steps, *arrays, strict=True)
    )
    done = tuple(DoneWell(int(seed), *values) for seed, *values in zip(done_seeds, *done_arrays, strict=True))
    return FailureBank(failures, done, tuple(failed_seeds.tolist()), episodes)


def _stacked(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(arrays) if arrays else np.zeros((0,), dtype=np.float32)


def _demonstrations(
    task: ExternalTask, environment: BoxEnvironment, preparation: Preparation, folder: Path, report: Report
) -> Demonstrations:
    path = folder / DEMONSTRATIONS_FILE
    if path.is_file():
        return load_demonstrations(path)
    if task.expert is None:
        raise ExternalError(
            f"{task.name} has no expert to demonstrate it; give task_of() one, or put demonstrations of your own into "
            f"{path} with save_demonstrations()"
        )
    seeds = range(DEMONSTRATION_SEEDS, DEMONSTRATION_SEEDS + preparation.demonstrations)
    found = collect(environment, task.expert(), seeds, observation=preparation.observation, noise=preparation.noise)
    report(f"{len(found.episodes)} demonstrations")
    keep_demonstrations(found, path)
    return found
