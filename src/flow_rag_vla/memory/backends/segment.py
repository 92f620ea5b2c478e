# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed vectors that find candidates, and how well they do.

A segment turns unit vectors into few numbers (principal components: the ones that carry ``KEPT`` of the variance, in a
random rotation so that each carries as much; where none can be left out and each carries as much already, they stay as
they are: turning a query would cost as much as scanning the codes), cuts those into parts of 4 bits (product
quantisation; Jégou et al. 2011) and scans the codes in registers (fast scan; André et al. 2015, as in FAISS). Up to
``lists_from`` vectors every code is scanned; beyond, vectors are sorted into lists by k-means and only the lists
nearest to a query are. The best candidates are then compared with the query by their original vectors, so that a
similarity is always exact.

How many lists and candidates a search looks at is not set but measured: vectors of the segment itself are looked up
(each without itself) with ever more until ``GOAL`` of their true nearest are found, and the recall of that choice is
measured on other vectors and published.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.backends.base import Ids, Vectors
from flow_rag_vla.memory.backends.originals import Originals, floats

GOAL_SCANNED = 0.995
"""Recall that a segment is tuned to where every code is scanned; a little above the 0.99 that is wanted."""

GOAL = 0.998
"""The same where only some lists are. Well above the 0.99 that is wanted: what it is tuned on flatters it, and vectors
of its own are easier to find than new ones (a million tuned to 0.995 had 0.994 of their own and 0.990 of new ones)."""

NEIGHBOURS = 5
"""Nearest vectors that recall is counted over: as many as a search of the memory looks at."""

KEPT = 0.998
"""Share of the variance that the reduced vectors carry."""

WIDTHS = (64, 128, 256, 512)
"""Numbers a reduced vector may have."""

MOST_UNEVEN = 2.0
"""Variance of one number over their mean up to which vectors need no rotation: parts then tell about as much each."""

MOST_PARTS = 128
"""Parts of 4 bits in lists: 64 bytes a vector."""

MOST_PARTS_SCANNED = 256
"""Parts of 4 bits where every code is scanned: those are few enough, and finer codes need fewer candidates."""

CANDIDATES = (32, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024, 1536, 2048)
"""Candidates that may be compared exactly; with cold caches each costs more than half a microsecond."""

PROBED_WITH = 1024
"""Candidates with which the number of lists is chosen, before their own."""

PROBES = (8, 16, 32, 64, 96, 128, 192, 256)
"""Lists that may be looked at."""

TUNED_ON, MEASURED_ON = 256, 512
"""Vectors looked up to choose, and to measure."""

SAMPLE = 65_536
"""Vectors that principal components and codes are learnt from."""

PER_LIST = 48
"""Vectors a list that k-means learns from."""

ROUNDS = 8
"""Of k-means; more change the recall by less than its measurement errs."""

SEED = 17

