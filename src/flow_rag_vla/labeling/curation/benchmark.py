# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench curation``: queue, mistakes and duplicates beside their baselines, on simulator truth.

The annotator is the simulator: it says of each proposal of the shipped detector what it is, or that it is nothing. The
choices of the queue (its factors, its constants) were made on the scenes ``simulated.SEEDS`` and up; the scenes here
are others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.evaluate.intervals import Difference, cluster_bootstrap
from flow_rag_vla.labeling.curation.neighbours import nearest_neighbours
from flow_rag_vla.labeling.curation.pictures import Likeness, picture_duplicates
from flow_rag_vla.labeling.curation.pool import Pool
from flow_rag_vla.labeling.curation.probe import NOTHING, fit_probe
from flow_rag_vla.labeling.curation.scores import NEIGHBOURS, mistakenness
from flow_rag_vla.labeling.curation.selection import greedy_choice, typicality, uncertainty
from flow_rag_vla.labeling.curation.simulated import SEEDS, TruePool, retaken_pool, simulated_pool
from flow_rag_vla.learn.progress import Progress, silent

FIRST_SEED = SEEDS + 10_000
BUDGETS = (8, 16, 32, 64, 128, 192)
STEP = 8
"""Labels that are asked for at once."""
POOL_SHARE = 2 / 3
"""Of the scenes: what may be labelled; the rest is what the probe is tried on."""
QUEUE = "queue"
BASELINES = ("random", "lowest score")
ABLATIONS = ("without uncertainty", "without typicality", "uncertainty alone")
NOISE = 0.1
SYSTEMATIC = 0.3

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Balanced accuracy of the probe after each budget of labels, mean over the runs, 0 to 1.

    difference: mean over budgets and runs of the queue's minus this one's, with a 95 % interval over the runs
    """

    accuracy: tuple[float, ...]
    difference: Difference

    @property
    def mean(self) -> float:
        """Mean over the budgets."""
        return float(np.mean(self.accuracy))


@dataclass(frozen=True, slots=True)
class MistakeFigures:
    """Share of real mistakes among the k that look worst, where k is how many there are; random: their share of all.

    neighbours, model, both: by each part of the score; mistakes: how many were there
    """

    random: float
    neighbours: float
    model: float
    both: float
    mistakes: int


@dataclass(frozen=True, slots=True)
class DuplicateFigures:
    """Pictures that were taken again under slightly other light and noise, and found: recall, precision, 0 to 1.

    both: things and pixels; things: without the pixels; pixels: with any one thing of the same label; taken_again: how
    many
    """

    both: tuple[float, float]
    things: tuple[float, float]
    pixels: tuple[float, float]
    taken_again: int


@dataclass(frozen=True, slots=True)
class CurationFigures:
    """What was measured; curves by strategy; budgets: labels asked for, at the curves' points.

    runs: random splits of the same scenes, not worlds of their own; classes: proposals by what they are
    """

    curves: Mapping[str, Curve]
    random_noise: MistakeFigures
    systematic_noise: MistakeFigures
    own_errors: MistakeFigures
    duplicates: DuplicateFigures
    classes: Mapping[str, int]
    budgets: tuple[int, ...]
    runs: int
    scenes: int
    first_seed: int

    def values(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return asdict(self)


def measure_curation(
    *,
    scenes: int = 90,
    runs: int = 20,
    budgets: tuple[int, ...] = BUDGETS,
    first_seed: int = FIRST_SEED,
    progress: Progress = silent,
) -> CurationFigures:
    """Measure on fresh scenes.

    Args:
        scenes: of which proposals are made, each seen in 4 poses.
        runs: splits into pool and test scenes, each with its own random labels.
        budgets: rising, each a multiple of ``STEP``.
        first_seed: of the scenes.
        progress: told of the steps.

    Raises:
        ValueError: a budget that is none, or that the scenes' proposals do not suffice for.
    """
    if not budgets or any(budget % STEP or budget < STEP for budget in budgets) or list(budgets) != sorted(budgets):
        raise ValueError(f"budgets are {budgets}, expected rising multiples of {STEP}")
    found = simulated_pool(scenes, first_seed=first_seed, progress=progress)
    again = retaken_pool(found)
    strategies = (QUEUE, *BASELINES, *ABLATIONS)
    results: dict[str, list[list[float]]] = {name: [] for name in strategies}
    for run in range(runs):
        for name in strategies:
            results[name].append(_learning_curve(found, name, run, budgets))
        progress(run + 1, runs, "learning curves")
    names, counts = np.unique(np.array(found.truth), return_counts=True)
    return CurationFigures(
        {name: _curve(results[name], results[QUEUE]) for name in strategies},
        _random_noise(found, runs),
        _systematic_noise(found, runs),
        _own_errors(found),
        _duplicates(found, again),
        {name or "nothing": int(count) for name, count in zip(names.tolist(), counts.tolist(), strict=True)},
        budgets,
        runs,
        scenes,
        first_seed,
    )


def _curve(own: list[list[float]], queue: list[list[float]]) -> Curve:
    values, best = np.array(own), np.array(queue)
    differences = (best - values).mean(axis=1)
    interval = cluster_bootstrap([[differences]], np.random.default_rng(0))
    return Curve(tuple(values.mean(axis=0).tolist()), interval)


def _learning_curve(found: TruePool, strategy: str, run: int, budgets: tuple[int, ...]) -> list[float]:
    """Balanced accuracy on the run's test scenes after each budget of labels that a strategy chose in its pool."""
    rng = np.random.default_rng([run, 5])
    order = rng.permutation(int(found.scenes.max()) + 1)
    allowed = order[: round(POOL_SHARE * len(order))]
    inside = np.isin(found.scenes, allowed)
    pool, test = np.flatnonzero(inside), np.flatnonzero(~inside)
    if len(pool) < budgets[-1]:
        raise ValueError(f"{len(pool)} proposals do not suffice for {budgets[-1]} labels; give more scenes")
    vectors, truth = found.pool.vectors[pool], [found.truth[row] for row in pool.tolist()]
    scores = found.pool.scores[pool]
    common = typicality(vectors)
    choose = _CHOICES[strategy]
    known = np.zeros(0, np.int64)
    accuracy = []
    while len(known) < budgets[-1]:
        classes = [truth[row] for row in known.tolist()]
        free = np.setdiff1d(np.arange(len(pool)), known)
        known = np.concatenate([known, choose(_Round(vectors, scores, common, known, classes, free, rng))])
        if len(known) in budgets:
            probe = fit_probe(vectors[known], [truth[row] for row in known.tolist()])
            said = probe.predict(found.pool.vectors[test])
            accuracy.append(balanced_accuracy([found.truth[row] for row in test.tolist()], said))
    return accuracy


