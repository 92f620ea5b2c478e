# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Objects sorted into groups that look alike: how many there are, how well they part, and what stands for each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import pdist, squareform

from flow_rag_vla.labeling.curation.pool import Pool, last_change, read_pool
from flow_rag_vla.labeling.detections import Vectors
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.reading import ReadingRegistry
from flow_rag_vla.labeling.registry.values import ReviewState
from flow_rag_vla.learn.progress import Progress, silent

Positions = NDArray[np.int64]
Shares = NDArray[np.float64]

FEWEST = 3
"""Objects to group; also the smallest group that is proposed where nobody says how many there are."""
MOST_GROUPS = 200
MOST_TRIED = 20
"""Greatest number of groups that is tried where nobody says how many there are."""
SAMPLE = 2_000
"""Objects that are compared each with each; the others go to the nearest group."""
LEAST_SHARE = 0.01
"""Of the sample: smaller groups are not proposed."""
REFERENCES = 4
"""Clouds without groups that the objects are held against."""
MARGIN = 0.1
"""By how much groups must part better than the best of those clouds."""
CLEAR = 0.5
"""Silhouette from which groups lie apart: Kaufman and Rousseeuw call less than that weak."""
_ITERATIONS = 20
_KEPT = 4
_NOT_REJECTED = tuple(state for state in ReviewState if state is not ReviewState.REJECTED)


class Strength(str, Enum):
    """How real groups are. CLEAR: they lie apart; WEAK: they run into each other; NONE: no more than chance makes."""

    CLEAR = "clear"
    WEAK = "weak"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Group:
    """M objects that look alike, the most typical first.

    rows: (M,) int64, positions; the first is the medoid: the mean of its cosines to all in the group is the greatest
    likeness: (M,) float64, cosine of each to the mean direction of the group, falling
    silhouette: mean over those of its objects that were compared, -1 to 1; 0 where there is one group only
    """

    rows: Positions
    likeness: Shares
    silhouette: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def medoid(self) -> int:
        """Position of the most typical object."""
        return int(self.rows[0])

    @property
    def spread(self) -> float:
        """Mean cosine distance to the mean direction: 0 for copies, towards 1 for what has nothing in common."""
        return float(1.0 - self.likeness.mean())

    def unusual(self, count: int) -> Positions:
        """Positions of the least typical objects, the least typical first; never the medoid."""
        return self.rows[1:][::-1][:count]


@dataclass(frozen=True, slots=True)
class Grouping:
    """N objects in groups, the largest first.

    of: (N,) int64, the place of each object's group; strength: see there
    silhouette: mean silhouette (Rousseeuw 1987), -1 to 1; where all are one group, of the best partition that was tried
    chance: the greatest of clouds that have the same mean and covariance and no groups
    tried: silhouette of each number of groups that was looked at, on the sample
    compared: objects that silhouettes were computed from
    """

    groups: tuple[Group, ...]
    of: Positions
    strength: Strength
    silhouette: float
    chance: float
    tried: tuple[tuple[int, float], ...]
    compared: int

    @property
    def best(self) -> int:
        """The number of groups with the greatest silhouette; 1 where none was tried."""
        return max(self.tried, key=lambda item: (item[1], -item[0]))[0] if self.tried else 1

    def verdict(self) -> str:
        """In words: whether there are groups."""
        if self.strength is Strength.CLEAR:
            return f"{len(self.groups)} groups that lie apart"
        if self.strength is Strength.WEAK:
            return f"{len(self.groups)} groups that run into each other"
        if len(self.groups) == 1:
            return "one group: no partition is much better than that of a cloud without groups"
        return f"{len(self.groups)} groups were asked for, but they part hardly better than a cloud without groups"


