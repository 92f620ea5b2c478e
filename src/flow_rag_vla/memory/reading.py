# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure memory as those who only ask see it: what is similar, what a case says, what its use was worth."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterable, Sequence

import numpy as np

from flow_rag_vla.memory.backends.choice import LayeredBackend
from flow_rag_vla.memory.cache import LruCache, quantised
from flow_rag_vla.memory.calibration import Calibration
from flow_rag_vla.memory.case import Array, CaseError, EncoderStamp, FailureCase, action_distance
from flow_rag_vla.memory.conflicts import contradict
from flow_rag_vla.memory.credit import Counts, Worth, worth
from flow_rag_vla.memory.gate import Gate
from flow_rag_vla.memory.index import CaseIndex, IndexBackend
from flow_rag_vla.memory.ledger import Ledger, Successes, by_place
from flow_rag_vla.memory.misreadings import ASKED, FARTHEST, doubt
from flow_rag_vla.memory.results import MemorySettings, RetrievedCase, SearchResult
from flow_rag_vla.memory.shelf import NEIGHBOURS_COMPARED, Shelf
from flow_rag_vla.memory.statistics import Latencies
from flow_rag_vla.memory.store import CaseFilter, FailureStore, StoreError, UnknownCaseError

PAYLOADS_KEPT = 16_384
"""Whole cases kept in memory, 5 kB each; the others are read from the store when a search brings them up. An answer
looks at 64, and reading those anew takes it four times as long; practice of 100 episodes leaves 1,500 to 3,000."""