@dataclass(frozen=True, slots=True)
class _Round:
    vectors: NDArray[np.float32]
    scores: NDArray[np.float64]
    common: NDArray[np.float64]
    known: Rows
    classes: list[str]
    free: Rows
    rng: np.random.Generator

    @property
    def unsure(self) -> NDArray[np.float64]:
        return uncertainty(self.vectors, self.known, self.classes)

    def greedy(self, worth: NDArray[np.float64]) -> Rows:
        return greedy_choice(self.vectors, worth, self.free, self.known, STEP).positions

    def first(self, values: NDArray[np.float64]) -> Rows:
        return self.free[np.argsort(-values[self.free], kind="stable")[:STEP]]


_CHOICES: Mapping[str, Callable[[_Round], Rows]] = {
    QUEUE: lambda now: now.greedy(now.unsure * now.common),
    "random": lambda now: now.rng.choice(now.free, STEP, replace=False),
    "lowest score": lambda now: now.first(-now.scores),
    "without uncertainty": lambda now: now.greedy(now.common),
    "without typicality": lambda now: now.greedy(now.unsure),
    "uncertainty alone": lambda now: now.first(now.unsure),
}


def balanced_accuracy(truth: Sequence[str], said: Sequence[str]) -> float:
    """Mean over the classes of the share of each that was told rightly, 0 to 1."""
    real, told = np.array(truth), np.array(said)
    return float(np.mean([np.mean(told[real == name] == name) for name in sorted(set(truth))]))


def _random_noise(found: TruePool, runs: int) -> MistakeFigures:
    """A tenth of the labels of real things replaced by any other."""

    def spoil(labels: list[str], rng: np.random.Generator) -> None:
        names = sorted(set(labels))
        for row in rng.choice(len(labels), round(NOISE * len(labels)), replace=False).tolist():
            labels[row] = str(rng.choice([name for name in names if name != labels[row]]))

    return _noise(found, spoil, runs)