def group_vectors(
    vectors: Vectors, groups: int | None = None, *, sample: int = SAMPLE, seed: int = 0, progress: Progress = silent
) -> Grouping:
    """Sort vectors into groups by direction; the same input and seed give the same groups.

    Ward's hierarchy (1963, SciPy) of a sample proposes the groups, and spherical k-means (Dhillon and Modha 2001,
    FAISS) goes on from them with all vectors: the two together are the "Buckshot" of Cutting et al. 1992. Unlike
    k-means from a random start, a hierarchy does not put two far groups under one centre.

    Where the number is not given, 2 to ``MOST_TRIED`` are tried on the sample and the one with the greatest mean
    silhouette (Rousseeuw 1987; chord distances) is taken, if it is greater by ``MARGIN`` than that of clouds which are
    known to have no groups: normal, with the same mean and covariance (the null of SigClust, Liu et al. 2008), and
    treated alike. Otherwise everything is one group.

    Args:
        vectors: (N, D) float32 of unit length.
        groups: how many, 1 to ``MOST_GROUPS``; None: see above.
        sample: objects that are compared each with each.
        seed: of the sample and of the clouds.
        progress: told of the steps.

    Raises:
        InvalidInputError: fewer than ``FEWEST`` vectors, one that is not finite, more groups than there are different
            vectors, or a number of groups that makes no sense.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    _check(vectors, groups)
    rng = np.random.default_rng(seed)
    total = len(vectors)
    rows = np.arange(total) if total <= sample else np.sort(rng.choice(total, sample, replace=False))
    own = vectors[rows]
    if groups is not None and (different := len(np.unique(own, axis=0))) < groups:
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE,
            f"{groups} groups of objects of which only {different} look different",
            f"ask for at most {different}",
        )
    counts: Sequence[int] = range(2, MOST_TRIED + 1) if groups is None else [groups] if groups > 1 else ()
    steps = REFERENCES + 2
    found = _partitions(own, counts, proposing=groups is None)
    progress(1, steps, "comparing")
    chance = 0.0
    for place in range(REFERENCES if found.values else 0):
        cloud = _partitions(_cloud(own, rng), counts, proposing=groups is None)
        chance = max(chance, max((value for value in cloud.values.values()), default=0.0))
        progress(place + 2, steps, "clouds without groups")
    best = max(found.values, key=lambda count: (found.values[count], -count), default=1)
    silhouette = found.values.get(best, 0.0)
    strength = Strength.NONE
    if silhouette - chance >= MARGIN:
        strength = Strength.CLEAR if silhouette >= CLEAR else Strength.WEAK
    taken = best if groups is not None or strength is not Strength.NONE else 1
    of = np.zeros(total, np.int64) if taken == 1 else _refined(vectors, own, found.cuts[taken], taken)
    widths = _silhouettes(found.distances, of[rows]) if taken > 1 else np.zeros(len(rows))
    made = _described(vectors, of, rows, widths)
    progress(steps, steps, "groups")
    return Grouping(
        groups=tuple(made),
        of=_numbers(made, total),
        strength=strength,
        silhouette=float(widths.mean()) if taken > 1 else silhouette,
        chance=chance,
        tried=tuple(found.values.items()),
        compared=len(rows),
    )


@dataclass(frozen=True, slots=True)
class _Partitions:
    """distances: (S, S); by number of groups the mean silhouette and the (S,) group of each."""

    distances: Shares
    values: dict[int, float]
    cuts: dict[int, Positions]


def _check(vectors: Vectors, groups: int | None) -> None:
    total = len(vectors)
    if total < FEWEST:
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE,
            f"{total} objects with a vector are too few to group",
            f"take a filter that at least {FEWEST} pass, or label with an embedder",
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InvalidInputError(
            ErrorCode.INVALID_EMBEDDING, f"vector {row} has values that are not finite", "embed its object again"
        )
    if groups is not None and not 1 <= groups <= min(MOST_GROUPS, total):
        raise InvalidInputError(
            ErrorCode.INVALID_VALUE,
            f"{groups} groups of {total} objects",
            f"ask for 1 to {min(MOST_GROUPS, total)}, or for none to have the number found",
        )


def _partitions(own: Vectors, counts: Sequence[int], *, proposing: bool) -> _Partitions:
    """Cut a hierarchy of (S, D) vectors at each number of groups.

    Proposing: numbers at which a group would be too small are left out. A single odd object far from all others would
    otherwise be the best group of all.
    """
    pairs = pdist(own.astype(np.float64))
    distances = squareform(pairs)
    values: dict[int, float] = {}
    cuts: dict[int, Positions] = {}
    least = max(FEWEST, int(LEAST_SHARE * len(own))) if proposing else 1
    counts = [count for count in counts if count * least <= len(own)]
    if not counts:
        return _Partitions(distances, values, cuts)
    tree = cut_tree(linkage(pairs, "ward"), n_clusters=counts)
    for column, count in enumerate(counts):
        cut = np.asarray(tree[:, column], np.int64)
        if np.bincount(cut).min() >= least:
            cuts[count] = cut
            values[count] = float(_silhouettes(distances, cut).mean())
    return _Partitions(distances, values, cuts)


def _silhouettes(distances: Shares, of: Positions) -> Shares:
    """Silhouette of each of S objects, (S,), -1 to 1; 0 for one that is alone in its group (Rousseeuw 1987)."""
    _, of = np.unique(of, return_inverse=True)
    sizes = np.bincount(of)
    if len(sizes) < 2:
        return np.zeros(len(of))
    places = np.arange(len(of))
    sums = distances @ np.eye(len(sizes))[of]
    within = sums[places, of] / np.maximum(sizes[of] - 1, 1)
    others = sums / sizes
    others[places, of] = np.inf
    nearest = others.min(axis=1)
    widths = (nearest - within) / np.maximum(np.maximum(nearest, within), 1e-12)
    return np.where(sizes[of] > 1, widths, 0.0)


def _cloud(own: Vectors, rng: np.random.Generator) -> Vectors:
    """As many vectors with the same mean and covariance, drawn from one normal distribution, at unit length."""
    mean = own.mean(axis=0, dtype=np.float64)
    _, scales, axes = np.linalg.svd(own - mean, full_matrices=False)
    drawn = rng.normal(size=(len(own), len(scales))) * scales / np.sqrt(len(own)) @ axes + mean
    return np.asarray(drawn / np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), 1e-12), np.float32)


def _refined(vectors: Vectors, own: Vectors, cut: Positions, count: int) -> Positions:
    """The group of each of N vectors, (N,), by spherical k-means from the means of a sample's groups."""
    import faiss

    centres = np.stack([own[cut == place].mean(axis=0, dtype=np.float64) for place in range(count)])
    # Members that cancel each other leave no direction; FAISS takes a centre of length 0 for one that nothing is near.
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    means = faiss.Kmeans(
        vectors.shape[1], count, niter=_ITERATIONS, spherical=True, seed=0,
        min_points_per_centroid=1, max_points_per_centroid=len(vectors),
    )  # fmt: skip
    means.train(vectors, init_centroids=centres.astype(np.float32))
    return np.asarray(means.index.search(vectors, 1)[1][:, 0], np.int64)