class CaseReader:
    """Searches and reads failure cases. Any number of threads may do so, while another one changes them.

    A search never waits for a change that is being written, only for the moment in which the index takes it.
    """

    def __init__(self, store: FailureStore, settings: MemorySettings, backend: IndexBackend) -> None:
        """Build the index from a store.

        Raises:
            StoreError: if it cannot be read.
        """
        self.store = store
        self.ledger = Ledger(store)
        self.settings = settings
        self._backend = backend
        self._shelf = Shelf(store, backend)
        self._searches: LruCache[tuple[RetrievedCase, ...]] = LruCache(settings.cache_size)
        self._payloads: LruCache[FailureCase] = LruCache(PAYLOADS_KEPT)
        self._latencies = Latencies()
        self._generation = self._success_generation = 0
        self._successes: tuple[int, EncoderStamp, Successes] | None = None
        self._reading_successes = threading.Lock()
        # Held while that changes, and while something is kept that was read before: briefly, never beside the disk.
        self._change = threading.Lock()
        self._search_count = self._cache_hits = 0
        self._gate = Gate(store)
        self._see_all()

    @property
    def stamp(self) -> EncoderStamp | None:
        """Whose embeddings the memory holds; None while it is empty."""
        return self.store.stamp

    @property
    def generation(self) -> int:
        """Changes whenever a case or a stored success does: what was computed from them before is out of date."""
        return self._generation

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in force; None while the default threshold is."""
        return self._gate.calibration

    @property
    def threshold(self) -> float:
        """Cosine similarity from which on a case is credible."""
        found = self._gate.calibration
        return self.settings.threshold if found is None else found.threshold

    @property
    def calibration_id(self) -> str:
        """12 hex digits of the calibration in force; "" while the default threshold is."""
        found = self._gate.calibration
        return "" if found is None else found.calibration_id

    def search(
        self,
        embedding: Array,
        *,
        stamp: EncoderStamp | None = None,
        k: int | None = None,
        threshold: float | None = None,
        task: str = "",
        phase: str = "",
    ) -> SearchResult:
        """Find the k active cases nearest to an embedding, at or above a threshold, most similar first.

        Args:
            embedding: (D,) float32 unit vector.
            stamp: whose embedding it is; None if it is known to be right.
            k: how many at most; None: the setting.
            threshold: cosine similarity; None: the memory's own.
            task: only cases of this task; "" for any.
            phase: only cases of this phase; "" for any.

        Raises:
            EncoderMismatchError: if the cases were made by another encoder.
            CaseError: if the embedding has another dimension than the cases, or k is not positive.
        """
        started = time.perf_counter()
        limit = self.threshold if threshold is None else threshold
        count = self.settings.k if k is None else k
        if count < 1:
            raise CaseError(f"k is {count}, expected at least 1")
        if stamp is not None:
            self.store.check_stamp(stamp)
        index = self._shelf.index
        if index is not None and embedding.shape != (index.stamp.dimension,):
            raise CaseError(f"embedding has shape {embedding.shape}, but the cases are of {index.stamp}")
        key = (quantised(embedding), count, limit, task, phase, self._generation)
        cases = self._searches.get(key)
        from_cache = cases is not None
        if cases is None:
            cases = self._shelf.nearest(embedding, count, limit, task, phase)
            self._searches.put(key, cases)
        self._search_count += 1
        self._cache_hits += from_cache
        elapsed_ms = (time.perf_counter() - started) * 1e3
        self._latencies.add(elapsed_ms)
        return SearchResult(cases, limit, elapsed_ms, from_cache)

    def nearest(
        self, embedding: Array, *, k: int, threshold: float, task: str = "", phase: str = ""
    ) -> tuple[RetrievedCase, ...]:
        """As :meth:`search` with an embedding that is known to be right, but neither counted, timed nor remembered."""
        return self._shelf.nearest(embedding, k, threshold, task, phase)

    def cases(self, ids: Iterable[int]) -> dict[int, FailureCase]:
        """Whole cases by id; ids that are not there are left out.

        Raises:
            StoreError: if the store cannot be read.
        """
        found: dict[int, FailureCase] = {}
        missing: list[int] = []
        generation = self._generation
        for case_id in ids:
            case = self._payloads.get(case_id)
            if case is None:
                missing.append(case_id)
            else:
                found[case_id] = case
        if missing:
            read = self.store.get(missing)
            found.update(read)
            with self._change:
                # What was read before a change must not answer after it.
                if generation == self._generation:
                    for case_id, case in read.items():
                        self._payloads.put(case_id, case)
        return found

    def successes(self, stamp: EncoderStamp) -> Successes:
        """The stored successes of an encoder: one copy for all who ask, until they change.

        Raises:
            StoreError: if the store cannot be read.
        """
        with self._reading_successes:
            moment = self._success_generation
            kept = self._successes
            if kept is None or kept[:2] != (moment, stamp):
                # The old ones may go as soon as nobody looks at them any more.
                self._successes = None
                kept = self._successes = moment, stamp, by_place(self.ledger.successes(stamp))
            return kept[2]

    def get(self, case_id: int) -> FailureCase:
        """One whole case.

        Raises:
            UnknownCaseError: if there is none of this id.
        """
        case = self.store.get([case_id]).get(case_id)
        if case is None:
            raise UnknownCaseError(case_id)
        return case

    def page(self, which: CaseFilter, offset: int = 0, limit: int = 100) -> tuple[int, list[FailureCase]]:
        """Give the number of cases that a filter lets through, and one page of them, newest first."""
        return self.store.page(which, offset, limit)

    def duplicate_of(self, case: FailureCase) -> int | None:
        """Id of a stored case that says the same, or None."""
        near = self._shelf.same_failures(case, self.settings.duplicate_similarity)
        known = self.cases(near)
        for case_id in near:
            alike = known.get(case_id)
            if alike is not None and self._repeats(alike, case):
                return case_id
        return None

    def unknown(self, cases: Sequence[FailureCase]) -> list[FailureCase]:
        """Those of some cases that neither a stored one nor an earlier one of them says already.

        Raises:
            EncoderMismatchError: if one is of another encoder than the cases that are there.
            StoreError: if they are of more than one encoder, or the store cannot be read.
        """
        fresh: list[FailureCase] = []
        arriving: CaseIndex | None = None
        for case in cases:
            self.store.check_stamp(case.stamp)
            if arriving is None:
                arriving = self._shelf.arrivals(case)
            elif case.stamp != arriving.stamp:
                raise StoreError(f"cases of {arriving.stamp} and {case.stamp} cannot be stored together")
            if self.duplicate_of(case) is not None or self._is_among(fresh, arriving, case):
                continue
            arriving.add(case.group, [len(fresh)], case.embedding)
            fresh.append(case)
        return fresh

    def rivals_of(self, case: FailureCase) -> list[FailureCase]:
        """Active cases of nearly the same situation whose corrections are far from that of a case."""
        if case.correction is None:
            return []
        near = self._shelf.same_situations(case, self.settings.duplicate_similarity)
        return [
            rival
            for case_id, rival in self.cases(near).items()
            if case_id != case.case_id and contradict(rival, case, self.settings.contradiction_distance)
        ]

    def doubted(self, case: FailureCase, without: Container[int] = ()) -> str | None:
        """Why what a case says of a misread target is not believed here; None if it is, or it says nothing.

        without: cases that have no say

        Raises:
            StoreError: if the store cannot be read.
        """
        if case.misreading is None or self.stamp != case.stamp:
            return None
        near = self.nearest(case.embedding, k=ASKED, threshold=FARTHEST, task=case.task, phase=case.phase)
        whole = self.cases(item.case_id for item in near if item.case_id != case.case_id)
        known = [other for other in whole.values() if other.misreading is not None and other.case_id not in without]
        place = self.successes(case.stamp).get((case.task, case.phase))
        return doubt(case, known, place, self.settings.guard.misreading)

    def worth(self, case: FailureCase) -> Worth:
        """What the use of a case is worth, from all robots' uses, or those here since it was last restored."""
        restored = [item for item in case.history if item.change == "restored"]
        used, passed_over = self.ledger.counted(case.case_id, restored[-1].after_use if restored else 0)
        if not restored:
            used = Counts(case.uses, case.successes)
        phase, task = self.ledger.baseline(case.task, case.phase), self.ledger.baseline(case.task)
        return worth(used, passed_over, phase, task, self.settings.credit)

    def settle_index(self) -> None:
        """Return when no better index is being made in the background: for tests and measurements."""
        if isinstance(self._backend, LayeredBackend):
            self._backend.builder.settle()

    def _repeats(self, known: FailureCase, case: FailureCase) -> bool:
        """Whether in two similar situations the same failed."""
        distance = action_distance(known.failed_actions, case.failed_actions)
        return distance <= self.settings.duplicate_action_distance

    def _is_among(self, fresh: Sequence[FailureCase], places: CaseIndex, case: FailureCase) -> bool:
        """Whether one of these cases says the same; places: an index of their places in the sequence."""
        similarities, near = places.search_group(case.group, case.embedding[np.newaxis, :], NEIGHBOURS_COMPARED)
        return any(
            similarity >= self.settings.duplicate_similarity and self._repeats(fresh[place], case)
            for place, similarity in zip(near[0].tolist(), similarities[0].tolist(), strict=True)
        )

    def _see_all(self) -> None:
        """The whole shelf may be another: take the calibration that goes with it."""
        self._gate.reload(self.settings)
        self._changed(successes=True)

    def _changed(self, case_ids: Iterable[int] | None = None, *, successes: bool = False) -> None:
        """Let nothing answer that is out of date. Called when a change is durable.

        Args:
            case_ids: of cases that are others now, or gone; None: any may be.
            successes: whether the stored successes may be others.
        """
        with self._change:
            self._generation += 1
            if case_ids is None:
                self._payloads.clear()
            else:
                self._payloads.drop(case_ids)
            self._success_generation += successes
        self._searches.clear()