Check = Callable[[], None]
"""Called between steps; it raises to end a build."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Compressed copies of the first ``count`` rows of a group.

    index: FAISS index that gives places of rows; never changed once it is in here
    lists: lists that the vectors are sorted into; 0 where every code is scanned
    probes: lists that a search looks at
    candidates: rows that a search compares exactly
    trained_on: rows there were when it was trained
    recall: share of the true nearest 5 found, measured on vectors that it was not tuned on
    measured_at: rows there were when it was tuned and measured
    """

    index: Any
    count: int
    trained_on: int
    lists: int
    width: int
    probes: int = 1
    candidates: int = CANDIDATES[-1]
    recall: float = 0.0
    measured_at: int = 0

    @property
    def kind(self) -> str:
        """How it searches, in words."""
        if self.lists:
            return f"{self.probes} of {self.lists} lists of 4-bit codes, best {self.candidates} compared exactly"
        return f"scan of 4-bit codes, best {self.candidates} compared exactly"

    @property
    def nbytes(self) -> int:
        """Bytes of codes, ids and centres, without small change."""
        return (
            self.count * (_parts(self.width, self.lists) // 2 + (8 if self.lists else 0)) + self.lists * self.width * 4
        )

    def places(self, query: Vectors, candidates: int) -> Ids:
        """Places of rows (at most ``candidates``,) that may be near to a query (D,), in no order that counts."""
        import faiss

        # A setting of each thread. One search must not take the cores that the control loop runs on.
        faiss.omp_set_num_threads(1)
        _, found = self.index.search(query[np.newaxis, :], min(candidates, self.count))
        places: Ids = found[0]
        return places[places >= 0]


def build(originals: Originals, lists_from: int, check: Check) -> Segment:
    """Learn codes for rows, encode all of them, tune the search and measure it."""
    return measured(extended(trained(originals, lists_from, check), originals, check), originals, check)


def trained(originals: Originals, lists_from: int, check: Check) -> Segment:
    """A segment without rows, of codes learnt from rows."""
    faiss: Any = _faiss()
    faiss.omp_set_num_threads(1)
    count, dimension = len(originals), originals.dimension
    generator = np.random.default_rng(SEED)
    few = _sample(originals, SAMPLE, generator)
    transform = _reduction(few, generator)
    width = dimension if transform is None else int(transform.d_out)
    check()
    lists = 0
    if count >= lists_from:
        # Four times the root: half of the work is then spent on the centres, half on the lists.
        lists = min(2 ** round(math.log2(4.0 * math.sqrt(count))), 4096 if width <= MOST_PARTS else 1024)
    parts = _parts(width, lists)
    if lists:
        centres = faiss.IndexFlatL2(width)
        inner = faiss.IndexIVFPQFastScan(centres, width, lists, parts, 4)
        centres.this.disown()
        inner.own_fields = True
        inner.cp.niter, inner.cp.seed = ROUNDS, SEED
        if lists * PER_LIST > len(few):
            few = _sample(originals, lists * PER_LIST, generator)
    else:
        inner = faiss.IndexPQFastScan(width, parts, 4)
    inner.pq.cp.niter, inner.pq.cp.seed = ROUNDS, SEED
    if transform is not None:
        few = np.concatenate([transform.apply(few[first : first + SAMPLE]) for first in range(0, len(few), SAMPLE)])
    check()
    inner.train(few)
    if transform is None:
        return Segment(inner, 0, count, lists, width)
    index = faiss.IndexPreTransform(transform, inner)
    transform.this.disown()
    inner.this.disown()
    index.own_fields = True
    return Segment(index, 0, count, lists, width)


def extended(segment: Segment, originals: Originals, check: Check) -> Segment:
    """A segment that also has the rows that came after its own; the old one stays as it is."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.deserialize_index(faiss.serialize_index(segment.index))
    for _, rows in originals.chunks(segment.count):
        check()
        index.add(rows)
    grown = dataclasses.replace(segment, index=index, count=len(originals))
    _set_probes(grown)
    return grown


def measured(segment: Segment, originals: Originals, check: Check) -> Segment:
    """Choose lists and candidates by recall on some rows, and measure them on others."""
    generator = np.random.default_rng(SEED + segment.count)
    places = generator.choice(segment.count, min(segment.count, TUNED_ON + MEASURED_ON), replace=False)
    queries = floats(originals.take(places))
    truth = _nearest(originals, segment.count, queries, places, check)
    some = slice(0, min(TUNED_ON, len(places) // 2))

    def recall(found: Segment, which: slice) -> float:
        check()
        return _recall(found, originals, queries[which], places[which], truth[which])

    goal = GOAL if segment.lists else GOAL_SCANNED
    best = dataclasses.replace(segment, candidates=PROBED_WITH)
    for probes in [number for number in PROBES if number <= segment.lists] or [1]:
        best = dataclasses.replace(best, probes=probes)
        _set_probes(best)
        if recall(best, some) >= goal:
            break
    for candidates in CANDIDATES:
        best = dataclasses.replace(best, candidates=candidates)
        if recall(best, some) >= goal:
            break
    return dataclasses.replace(best, recall=recall(best, slice(some.stop, None)), measured_at=segment.count)


def _parts(width: int, lists: int) -> int:
    """The most parts that cut a reduced vector evenly."""
    most = MOST_PARTS if lists else MOST_PARTS_SCANNED
    return next(parts for parts in range(min(width, most), 0, -1) if width % parts == 0)


def _faiss() -> ModuleType:
    # Imported when it is needed, and past its type hints, which leave out what they are generated from.
    import faiss

    return faiss


def _set_probes(segment: Segment) -> None:
    import faiss

    if segment.lists:
        faiss.extract_index_ivf(segment.index).nprobe = segment.probes


def _sample(originals: Originals, most: int, generator: np.random.Generator) -> Vectors:
    if len(originals) <= most:
        return floats(originals.slice(0, len(originals)))
    return floats(originals.take(np.sort(generator.choice(len(originals), most, replace=False))))


def _reduction(rows: Vectors, generator: np.random.Generator) -> Any:
    """FAISS transform of vectors (N, D) to (N, W); None where they are best left as they are."""
    faiss: Any = _faiss()
    dimension = rows.shape[1]
    # FAISS, not numpy: its linear algebra keeps to the one thread that it was told.
    components = faiss.PCAMatrix(dimension, dimension)
    components.train(rows[: SAMPLE // 4])
    shares = np.cumsum(faiss.vector_to_array(components.eigenvalues).astype(np.float64))
    needed = int(np.searchsorted(shares, KEPT * shares[-1])) + 1
    whole = dimension // WIDTHS[0] * WIDTHS[0] or dimension
    width = next((number for number in WIDTHS if needed <= number <= dimension), whole)
    matrix = faiss.vector_to_array(components.PCAMat).reshape(dimension, dimension)[:width]
    variances = rows[: SAMPLE // 4].var(axis=0)
    if width == dimension and float(variances.max()) <= MOST_UNEVEN * float(variances.mean()):
        return None
    rotation, _ = np.linalg.qr(generator.standard_normal((width, width)))
    turned = np.asarray(rotation @ matrix, dtype=np.float32)
    mean = rows.mean(axis=0, dtype=np.float64)
    transform = faiss.LinearTransform(dimension, width, True)
    faiss.copy_array_to_vector(np.ascontiguousarray(turned).ravel(), transform.A)
    faiss.copy_array_to_vector(np.asarray(-(turned @ mean), dtype=np.float32), transform.b)
    transform.is_trained = True
    return transform


def _nearest(originals: Originals, count: int, queries: Vectors, places: Ids, check: Check) -> Vectors:
    """Similarities (Q, 5) of the true nearest rows to queries, each without its own row."""
    import faiss

    faiss.omp_set_num_threads(1)
    best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    for first, rows in originals.chunks(0, count):
        check()
        wanted = min(NEIGHBOURS + 1, len(rows))
        similarities, found = faiss.knn(queries, rows, wanted, metric=faiss.METRIC_INNER_PRODUCT)
        similarities[found + first == places[:, np.newaxis]] = -np.inf
        best = -np.sort(-np.concatenate([best, similarities], axis=1), axis=1)[:, :NEIGHBOURS]
    return best


def _recall(segment: Segment, originals: Originals, queries: Vectors, own: Ids, truth: Vectors) -> float:
    found = total = 0
    for query, place, true in zip(queries, own.tolist(), truth, strict=True):
        places = segment.places(query, segment.candidates)
        places = places[places != place]
        similarities = -np.sort(-originals.similarities(query, places))[: len(true)]
        # By similarity, not by place: of two equal vectors either is right.
        found += int(np.count_nonzero(similarities >= true[-1] - 1e-6))
        total += int(np.count_nonzero(np.isfinite(true)))
    return found / total if total else 1.0


def to_bytes(segment: Segment) -> NDArray[np.uint8]:
    """The FAISS part of a segment."""
    import faiss

    return np.asarray(faiss.serialize_index(segment.index), dtype=np.uint8)


def from_bytes(data: NDArray[np.uint8], fields: dict[str, Any]) -> Segment:
    """A segment of what :func:`to_bytes` gave and its other fields.

    Raises:
        ValueError: if the bytes are no such index.
    """
    import faiss

    try:
        index = faiss.deserialize_index(np.ascontiguousarray(data))
    except RuntimeError as error:
        raise ValueError(f"the compressed vectors cannot be read ({error})") from error
    segment = Segment(index, **fields)
    if int(index.ntotal) != segment.count:
        raise ValueError(f"the compressed vectors are {int(index.ntotal)}, expected {segment.count}")
    _set_probes(segment)
    return segment
