# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What to review next: unreviewed objects, those from around a failure of the robot first, the most useful before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.labeling.curation.failures import FailureWindow, FailureWindows, reasons_at
from flow_rag_vla.labeling.curation.pool import Pool, last_change, read_pool
from flow_rag_vla.labeling.curation.probe import NOTHING
from flow_rag_vla.labeling.curation.selection import Choice, Shares, greedy_choice, typicality, uncertainty
from flow_rag_vla.labeling.detections import Vectors
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order
from flow_rag_vla.labeling.registry.reading import ReadingRegistry
from flow_rag_vla.labeling.registry.values import ReviewState
from flow_rag_vla.learn.progress import Progress, silent

USUAL_BUDGET = 500
MOST_OPEN = 20_000
"""Unreviewed objects that are ranked: of more, those that the model was least sure of."""
MOST_JUDGED = 20_000
_JUDGED = (ReviewState.ACCEPTED, ReviewState.RELABELLED, ReviewState.REJECTED)
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Ranked:
    """One object of the queue.

    value: the product of the three, what the order goes by; uncertainty: of what it is; typicality: of how many objects
    it stands for; novelty: how far it is from all that was judged or comes before; each 0 to 1, see ``selection``
    reason: the failure from around whose time it is, "" for none
    """

    object_id: str
    value: float
    uncertainty: float
    typicality: float
    novelty: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The queue as of one state of the registry.

    items: the most useful first; waiting: unreviewed objects that pass the filter; judged: objects learned from
    near_failures: how many of the items come first because the robot failed; generation: last change that was seen
    """

    items: tuple[Ranked, ...]
    waiting: int
    judged: int
    near_failures: int
    generation: int


def rank_next(
    registry: ReadingRegistry,
    where: ObjectFilter | None = None,
    *,
    budget: int = USUAL_BUDGET,
    windows: Sequence[FailureWindow] = (),
    typical: TypicalObjects | None = None,
    progress: Progress = silent,
) -> Ranking:
    """Rank unreviewed objects by what their review would teach.

    Objects from around failures come first. Within them, and among the others after them, each pick is the one whose
    uncertainty times typicality times distance to everything judged and picked is greatest. What has no vector comes
    last, the least sure first. What is learned from are the judged objects of the filter's project, whatever else it
    says.

    Args:
        registry: an open registry.
        where: which objects may be picked; its ``states`` and ``validated`` are not looked at.
        budget: most picks, 1 or more.
        windows: when the robot failed.
        typical: remembers what does not change with a review; None: nothing is remembered.
        progress: told of the comparisons.

    Raises:
        ValueError: a budget below 1.
        ConflictError: ``embedder_mismatch``: vectors of several embedders.
        InvalidInputError, UnknownError: the filter makes no sense.
    """
    if budget < 1:
        raise ValueError(f"budget is {budget}, expected at least 1")
    where = replace(where or ObjectFilter(), states=(ReviewState.UNREVIEWED,), validated=None)
    generation = last_change(registry)
    waiting = read_pool(registry, where, most=MOST_OPEN)
    judged = read_pool(registry, ObjectFilter(project=where.project, states=_JUDGED), most=MOST_JUDGED)
    items, near_failures = _ranked(waiting, judged, budget, windows, typical or TypicalObjects(), progress)
    if len(items) < budget and waiting.without_vector:
        items += _without_vector(registry, where, budget - len(items))
    total = len(waiting) + waiting.without_vector
    if len(waiting) == MOST_OPEN:
        total = registry.count(where)
    return Ranking(tuple(items), total, len(judged), near_failures, generation)


def _ranked(
    waiting: Pool,
    judged: Pool,
    budget: int,
    windows: Sequence[FailureWindow],
    typical: TypicalObjects,
    progress: Progress,
) -> tuple[list[Ranked], int]:
    if not len(waiting):
        return [], 0
    if len(judged) and judged.embedder != waiting.embedder:
        raise ConflictError(
            ErrorCode.EMBEDDER_MISMATCH,
            f"what was reviewed has vectors of {judged.embedder}, what waits of {waiting.embedder}",
            "embed all with one embedder (set_embeddings), or look at one project",
        )
    count = len(waiting)
    vectors = waiting.vectors if not len(judged) else np.concatenate([waiting.vectors, judged.vectors])
    classes = [
        NOTHING if state is ReviewState.REJECTED else label
        for state, label in zip(judged.states, judged.labels, strict=True)
    ]
    known = np.arange(count, len(vectors), dtype=np.int64)
    unsure = uncertainty(vectors, known, classes)
    common = typical.of((*waiting.object_ids, *judged.object_ids), vectors, progress)
    worth = unsure * common
    reasons = reasons_at(windows, waiting.source_ids, waiting.stamps_ns.tolist())
    failed = np.array([bool(reason) for reason in reasons], np.bool_)
    first = greedy_choice(vectors, worth, np.flatnonzero(failed).astype(np.int64), known, budget)
    known = np.concatenate([known, first.positions])
    rest = np.flatnonzero(~failed).astype(np.int64)
    second = greedy_choice(vectors, worth, rest, known, budget - len(first.positions))

    def given(choice: Choice) -> list[Ranked]:
        rows = zip(choice.positions.tolist(), choice.values.tolist(), choice.novelty.tolist(), strict=True)
        return [
            Ranked(waiting.object_ids[row], value, float(unsure[row]), float(common[row]), novelty, reasons[row])
            for row, value, novelty in rows
        ]

    return given(first) + given(second), len(first.positions)


def _without_vector(registry: ReadingRegistry, where: ObjectFilter, budget: int) -> list[Ranked]:
    bare = replace(where, has_embedding=False)
    page = registry.list_objects(bare, order=Order.LOWEST_SCORE, limit=min(budget, 1_000))
    return [Ranked(item.object_id, 0.0, 1.0 - item.score, 0.0, 0.0) for item in page.objects]


class TypicalObjects:
    """Typicality of objects, computed again only where there are others: a review changes no vector."""

    def __init__(self) -> None:
        """Begin with nothing computed."""
        self._kept: dict[str, float] = {}

    def of(self, object_ids: Sequence[str], vectors: Vectors, progress: Progress = silent) -> Shares:
        """(N,) for N objects and their vectors (N, D); see ``selection.typicality``."""
        if len(object_ids) != len(self._kept) or not self._kept.keys() >= set(object_ids):
            self._kept = dict(zip(object_ids, typicality(vectors, progress=progress).tolist(), strict=True))
        return np.array([self._kept[name] for name in object_ids])


class Rankings:
    """The newest rankings by filter, made again when the registry has changed. Any thread may ask."""

    def __init__(self, registry: ReadingRegistry, *, budget: int = USUAL_BUDGET) -> None:
        """Begin with nothing ranked."""
        self._registry, self._budget = registry, budget
        self._failures = FailureWindows()
        self._typical: dict[str, TypicalObjects] = {}
        self._kept: OrderedDict[tuple[str, int], Ranking] = OrderedDict()
        self._turn = threading.Lock()

    def newest(self, where: ObjectFilter) -> Ranking:
        """The ranking of what is there now; one that is still true is given again.

        Raises:
            RegistryError: see ``rank_next``.
        """
        with self._turn:
            key = repr(where), last_change(self._registry)
            if key not in self._kept:
                windows = self._failures.of(self._registry, where.project)
                if len(self._typical) >= _KEPT:
                    self._typical.clear()
                typical = self._typical.setdefault(key[0], TypicalObjects())
                self._kept[key] = rank_next(
                    self._registry, where, budget=self._budget, windows=windows, typical=typical
                )
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def kept(self, where: ObjectFilter, generation: int) -> Ranking | None:
        """One that was given before; None where it is no longer kept."""
        with self._turn:
            return self._kept.get((repr(where), generation))
