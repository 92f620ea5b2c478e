# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is held of a database for searches: an index of the active cases, one of the retired, and a row for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.backends.base import IndexUnavailableError
from flow_rag_vla.memory.backends.choice import LayeredBackend
from flow_rag_vla.memory.case import Array, FailureCase, GroupKey
from flow_rag_vla.memory.credit import Counts
from flow_rag_vla.memory.index import CaseIndex, IndexBackend
from flow_rag_vla.memory.loading import Loaded, Loader
from flow_rag_vla.memory.pruning import candidates, least_valuable, nearest_others
from flow_rag_vla.memory.results import RetrievedCase
from flow_rag_vla.memory.statistics import IndexStatistics
from flow_rag_vla.memory.store import CaseSummary, FailureStore, StoreError
from flow_rag_vla.memory.table import CaseTable

NEIGHBOURS_COMPARED = 64
"""Most similar cases whose actions a new case is compared with: a scene that stands still gives many alike."""


class Shelf:
    """The cases of a store as searches see them. Any number of threads may search, one at a time may change it."""

    def __init__(self, store: FailureStore, backend: IndexBackend) -> None:
        """Load what the store has.

        Raises:
            StoreError: if it cannot be read.
        """
        self._store, self._backend = store, backend
        self._loader = Loader(store, backend)
        self._loaded: Loaded
        self._version: int
        self.active: int
        """Number of cases that searches see."""
        self._load()

    @property
    def index(self) -> CaseIndex | None:
        """Of active cases; None before the first."""
        return self._loaded.index

    @property
    def retired(self) -> CaseIndex | None:
        """Of cases taken out; None before the first case."""
        return self._loaded.retired

    @property
    def table(self) -> CaseTable:
        """A row for each case, active or not."""
        return self._loaded.table

    @property
    def is_due(self) -> bool:
        """Whether files of the index would spare a restart much."""
        return self._loader.is_due(self._loaded)

    def nearest(self, embedding: Array, k: int, threshold: float, task: str, phase: str) -> tuple[RetrievedCase, ...]:
        """The k active cases nearest to an embedding (D,) float32, at or above a threshold, most similar first."""
        index = self.index
        if index is None:
            return ()
        found = {
            case_id: min(similarity, 1.0)
            for case_id, similarity in index.search(embedding, k, task, phase)
            if similarity >= threshold
        }
        # A case may have been dropped between the two look-ups.
        return tuple(RetrievedCase(summary, found[summary.case_id]) for summary in self.table.of(tuple(found)))

    def same_failures(self, case: FailureCase, similarity: float) -> list[int]:
        """Cases of the group of a case, active or retired, at least this similar to it."""
        return [
            case_id
            for index in (self.index, self.retired)
            if index is not None
            for case_id in _near(index, case.group, case.embedding, similarity)
        ]

    def same_situations(self, case: FailureCase, similarity: float) -> list[int]:
        """Active cases of the task and phase of a case, of whatever type, at least this similar to it."""
        index = self.index
        if index is None:
            return []
        groups = (GroupKey(case.task, case.phase, kind) for kind in FailureType)
        return [case_id for group in groups for case_id in _near(index, group, case.embedding, similarity)]

    def arrivals(self, case: FailureCase) -> CaseIndex:
        """A place for cases of the kind of this one that are compared with each other before they are stored."""
        return self._loader.arrivals(case.stamp)

    def least_valuable(self, arriving: FailureCase, generator: np.random.Generator) -> CaseSummary | None:
        """The case that goes for a new one when there is no room, see ``pruning``; None if none may."""
        index = self.index
        if index is None:
            return None
        summaries: list[CaseSummary] = []
        nearest: list[Array] = []
        for group, ids in candidates(index, arriving.group, generator).items():
            embedding = arriving.embedding if group == arriving.group else None
            nearest.append(nearest_others(index, group, ids, embedding))
            summaries.extend(self.table[case_id] for case_id in ids.tolist())
        return least_valuable(summaries, np.concatenate(nearest)) if summaries else None

    def take(self, case: FailureCase) -> None:
        """Let searches know a case that was stored."""
        loaded = self._loaded
        if loaded.index is None or loaded.retired is None:
            loaded.index = CaseIndex(case.stamp, self._backend, "active")
            loaded.retired = CaseIndex(case.stamp, self._backend, "retired")
        self.table[case.case_id] = CaseSummary(
            case.case_id,
            case.group,
            case.correction is not None,
            case.uses,
            case.successes,
            case.retired,
            case.created_ns or time.time_ns(),
        )
        try:
            (loaded.retired if case.retired else loaded.index).add(case.group, [case.case_id], case.embedding)
        except IndexUnavailableError as error:
            # It is durable; the next look at the database takes it into the index.
            self._loader.fell_behind(error)
        self.active += 0 if case.retired else 1

    def drop(self, case_ids: Iterable[int]) -> None:
        """Let searches forget cases."""
        for case_id in case_ids:
            summary = self.table[case_id]
            index = self._loaded.space(summary.retired)
            if index is not None:
                try:
                    index.remove(summary.group, [case_id])
                except IndexUnavailableError as error:
                    self._loader.fell_behind(error)
            self.table.pop(case_id, None)
            self.active -= 0 if summary.retired else 1

    def credit(self, totals: Mapping[int, Counts]) -> None:
        """Let searches know the new totals of cases, in whole episodes."""
        for case_id, counts in totals.items():
            self.table[case_id] = replace(
                self.table[case_id], uses=int(counts.episodes), successes=int(counts.successes)
            )

    def refresh(self) -> bool:
        """Take in what another program has written to the database; say whether it had.

        Raises:
            StoreError: if it cannot be read.
        """
        if self._store.data_version() == self._version and not self._loader.behind:
            return False
        self._store.reload_stamp()
        version = self._store.data_version()
        if self._catch_up():
            self._version = version
        else:
            self._load()
        return True

    def keeping(self) -> Callable[[], bool] | None:
        """What writes the index to files and says whether that worked; None if there is nothing to gain by it.

        Called with changes kept out, for the state is copied; the writing need not be.

        Raises:
            StoreError: if the database cannot be read.
        """
        if not self.is_due or not self._catch_up():
            return None
        moment = self._loader.moment(self._loaded)
        return None if moment is None else lambda: self._loader.save(moment)

    def keep_later(self, keep: Callable[[], bool]) -> None:
        """Have the index kept in the background if that is due."""
        if isinstance(self._backend, LayeredBackend) and self.is_due:
            self._backend.builder.submit_once("keep", lambda: self.keep_quietly(keep))

    def keep_quietly(self, keep: Callable[[], bool]) -> None:
        """Have the index kept; that it could not be costs the next start some time, and is said in the statistics."""
        try:
            keep()
        except StoreError as error:
            self._loader.problem = f"the index could not be kept: {error}"

    def statistics(self) -> IndexStatistics:
        """How searches are answered at the moment."""
        return IndexStatistics.of(self.index, self._loaded.source, self._loader.problem)

    def _load(self) -> None:
        self._version = self._store.data_version()
        self._loaded = self._loader.load()
        self.active = self.table.active

    def _catch_up(self) -> bool:
        """Take in what the log of the database says; False if it does not go back far enough."""
        if not self._loader.catch_up(self._loaded):
            return False
        self.active = self.table.active
        return True


def _near(index: CaseIndex, group: GroupKey, embedding: Array, similarity: float) -> list[int]:
    """The most similar cases of a group."""
    similarities, ids = index.search_group(group, embedding[np.newaxis, :], NEIGHBOURS_COMPARED)
    near: list[int] = ids[0][similarities[0] >= similarity].tolist()
    return near