def _described(vectors: Vectors, of: Positions, sampled: Positions, widths: Shares) -> list[Group]:
    groups = []
    of_sampled = of[sampled]
    for number in np.unique(of).tolist():
        rows = np.flatnonzero(of == number)
        mean = vectors[rows].mean(axis=0, dtype=np.float64)
        likeness = vectors[rows].astype(np.float64) @ (mean / max(float(np.linalg.norm(mean)), 1e-12))
        order = np.lexsort((rows, -np.round(likeness, 7)))
        own = widths[of_sampled == number]
        groups.append(Group(rows[order], np.clip(likeness[order], -1.0, 1.0), float(own.mean()) if len(own) else 0.0))
    return sorted(groups, key=lambda group: (-len(group), group.medoid))


def _numbers(groups: Sequence[Group], total: int) -> Positions:
    of = np.zeros(total, np.int64)
    for place, group in enumerate(groups):
        of[group.rows] = place
    return of


@dataclass(frozen=True, slots=True)
class PoolGroups:
    """Objects of a registry and their groups; generation: last change of the registry that was seen."""

    pool: Pool
    grouping: Grouping
    generation: int

    def commonest_label(self, group: Group) -> tuple[str, float]:
        """What most objects of a group are called, and their share."""
        names, counts = np.unique([self.pool.labels[row] for row in group.rows.tolist()], return_counts=True)
        best = int(counts.argmax())
        return str(names[best]), float(counts[best] / len(group))

    def by_quality(self, group: Group) -> Positions:
        """Positions of a group's objects, the highest quality first; those whose quality nobody gave come last."""
        quality = self.pool.qualities[group.rows]
        return group.rows[np.lexsort((np.arange(len(group)), -np.nan_to_num(quality, nan=-1.0)))]


def group_objects(
    registry: ReadingRegistry,
    where: ObjectFilter | None = None,
    groups: int | None = None,
    *,
    most: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> PoolGroups:
    """Group the objects that pass a filter by their vectors; rejected ones only where the filter names them.

    Args:
        registry: an open registry.
        where: which; None for all.
        groups: how many; None: as many as there are.
        most: of more objects, those with the lowest scores; 0: all.
        seed: see ``group_vectors``.
        progress: told of the steps.

    Raises:
        ConflictError: ``embedder_mismatch``: vectors of several embedders.
        InvalidInputError, UnknownError: the filter or the number of groups makes no sense, or too few objects pass.
    """
    generation = last_change(registry)
    pool = read_pool(registry, _unrejected(where or ObjectFilter()), most=most)
    return PoolGroups(pool, group_vectors(pool.vectors, groups, seed=seed, progress=progress), generation)


def _unrejected(where: ObjectFilter) -> ObjectFilter:
    return where if where.states or where.validated is not None else replace(where, states=_NOT_REJECTED)


class Groupings:
    """The newest groups by filter and number, made again when the registry has changed. Any thread may ask."""

    def __init__(self, registry: ReadingRegistry, *, most: int) -> None:
        """Begin with nothing grouped. most: objects that are grouped for one answer."""
        self._registry, self._most = registry, most
        self._kept: OrderedDict[tuple[str, int | None, int], PoolGroups] = OrderedDict()
        # One after the other: ten that ask at once do not take ten times the memory.
        self._turn = threading.Lock()

    def newest(self, where: ObjectFilter, groups: int | None) -> PoolGroups:
        """The groups of what is there now; see ``group_objects``."""
        with self._turn:
            key = repr(where), groups, last_change(self._registry)
            if key not in self._kept:
                self._kept[key] = group_objects(self._registry, where, groups, most=self._most)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def kept(self, where: ObjectFilter, groups: int | None, generation: int) -> PoolGroups | None:
        """Groups that were given before; None where they are no longer kept."""
        with self._turn:
            return self._kept.get((repr(where), groups, generation))
