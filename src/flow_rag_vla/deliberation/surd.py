# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which variables a failure depends on: redundant, unique and synergistic information (SURD).

Martinez-Sanchez, Arranz and Lozano-Duran 2024, "Decomposing causality into its synergistic, unique, and redundant
components", Nature Communications 15. For each state t of the target, the specific information that a set of sources
carries about it,

    i(t; S) = sum over s of p(s | t) log2(p(t | s) / p(t)),

is never negative and never falls when sources are added. The single sources are sorted by it: what the least informed
one knows all of them know (redundant), what each further one adds is known by it and those above it, and what only the
last one knows is unique to it. Then larger sets are taken in the order of their size: what a set knows beyond the best
set of the size below is synergy. All parts together are the mutual information of target and sources.

It is information about what happened together, not proof of cause: sources were not set by anybody, and what both
depend on is not seen. So a part counts as found only above what shuffled targets show, and below enough episodes
nothing is said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SOURCES = 4
"""Sets of sources double with each one more, and so do the episodes that are needed."""

EPISODES_PER_STATE = 5
"""Episodes for each joint state of sources and target: with fewer most of what is seen is chance."""

LEAST_OF_EACH = 10
"""Episodes of the rarest outcome."""

Labels = NDArray[np.int64]


class TooFewError(ValueError):
    """There are not enough episodes to say anything; the text says how many there are and are needed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the information. kind: redundant, unique or synergistic; bits: of it; bound: what chance reaches."""

    kind: str
    sources: tuple[str, ...]
    bits: float
    bound: float = 0.0

    @property
    def found(self) -> bool:
        """Whether it is more than chance shows."""
        return self.bits > self.bound

    def __str__(self) -> str:
        return f"{self.kind} {' + '.join(self.sources)}"


@dataclass(frozen=True, slots=True)
class Decomposition:
    """What sources say about a target, all in bits.

    parts: they add up to ``information``; entropy: of the target; bound: of the whole information, by chance
    """

    sources: tuple[str, ...]
    target: str
    episodes: int
    parts: tuple[Part, ...]
    information: float
    entropy: float
    bound: float = 0.0

    @property
    def leak(self) -> float:
        """Share of the target's entropy that the sources say nothing about, 0 to 1."""
        return 1.0 - self.information / self.entropy if self.entropy > 0.0 else 0.0


def decompose(
    sources: Mapping[str, Labels],
    target: Labels,
    name: str = "failed",
    *,
    permutations: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
    starts: Labels | None = None,
) -> Decomposition:
    """Decompose what sources say about a target, with the bound of shuffled targets.

    Args:
        sources: states from 0 of each episode, (N,) each, by name.
        target: states from 0 of each episode, (N,).
        name: of the target.
        permutations: shuffles of the target; 0: no bound.
        seed: of the shuffles.
        confidence: share of shuffles that stay below the bound, over all parts together: each part is compared with
            the largest of its kind and size in every shuffle.
        starts: from which start each episode began, (N,); None: each from its own. Outcomes of one start are alike, so
            they are shuffled together: those of a whole start go to another with as many episodes.

    Raises:
        TooFewError: below enough episodes.
        ValueError: for sources that make no sense.
    """
    names = _checked(sources, target)
    joint = joint_counts([sources[one] for one in names], target)
    need = needed_episodes(joint.shape)
    rarest = int(np.bincount(target).min(initial=len(target)))
    if len(target) < need or rarest < LEAST_OF_EACH:
        raise TooFewError(
            f"{len(target)} episodes, {rarest} of the rarest outcome; {' x '.join(map(str, joint.shape))} states need "
            f"{need} and {LEAST_OF_EACH}: run more, or take fewer or coarser variables"
        )
    rng = np.random.default_rng(seed)
    alone = np.arange(len(target)) if starts is None else np.asarray(starts)
    shuffles = [shuffled_together(target, alone, rng) for _ in range(permutations)]
    return _bounded(names, sources, target, name, joint, shuffles, confidence)


def shuffled_together(target: Labels, starts: Labels, rng: np.random.Generator) -> Labels:
    """(N,) the targets, those of each start moved to a start with as many episodes, drawn at random."""
    order = np.argsort(starts, kind="stable")
    _, first, counts = np.unique(starts[order], return_index=True, return_counts=True)
    found = np.array(target)
    for size in np.unique(counts):
        places = order[first[counts == size][:, None] + np.arange(size)]
        found[places] = target[places[rng.permutation(len(places))]]
    return found


def needed_episodes(states: Sequence[int]) -> int:
    """Episodes for so many states of the target and each source."""
    return EPISODES_PER_STATE * math.prod(states)


