"""The failure memory: what is stored, what is similar, and what using it was good for."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.cache import LruCache, quantised
from flow_rag_vla.memory.calibration import SITUATIONS_KEPT, Calibration, calibrate
from flow_rag_vla.memory.case import Array, CaseError, EncoderStamp, FailureCase, action_distance, unit_embedding
from flow_rag_vla.memory.index import CaseIndex, IndexFactory, faiss_factory
from flow_rag_vla.memory.pruning import candidates, least_valuable, nearest_others
from flow_rag_vla.memory.results import AddResult, MemorySettings, RetrievedCase, SearchResult
from flow_rag_vla.memory.salvage import SalvageReport, open_or_salvage
from flow_rag_vla.memory.statistics import Latencies, MemoryStatistics
from flow_rag_vla.memory.store import CaseFilter, CaseSummary, FailureStore, StoreError, UnknownCaseError

NEIGHBOURS_COMPARED = 64
"""Most similar cases whose actions a new case is compared with: a scene that stands still gives many alike."""

PAYLOADS_KEPT = 256
"""Whole cases kept in memory; the others are read from the store when a search brings them up."""


class FailureMemory:
    """Failure cases in a store, with an index that is rebuilt from it.

    Threads: any number may search and read; methods that change something hold one lock until their change is
    durable. A search never waits for a change that is being written, only for the moment in which the index takes it.
    """

    def __init__(
        self, store: FailureStore, settings: MemorySettings | None = None, make_index: IndexFactory | None = None
    ) -> None:
        """Build the index from a store, which the memory then owns."""
        self.store = store
        self.settings = settings or MemorySettings()
        self._make_index = make_index or faiss_factory()
        self._write_lock = threading.RLock()
        self._searches: LruCache[tuple[RetrievedCase, ...]] = LruCache(self.settings.cache_size)
        self._payloads: LruCache[FailureCase] = LruCache(PAYLOADS_KEPT)
        self._latencies = Latencies()
        self._generator = np.random.default_rng(self.settings.seed)
        self._generation = 0
        self._added = self._duplicates = self._invalid = self._pruned = 0
        self._search_count = self._cache_hits = 0
        self._load()

    @classmethod
    def open(
        cls, path: str | Path, settings: MemorySettings | None = None, make_index: IndexFactory | None = None
    ) -> tuple[FailureMemory, SalvageReport | None]:
        """Open a database, saving what is intact of a damaged one; the report says so if it was.

        Raises:
            StoreError: if it cannot be opened.
        """
        store, report = open_or_salvage(path)
        return cls(store, settings, make_index), report

    def close(self) -> None:
        """Close the store."""
        with self._write_lock:
            self.store.close()

    @property
    def stamp(self) -> EncoderStamp | None:
        """Whose embeddings the memory holds; None while it is empty."""
        return self.store.stamp

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in force; None while the default threshold is."""
        return self._calibration

    @property
    def threshold(self) -> float:
        """Cosine similarity from which on a case is credible."""
        found = self._calibration
        return self.settings.threshold if found is None else found.threshold

    def configure(self, settings: MemorySettings) -> None:
        """Take new settings for the searches and changes to come."""
        with self._write_lock:
            self.settings = settings
            self._searches.size = settings.cache_size
            self._changed()

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
        index = self._index
        if index is not None and embedding.shape != (index.stamp.dimension,):
            raise CaseError(f"embedding has shape {embedding.shape}, but the cases are of {index.stamp}")
        key = (quantised(embedding), count, limit, task, phase, self._generation)
        cases = self._searches.get(key)
        from_cache = cases is not None
        if cases is None:
            cases = self._nearest(index, embedding, count, limit, task, phase)
            self._searches.put(key, cases)
        self._search_count += 1
        self._cache_hits += from_cache
        elapsed_ms = (time.perf_counter() - started) * 1e3
        self._latencies.add(elapsed_ms)
        return SearchResult(cases, limit, elapsed_ms, from_cache)

    def cases(self, ids: Iterable[int]) -> dict[int, FailureCase]:
        """Whole cases by id; ids that are not there are left out.

        Raises:
            StoreError: if the store cannot be read.
        """
        found: dict[int, FailureCase] = {}
        missing: list[int] = []
        # Part of the key: what was read before a change must not answer after it.
        generation = self._generation
        for case_id in ids:
            case = self._payloads.get((generation, case_id))
            if case is None:
                missing.append(case_id)
            else:
                found[case_id] = case
        if missing:
            for case_id, case in self.store.get(missing).items():
                found[case_id] = case
                self._payloads.put((generation, case_id), case)
        return found

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

    def add(self, case: FailureCase) -> AddResult:
        """Store a case unless it is known already; accepted means durable.

        A duplicate has the same task, phase and type, a similar embedding, and a similar failed chunk as a case that
        is there. A retired case counts too: what was taken out on purpose must not come back by itself. When the
        memory is full the least valuable case goes (see ``pruning``) in the same transaction.

        Raises:
            EncoderMismatchError: if it was made by another encoder than the cases that are there.
            StoreError: if it cannot be written; nothing was changed then.
        """
        with self._write_lock:
            self.store.check_stamp(case.stamp)
            known = self.duplicate_of(case)
            if known is not None:
                self._duplicates += 1
                return AddResult(False, known, self._duplicate_message(case, known))
            victim: CaseSummary | None = None
            if not case.retired and self._active >= self.settings.capacity:
                victim = self._victim(case)
                if victim is None:
                    return AddResult(
                        False,
                        0,
                        f"the memory is full with {self._active} cases, each the last of its task, phase and type; "
                        "raise the parameter capacity or retire cases",
                    )
            case_id = self.store.add([case], () if victim is None else (victim.case_id,))[0]
            if victim is not None:
                self._forget(victim)
                self._pruned += 1
            self._take(dataclasses.replace(case, case_id=case_id))
            self._added += 1
            self._changed()
            return AddResult(True, case_id, "", () if victim is None else (victim.case_id,))

    def add_all(self, cases: Sequence[FailureCase], *, dry_run: bool = False) -> tuple[int, int]:
        """Store all cases that are not known, in one transaction; give the numbers stored and known already.

        Raises:
            EncoderMismatchError: if they are of more than one encoder, or another than the cases that are there.
            StoreError: if they do not fit or cannot be written; nothing was changed then.
        """
        with self._write_lock:
            fresh: list[FailureCase] = []
            arriving: CaseIndex | None = None
            for case in cases:
                self.store.check_stamp(case.stamp)
                if arriving is None:
                    arriving = CaseIndex(case.stamp, self._make_index)
                elif case.stamp != arriving.stamp:
                    raise StoreError(f"cases of {arriving.stamp} and {case.stamp} cannot be stored together")
                if self.duplicate_of(case) is not None or self._is_known(case, arriving, fresh):
                    continue
                arriving.add(case.group, [len(fresh)], case.embedding)
                fresh.append(case)
            room = self.settings.capacity - self._active
            wanted = sum(not case.retired for case in fresh)
            if wanted > room:
                raise StoreError(
                    f"{wanted} active cases are new but there is room for {max(room, 0)}; raise the parameter capacity "
                    "or retire cases first"
                )
            if not dry_run and fresh:
                ids = self.store.add(fresh)
                for case, case_id in zip(fresh, ids, strict=True):
                    self._take(dataclasses.replace(case, case_id=case_id))
                self._added += len(fresh)
                self._changed()
            return len(fresh), len(cases) - len(fresh)

    def duplicate_of(self, case: FailureCase) -> int | None:
        """Id of a stored case that says the same, or None."""
        for index in (self._index, self._retired):
            if index is None:
                continue
            similarities, ids = index.search_group(case.group, case.embedding[np.newaxis, :], NEIGHBOURS_COMPARED)
            near = [
                case_id
                for case_id, similarity in zip(ids[0].tolist(), similarities[0].tolist(), strict=True)
                if similarity >= self.settings.duplicate_similarity
            ]
            for case_id, known in self.cases(near).items():
                distance = action_distance(known.failed_actions, case.failed_actions)
                if distance <= self.settings.duplicate_action_distance:
                    return case_id
        return None

    def edit(
        self,
        case_id: int,
        *,
        correction: Array | None = None,
        correction_source: str = "human",
        forget_correction: bool = False,
        failure_type: FailureType | None = None,
        note: str | None = None,
    ) -> FailureCase:
        """Change what may be known better later; None leaves a field as it is.

        Raises:
            UnknownCaseError: if there is no such case.
            CaseError: if the correction does not fit the failed chunk.
            StoreError: if it cannot be written; nothing was changed then.
        """
        with self._write_lock:
            before = self.get(case_id)
            after = before
            if correction is not None:
                after = dataclasses.replace(after, correction=correction, correction_source=correction_source)
            elif forget_correction:
                after = dataclasses.replace(after, correction=None, correction_source="")
            if failure_type is not None:
                after = dataclasses.replace(after, failure_type=failure_type)
            if note is not None:
                after = dataclasses.replace(after, note=note)
            self._replace(after)
            return after

    def retire(self, case_id: int, retired: bool = True, reason: str = "") -> FailureCase:
        """Take a case out of every search, or back in; it stays on disk.

        Raises:
            UnknownCaseError: if there is no such case.
            StoreError: if it cannot be written, or there is no room to take it back in.
        """
        with self._write_lock:
            before = self.get(case_id)
            if not retired and before.retired and self._active >= self.settings.capacity:
                raise StoreError(
                    f"the memory is full with {self._active} cases; raise the parameter capacity or retire another one"
                )
            after = dataclasses.replace(before, retired=retired, retired_reason=reason if retired else "")
            self._replace(after)
            return after

    def record_use(self, ids: Iterable[int], success: bool) -> None:
        """Credit (or debit) cases that shaped an episode: one use each, and a success if it succeeded.

        The credit of a case is the posterior mean (successes + 1) / (uses + 2). Chunks of one episode are not
        independent, so a case is counted once an episode however many it shaped. Unknown ids are ignored.

        Raises:
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            known = sorted({case_id for case_id in ids if case_id in self._summaries})
            if not known:
                return
            self.store.record_use(known, success)
            for case_id in known:
                before = self._summaries[case_id]
                self._summaries[case_id] = dataclasses.replace(
                    before, uses=before.uses + 1, successes=before.successes + int(success)
                )
            self._changed()

    def observe_success(self, situations: Sequence[tuple[str, str, Array]]) -> Calibration | None:
        """Take in situations (task, phase, (D,) float32 embedding) without a failure; calibrate the threshold anew.

        Raises:
            CaseError: if an embedding is no unit vector of the memory's dimension.
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            checked = [(task, phase, unit_embedding(vector)) for task, phase, vector in situations]
            stamp = self.stamp
            for _, _, vector in checked:
                if stamp is not None and vector.shape[0] != stamp.dimension:
                    raise CaseError(f"embedding has {vector.shape[0]} numbers, but the cases are of {stamp}")
            self.store.add_situations(checked, SITUATIONS_KEPT)
            return self.recalibrate()

    def recalibrate(self) -> Calibration | None:
        """Set the threshold from what is stored; None, and the default one, if that is not enough.

        Raises:
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            index = self._index
            if index is None or not self.settings.calibrate:
                return None
            situations = self.store.situations(index.stamp.dimension)
            found = calibrate(index, situations, self.settings.false_retrieval_rate, self.settings.threshold)
            if found is not None:
                self.store.write_settings(found.to_settings())
            self._calibration = found
            self._changed()
            return found

    def refresh(self) -> bool:
        """Rebuild the index if another program has written to the database; say whether it had.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._write_lock:
            if self.store.data_version() == self._data_version:
                return False
            self.store.reload_stamp()
            self._load()
            return True

    def refuse(self) -> None:
        """Count something that made no valid case; one thread counts these."""
        self._invalid += 1

    def statistics(self) -> MemoryStatistics:
        """Counts and latencies."""
        middle, high = self._latencies.percentiles()
        return MemoryStatistics(
            cases=self._active,
            retired=len(self._summaries) - self._active,
            capacity=self.settings.capacity,
            added=self._added,
            refused_duplicates=self._duplicates,
            refused_invalid=self._invalid,
            pruned=self._pruned,
            searches=self._search_count,
            cache_hits=self._cache_hits,
            search_p50_ms=middle,
            search_p99_ms=high,
            threshold=self.threshold,
            calibrated=self._calibration is not None,
            stamp=self.stamp,
        )

    def _load(self) -> None:
        self._data_version = self.store.data_version()
        stamp = self.store.stamp
        index = None if stamp is None else CaseIndex(stamp, self._make_index)
        retired = None if stamp is None else CaseIndex(stamp, self._make_index)
        summaries: dict[int, CaseSummary] = {}
        active = 0
        for batch, vectors in self.store.summaries():
            for group, out in {(item.group, item.retired) for item in batch}:
                rows = [row for row, item in enumerate(batch) if item.group == group and item.retired == out]
                target = retired if out else index
                if target is not None:
                    target.add(group, [batch[row].case_id for row in rows], vectors[rows])
                active += 0 if out else len(rows)
            summaries.update((item.case_id, item) for item in batch)
        self._index, self._retired, self._summaries, self._active = index, retired, summaries, active
        found = Calibration.from_settings(self.store.settings()) if self.settings.calibrate else None
        self._calibration = found if found is not None and found.stamp == stamp else None
        self._changed()

    def _nearest(
        self, index: CaseIndex | None, embedding: Array, k: int, threshold: float, task: str, phase: str
    ) -> tuple[RetrievedCase, ...]:
        if index is None:
            return ()
        found = []
        for case_id, similarity in index.search(embedding, k, task, phase):
            # A case may have been dropped between the two look-ups.
            summary = self._summaries.get(case_id)
            if summary is not None and similarity >= threshold:
                found.append(RetrievedCase(summary, min(similarity, 1.0)))
        return tuple(found)

    def _take(self, case: FailureCase) -> None:
        if self._index is None or self._retired is None:
            self._index = CaseIndex(case.stamp, self._make_index)
            self._retired = CaseIndex(case.stamp, self._make_index)
        summary = CaseSummary(
            case.case_id,
            case.group,
            case.correction is not None,
            case.uses,
            case.successes,
            case.retired,
            case.created_ns or time.time_ns(),
        )
        self._summaries[case.case_id] = summary
        (self._retired if case.retired else self._index).add(case.group, [case.case_id], case.embedding)
        self._active += 0 if case.retired else 1

    def _forget(self, summary: CaseSummary) -> None:
        index = self._retired if summary.retired else self._index
        if index is not None:
            index.remove(summary.group, [summary.case_id])
        self._summaries.pop(summary.case_id, None)
        self._active -= 0 if summary.retired else 1

    def _replace(self, case: FailureCase) -> None:
        self.store.update(case)
        self._forget(self._summaries[case.case_id])
        self._take(case)
        self._changed()

    def _changed(self) -> None:
        self._generation += 1
        self._searches.clear()
        self._payloads.clear()

    def _victim(self, case: FailureCase) -> CaseSummary | None:
        index = self._index
        if index is None:
            return None
        summaries: list[CaseSummary] = []
        nearest: list[Array] = []
        for group, ids in candidates(index, case.group, self._generator).items():
            arriving = case.embedding if group == case.group else None
            nearest.append(nearest_others(index, group, ids, arriving))
            summaries.extend(self._summaries[case_id] for case_id in ids.tolist())
        return least_valuable(summaries, np.concatenate(nearest)) if summaries else None

    def _is_known(self, case: FailureCase, arriving: CaseIndex, fresh: Sequence[FailureCase]) -> bool:
        similarities, places = arriving.search_group(case.group, case.embedding[np.newaxis, :], NEIGHBOURS_COMPARED)
        return any(
            similarity >= self.settings.duplicate_similarity
            and action_distance(fresh[place].failed_actions, case.failed_actions)
            <= self.settings.duplicate_action_distance
            for place, similarity in zip(places[0].tolist(), similarities[0].tolist(), strict=True)
        )

    def _duplicate_message(self, case: FailureCase, known: int) -> str:
        text = f"case {known} is the same failure: same task, phase and type, similar embedding and actions"
        summary = self._summaries.get(known)
        if case.correction is not None and summary is not None and not summary.has_correction:
            text += f"; case {known} has no correction yet, edit it to store the one given"
        return text