def _systematic_noise(found: TruePool, runs: int) -> MistakeFigures:
    """Three in ten of one class taken for one other, as somebody does who mixes them up; the classes drawn a run."""

    def spoil(labels: list[str], rng: np.random.Generator) -> None:
        taken, given = rng.choice(sorted(set(labels)), 2, replace=False).tolist()
        rows = [row for row, label in enumerate(labels) if label == taken]
        for row in rng.choice(rows, max(1, round(SYSTEMATIC * len(rows))), replace=False).tolist():
            labels[row] = given

    return _noise(found, spoil, runs)


def _noise(found: TruePool, spoil: Callable[[list[str], np.random.Generator], None], runs: int) -> MistakeFigures:
    pool, truth = _real_things(found)
    neighbours = nearest_neighbours(pool.vectors, NEIGHBOURS)
    parts = []
    for run in range(runs):
        labels = list(truth)
        spoil(labels, np.random.default_rng([run, 11]))
        scored = mistakenness(replace(pool, labels=tuple(labels)), neighbours)
        wrong = np.array([label != real for label, real in zip(labels, truth, strict=True)])
        parts.append(_precisions(wrong, (scored.neighbours, scored.model, scored.score)))
    return _figures(np.mean(parts, axis=0).tolist())


def _own_errors(found: TruePool) -> MistakeFigures:
    """What the detector itself got wrong, before anybody looked."""
    scored = mistakenness(found.pool, nearest_neighbours(found.pool.vectors, NEIGHBOURS))
    wrong = np.array([label != real for label, real in zip(found.pool.labels, found.truth, strict=True)])
    return _figures(_precisions(wrong, (scored.neighbours, scored.model, scored.score)))


def _figures(means: Sequence[float]) -> MistakeFigures:
    random, neighbours, model, both, count = means
    return MistakeFigures(random, neighbours, model, both, round(count))


def _real_things(found: TruePool) -> tuple[Pool, tuple[str, ...]]:
    rows = np.flatnonzero([name != NOTHING for name in found.truth]).astype(np.int64)
    return found.pool.at(rows), tuple(found.truth[row] for row in rows.tolist())


def _precisions(wrong: NDArray[np.bool_], scores: Sequence[NDArray[np.float64]]) -> list[float]:
    count = int(wrong.sum())
    found = [float(wrong[np.argsort(-score, kind="stable")[:count]].mean()) if count else 0.0 for score in scores]
    return [float(wrong.mean()), *found, float(count)]


def _duplicates(found: TruePool, again: TruePool) -> DuplicateFigures:
    """Pictures beside themselves taken again: what is found of them, and what is found besides."""
    first, second = found.pool, again.pool
    rows = np.concatenate([np.arange(len(first)), np.arange(len(second)) + len(first)])
    joined = Pool(
        object_ids=tuple(f"{row:032x}" for row in rows.tolist()),
        vectors=np.concatenate([first.vectors, second.vectors]),
        labels=first.labels + second.labels,
        proposed=first.proposed + second.proposed,
        scores=np.concatenate([first.scores, second.scores]),
        states=first.states + second.states,
        image_ids=first.image_ids + second.image_ids,
        source_ids=first.source_ids + second.source_ids,
        boxes=np.concatenate([first.boxes, second.boxes]),
        stamps_ns=np.concatenate([first.stamps_ns, second.stamps_ns]),
    )
    images = {**found.images, **again.images}
    shown = set(joined.image_ids)
    either = {frozenset((name, "0" + name[1:])) for name in again.images if name in shown and "0" + name[1:] in shown}
    usual = Likeness()
    loose = Likeness(cosine=-1.0, overlap=0.0, sure=1.0, difference=usual.difference)

    def tried(likeness: Likeness, pixels: bool) -> tuple[float, float]:
        groups = picture_duplicates(joined, images.get if pixels else None, likeness)
        kept = groups.groups.kept.tolist()
        told = {
            frozenset((groups.image_ids[place], groups.image_ids[kept[place]]))
            for place in groups.groups.duplicates.tolist()
        }
        right = len(told & either)
        return right / max(1, len(either)), right / max(1, len(told))

    return DuplicateFigures(tried(usual, True), tried(usual, False), tried(loose, True), len(either))