def split(joint: NDArray[np.floating], names: Sequence[str]) -> tuple[tuple[Part, ...], float, float]:
    """The parts of a joint distribution, the mutual information, and the target's entropy, in bits.

    Args:
        joint: probabilities or counts; axis 0 is the target, the others the sources in the order of ``names``.
        names: of the sources.
    """
    p = np.asarray(joint, dtype=np.float64)
    p = p / p.sum()
    sources = tuple(range(1, p.ndim))
    target = p.sum(axis=sources)
    subsets = [subset for size in sources for subset in itertools.combinations(sources, size)]
    specific = {subset: _specific(p, target, subset) for subset in subsets}
    redundant = {subset: 0.0 for subset in subsets}
    synergistic = {subset: 0.0 for subset in subsets if len(subset) > 1}
    for state in np.flatnonzero(target > 0.0):
        known = {subset: float(values[state]) for subset, values in specific.items()}
        for size in sources[1:]:
            best = max(known[subset] for subset in subsets if len(subset) == size - 1)
            for subset in subsets:
                if len(subset) == size and known[subset] < best:
                    # Not all of what a smaller set knows: nothing of it is synergy.
                    known[subset] = 0.0
        remaining, before = list(sources), 0.0
        for subset in sorted(subsets, key=lambda one: known[one]):
            gain = (known[subset] - before) * float(target[state])
            before = known[subset]
            if len(subset) == 1:
                redundant[tuple(remaining)] += gain
                remaining.remove(subset[0])
            else:
                synergistic[subset] += gain
    parts = [
        Part("unique" if len(subset) == 1 else "redundant", _named(subset, names), value)
        for subset, value in redundant.items()
    ]
    parts += [Part("synergistic", _named(subset, names), value) for subset, value in synergistic.items()]
    whole = float(specific[sources] @ target)
    return tuple(parts), whole, float(-(target[target > 0.0] * np.log2(target[target > 0.0])).sum())


def joint_counts(sources: Sequence[Labels], target: Labels) -> NDArray[np.float64]:
    """Episodes by joint state: axis 0 is the target."""
    columns = (target, *sources)
    shape = tuple(int(column.max()) + 1 for column in columns)
    flat = np.ravel_multi_index(columns, shape)
    return np.bincount(flat, minlength=math.prod(shape)).reshape(shape).astype(np.float64)


def _specific(p: NDArray[np.float64], target: NDArray[np.float64], subset: tuple[int, ...]) -> NDArray[np.float64]:
    """(T,) i(t; S) of each target state, bits."""
    others = tuple(axis for axis in range(1, p.ndim) if axis not in subset)
    joint = p.sum(axis=others).reshape(len(target), -1)
    source = joint.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = joint / target[:, None] * np.log2(joint / (source * target[:, None]))
    values = np.where(joint > 0.0, terms, 0.0).sum(axis=1)
    # A Kullback-Leibler divergence: rounding alone can make it negative.
    found: NDArray[np.float64] = np.where(target > 0.0, np.maximum(values, 0.0), 0.0)
    return found


def _bounded(
    names: tuple[str, ...],
    sources: Mapping[str, Labels],
    target: Labels,
    name: str,
    joint: NDArray[np.float64],
    shuffles: Sequence[Labels],
    confidence: float,
) -> Decomposition:
    parts, information, entropy = split(joint, names)
    columns = [sources[one] for one in names]
    largest: dict[tuple[str, int], list[float]] = {}
    wholes = []
    for shuffle in shuffles:
        shuffled, whole, _ = split(joint_counts(columns, shuffle), names)
        wholes.append(whole)
        by_kind: dict[tuple[str, int], float] = {}
        for part in shuffled:
            kind = part.kind, len(part.sources)
            by_kind[kind] = max(by_kind.get(kind, 0.0), part.bits)
        for kind, value in by_kind.items():
            largest.setdefault(kind, []).append(value)
    if shuffles:
        bounds = {kind: float(np.quantile(values, confidence)) for kind, values in largest.items()}
        parts = tuple(Part(part.kind, part.sources, part.bits, bounds[part.kind, len(part.sources)]) for part in parts)
    bound = float(np.quantile(wholes, confidence)) if shuffles else 0.0
    return Decomposition(names, name, len(target), parts, information, entropy, bound)


def _checked(sources: Mapping[str, Labels], target: Labels) -> tuple[str, ...]:
    if not 1 <= len(sources) <= MOST_SOURCES:
        raise ValueError(f"{len(sources)} variables are given, expected 1 to {MOST_SOURCES}; name fewer")
    for name, values in (*sources.items(), ("the target", target)):
        if values.ndim != 1 or len(values) != len(target) or len(values) == 0:
            raise ValueError(f"{name} has shape {values.shape}, expected ({len(target)},) and at least one episode")
        if not np.issubdtype(values.dtype, np.integer) or int(values.min()) < 0:
            raise ValueError(f"{name} holds {values.dtype} from {values.min()}, expected states as integers from 0")
    return tuple(sources)


def _named(subset: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[axis - 1] for axis in subset)
