"""Trains the before/after failure classifier from simulated failures, and scores it on seeds it never saw.

``python -m flow_rag_vla.learn.train_classifier`` does all of it for the encoder that ships and writes weights,
configuration and model card; run it again whenever the encoder changes.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.core.files import file_revision, replaced_file, write_text
from flow_rag_vla.core.goal import task_names
from flow_rag_vla.core.processes import end_with_parent
from flow_rag_vla.failure.classifier import (
    SHIPPED,
    ClassifierConfig,
    FailureClassifier,
    feature_size,
    pair_features,
)
from flow_rag_vla.learn.failure_rollouts import FRAME_TICKS, FailureEpisode, draw_plan, embed, run_episode
from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.sim.world import World

Array = NDArray[np.float32]

LAYERS = (256, 128, 64)
"""Widths of the hidden layers, as in the project's first design."""

TRAIN_SEEDS, CALIBRATION_SEEDS, TEST_SEEDS = 20_000, 60_000, 100_000
"""First seed of each part; nothing is trained below 60,000 and nothing is chosen on 100,000 and above."""

VISIBLE_TICKS = 2
"""A failure this near to the later picture cannot be seen in it yet."""

QUIET_TICKS = (12, 6)
"""A failure that lies outside the pair, but this near before or after it, leaves the pair without a label."""


@dataclass(frozen=True, slots=True)
class ClassifierTraining:
    """What is collected and how it is learned.

    episodes, calibration, test: episodes in each part, over all tasks
    trouble: share of episodes in which something goes wrong on purpose
    span: seconds between the two pictures
    false_alarm_rate: share of success episodes in which an event may be raised; disturbed ones in which nothing failed
        count as success
    noise: deviation that is added to inputs in training
    """

    episodes: int = 400
    calibration: int = 120
    test: int = 160
    trouble: float = 0.7
    span: float = 1.0
    false_alarm_rate: float = 0.02
    iterations: int = 800
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.3
    noise: float = 0.7
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ClassifierScores:
    """On the test part. Pairs: single judgements; episodes: events by the detector's own rule.

    balanced_accuracy: of single judgements at a probability of one half; threshold: above which an event is raised
    """

    pairs: int
    positive_pairs: int
    roc_auc: float
    balanced_accuracy: float
    threshold: float
    success_episodes: int
    false_alarms: int
    failures: dict[str, int]
    detected: dict[str, int]


@dataclass(frozen=True, slots=True)
class ClassifierData:
    """Embedded episodes: to learn from, to set the threshold on, to score on."""

    train: Sequence[FailureEpisode]
    calibration: Sequence[FailureEpisode]
    test: Sequence[FailureEpisode]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of the classifier. features: (N, F) float32; labels: (N,) float32, 0 or 1."""

    features: Array
    labels: Array


def label_pair(before_tick: int, after_tick: int, failures: Sequence[int]) -> float | None:
    """1 if a failure lies between two frames, 0 if none is near, None if that cannot be told from the frames."""
    if any(before_tick < tick <= after_tick - VISIBLE_TICKS for tick in failures):
        return 1.0
    if any(before_tick - QUIET_TICKS[0] < tick < after_tick + QUIET_TICKS[1] for tick in failures):
        return None
    return 0.0


def episode_pairs(episode: FailureEpisode, span_ticks: int) -> tuple[Array, Array, list[int]]:
    """Every pair of an episode: features (N, F), labels (N,) with NaN for none, and the tick of the later frame."""
    failures = [failure.tick for failure in episode.truth]
    rows: list[Array] = []
    labels: list[float] = []
    ticks: list[int] = []
    for index, after_tick in enumerate(episode.frame_ticks):
        earlier = index - span_ticks // FRAME_TICKS
        if earlier < 0:
            continue
        label = label_pair(episode.frame_ticks[earlier], after_tick, failures)
        rows.append(pair_features(episode.observations[earlier], episode.observations[index], episode.goal))
        labels.append(math.nan if label is None else label)
        ticks.append(after_tick)
    if not rows:
        return np.zeros((0, 0), dtype=np.float32), np.zeros(0, dtype=np.float32), []
    return np.stack(rows), np.array(labels, dtype=np.float32), ticks


def collect_episodes(encoder: str, first_seed: int, count: int, trouble: float) -> list[FailureEpisode]:
    """Run episodes in this process, tasks in turn, with the pictures embedded at once."""
    torch.set_num_threads(1)
    network = make_encoder(encoder)
    episodes = []
    tasks = task_names()
    with World() as world:
        for seed in range(first_seed, first_seed + count):
            plan = draw_plan(tasks[seed % len(tasks)], seed, trouble)
            episodes.append(embed(run_episode(world, plan, np.random.default_rng((seed, 8)), look=True), network))
    return episodes


def collect(
    encoder: str, first_seed: int, count: int, trouble: float, *, workers: int, progress: Progress = silent
) -> list[FailureEpisode]:
    """Run ``count`` episodes from a seed on, in several processes; the same whatever the number of processes."""
    size = 20
    starts = range(first_seed, first_seed + count, size)
    sizes = [min(size, first_seed + count - start) for start in starts]
    episodes: list[FailureEpisode] = []
    if workers <= 1:
        for start, number in zip(starts, sizes, strict=True):
            episodes += collect_episodes(encoder, start, number, trouble)
            progress(len(episodes), count, "episodes")
        return episodes
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
    ) as pool:
        jobs = [pool.submit(collect_episodes, encoder, a, n, trouble) for a, n in zip(starts, sizes, strict=True)]
        for job in jobs:
            episodes += job.result()
            progress(len(episodes), count, "episodes")
    return episodes


def make_pairs(episodes: Sequence[FailureEpisode], span_ticks: int) -> Pairs:
    """The labelled pairs of many episodes."""
    features, labels = [], []
    for episode in episodes:
        rows, marks, _ = episode_pairs(episode, span_ticks)
        known = ~np.isnan(marks)
        if known.any():
            features.append(rows[known])
            labels.append(marks[known])
    return Pairs(np.concatenate(features), np.concatenate(labels))


def fit(pairs: Pairs, training: ClassifierTraining, *, progress: Progress = silent) -> list[tuple[Array, Array]]:
    """Train the perceptron; its layers (weight (out, in), bias (out,)) float32."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = _network(pairs.features.shape[1], training.dropout)
        features, labels = torch.from_numpy(pairs.features), torch.from_numpy(pairs.labels)
        positive = torch.nonzero(labels > 0.5)[:, 0]
        negative = torch.nonzero(labels < 0.5)[:, 0]
        if not len(positive) or not len(negative):
            raise ValueError(
                f"{len(positive)} failures and {len(negative)} other pairs: collect more episodes, with trouble in some"
            )
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.iterations)
        network.train()
        half = training.batch // 2
        for iteration in range(training.iterations):
            # Failures are rare: each batch holds as many as successes, and the threshold is set afterwards.
            rows = torch.cat(
                [part[torch.randint(len(part), (half,), generator=generator)] for part in (positive, negative)]
            )
            inputs = features[rows]
            inputs = inputs + training.noise * torch.randn(inputs.shape, generator=generator)
            loss = nn.functional.binary_cross_entropy_with_logits(network(inputs)[:, 0], labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if iteration % 50 == 49 or iteration + 1 == training.iterations:
                progress(iteration + 1, training.iterations, f"loss {float(loss.detach()):.3f}")
    linear = [module for module in network if isinstance(module, nn.Linear)]
    return [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linear]


def _network(size: int, dropout: float) -> nn.Sequential:
    modules: list[nn.Module] = []
    for index, width in enumerate(LAYERS):
        modules += [nn.Linear(size, width), nn.ReLU()]
        if index < 2:
            modules.append(nn.Dropout(dropout))
        size = width
    return nn.Sequential(*modules, nn.Linear(size, 1))


def episode_peak(scores: Array) -> float:
    """The highest threshold at which the detector would raise an event: it asks for two scores in a row."""
    if len(scores) < 2:
        return 0.0
    return float(np.minimum(scores[1:], scores[:-1]).max())


def calibrated_threshold(peaks: Sequence[float], false_alarm_rate: float) -> float:
    """Threshold that a new success episode passes with at most that probability (split conformal, finite-sample).

    With n success episodes it is the ceil((n + 1)(1 - rate))-th smallest peak: Vovk et al., Algorithmic Learning in a
    Random World, 2005. With too few episodes for the rate it is 1: no event at all.
    """
    rank = math.ceil((len(peaks) + 1) * (1.0 - false_alarm_rate))
    if rank > len(peaks):
        return 1.0
    return min(1.0, float(np.nextafter(np.float32(sorted(peaks)[rank - 1]), np.float32(2.0))))


def roc_auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve, by ranks (ties count half)."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    for value in np.unique(scores):
        same = scores == value
        ranks[same] = ranks[same].mean()
    positive = labels > 0.5
    count = int(positive.sum())
    others = len(scores) - count
    if not count or not others:
        return math.nan
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def score(classifier: FailureClassifier, episodes: Sequence[FailureEpisode], span_ticks: int) -> ClassifierScores:
    """Score a classifier on episodes that it was neither trained nor calibrated on."""
    threshold = classifier.config.threshold
    all_scores, all_labels = [], []
    failures: dict[str, int] = {}
    detected: dict[str, int] = {}
    success = alarms = 0
    for episode in episodes:
        rows, labels, ticks = episode_pairs(episode, span_ticks)
        if not ticks:
            continue
        scores = classifier.probabilities(rows)
        known = ~np.isnan(labels)
        all_scores.append(scores[known])
        all_labels.append(labels[known])
        raised = np.zeros(len(scores), dtype=bool)
        raised[1:] = (scores[1:] >= threshold) & (scores[:-1] >= threshold)
        if episode.clean:
            success += 1
            alarms += bool(raised.any())
        for failure in episode.truth:
            failures[failure.kind] = failures.get(failure.kind, 0) + 1
            last = failure.tick + span_ticks + 2 * FRAME_TICKS
            seen = [mark for mark, tick in zip(raised, ticks, strict=True) if failure.tick < tick <= last]
            detected[failure.kind] = detected.get(failure.kind, 0) + any(seen)
    scores, labels = np.concatenate(all_scores), np.concatenate(all_labels)
    positive = labels > 0.5
    hit = float((scores[positive] >= 0.5).mean()) if positive.any() else math.nan
    passed = float((scores[~positive] < 0.5).mean()) if (~positive).any() else math.nan
    return ClassifierScores(
        len(labels),
        int(positive.sum()),
        roc_auc(scores, labels),
        (hit + passed) / 2,
        threshold,
        success,
        alarms,
        failures,
        detected,
    )


def save_classifier(folder: str | Path, config: ClassifierConfig, layers: Sequence[tuple[Array, Array]]) -> str:
    """Write weights and configuration; give their revision."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for index, (weight, bias) in enumerate(layers):
        tensors[f"weight{index}"], tensors[f"bias{index}"] = weight, bias
    with replaced_file(folder / "weights.safetensors") as temporary:
        save_file(tensors, temporary)
    write_text(folder / "config.json", json.dumps(config.to_json(), indent=2) + "\n")
    return file_revision(folder / "config.json", folder / "weights.safetensors")


def train_classifier(
    folder: str | Path | None = None,
    *,
    encoder: str = "compact",
    training: ClassifierTraining | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> ClassifierScores:
    """Collect failures, train, set the threshold, score, and write the checkpoint with its card.

    Args:
        folder: where it goes; None: where the package ships it.
        encoder: name or path of the encoder (``policy.encoders.make_encoder``).
        training: what is collected and how it is learned.
        workers: processes that run episodes.
        progress: told how far each stage is.
    """
    training = training or ClassifierTraining()
    folder = SHIPPED if folder is None else Path(folder)
    network = make_encoder(encoder)
    parts = {
        first: collect(encoder, first, count, trouble, workers=workers, progress=progress)
        for first, count, trouble in (
            (TRAIN_SEEDS, training.episodes, training.trouble),
            (CALIBRATION_SEEDS, training.calibration, training.trouble),
            (TEST_SEEDS, training.test, training.trouble),
        )
    }
    data = ClassifierData(parts[TRAIN_SEEDS], parts[CALIBRATION_SEEDS], parts[TEST_SEEDS])
    return train_on(data, folder, network=network, encoder=encoder, training=training, progress=progress)


def train_on(
    data: ClassifierData,
    folder: Path,
    *,
    network: Encoder,
    encoder: str,
    training: ClassifierTraining,
    progress: Progress = silent,
) -> ClassifierScores:
    """Train on episodes that ``network`` has embedded, set the threshold, score, write checkpoint and card."""
    started, span_ticks = time.process_time(), round(training.span / TICK_S)
    pairs = make_pairs(data.train, span_ticks)
    layers = fit(pairs, training, progress=progress)
    config = ClassifierConfig(
        network.name, network.revision, network.dimension, training.span, 1.0, training.false_alarm_rate
    )
    draft = FailureClassifier(config, layers, "draft")
    peaks = []
    for episode in data.calibration:
        rows, _, ticks = episode_pairs(episode, span_ticks)
        if episode.clean and ticks:
            peaks.append(episode_peak(draft.probabilities(rows)))
    config = replace(config, threshold=calibrated_threshold(peaks, training.false_alarm_rate))
    save_classifier(folder, config, layers)
    scores = score(FailureClassifier.load(folder), data.test, span_ticks)
    card = model_card(config, training, scores, pairs, len(peaks), encoder, time.process_time() - started)
    write_text(folder / "MODEL_CARD.md", card)
    return scores


def model_card(
    config: ClassifierConfig,
    training: ClassifierTraining,
    scores: ClassifierScores,
    pairs: Pairs,
    calibrated_on: int,
    encoder: str,
    seconds: float,
) -> str:
    """The page that goes beside the weights."""
    alarms = f"{scores.false_alarms} of {scores.success_episodes}"
    found = "\n".join(
        f"| {kind} | {count} | {scores.detected[kind]} | {scores.detected[kind] / count:.0%} |"
        for kind, count in sorted(scores.failures.items())
    )
    settings = ", ".join(f"{name} {value}" for name, value in asdict(training).items())
    return f"""# Before/after failure classifier

Says, at every embedding, how likely it is that something failed within the last {training.span:g} s.
A multilayer perceptron ({feature_size(config.dimension)} -> {" -> ".join(map(str, LAYERS))} -> 1) on the embedding \
{training.span:g} s ago, the embedding now, tool position, finger width and commanded opening at both, and the goal.

- Command: `python -m flow_rag_vla.learn.train_classifier --encoder {encoder} --seed {training.seed}`
- Encoder: `{config.encoder}` revision `{config.encoder_revision}`, {config.dimension} numbers. Another revision is \
refused; run the command again after the encoder was retrained.
- Data: the scripted expert in PyBullet, variant plain, all tasks in turn; in {training.trouble:.0%} of the episodes \
it is disturbed (`sim/perturbation.py`, `learn/failure_rollouts.py`). Labels from ground truth \
(`learn/failure_truth.py`). Seeds from {TRAIN_SEEDS} ({training.episodes} episodes, {len(pairs.labels)} pairs, \
{int(pairs.labels.sum())} with a failure), threshold from {calibrated_on} success episodes of seeds from \
{CALIBRATION_SEEDS}, scores from seeds from {TEST_SEEDS}.
- Settings: {settings}
- Learned in {seconds:.0f} s of CPU (without the episodes) with Python {platform.python_version()}, \
torch {torch.__version__}, numpy {np.__version__}.

## Scores on {training.test} test episodes

| measure | value |
|---|---|
| ROC-AUC over {scores.pairs} pairs ({scores.positive_pairs} with a failure) | {scores.roc_auc:.3f} |
| balanced accuracy of single judgements at one half | {scores.balanced_accuracy:.3f} |
| threshold of an event | {scores.threshold:.4f} |
| success episodes, disturbed ones included, with an event (allowed: {config.false_alarm_rate:.0%}) | {alarms} |

| what went wrong | happened | event within {training.span + 0.2:.1f} s | share |
|---|---|---|---|
{found}

## Limits

A score first, an alarm second: at so low a rate of false alarms few failures raise an event; the rules find most.
It knows failures of a disturbed expert in the plain variant, not those of every policy. It says that something failed,
not what: the type comes from the rules. The threshold holds for scenes like those of the calibration; under another
camera pose it promises nothing.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None, help="where the checkpoint goes; default: where the package ships it")
    parser.add_argument("--encoder", default="compact", help="name or folder of the encoder")
    parser.add_argument("--episodes", type=int, default=ClassifierTraining().episodes, help="training episodes")
    parser.add_argument("--workers", type=int, default=2, help="processes that run episodes")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    options = parser.parse_args(arguments)

    def tell(done: int, total: int, note: str = "") -> None:
        print(f"\r{done}/{total} {note}      ", end="\n" if done >= total else "", flush=True)

    scores = train_classifier(
        options.folder,
        encoder=options.encoder,
        workers=options.workers,
        progress=tell,
        training=ClassifierTraining(episodes=options.episodes, seed=options.seed),
    )
    print(json.dumps(asdict(scores), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
