"""The failure memory: what is stored, what is similar, and what using it was good for."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.backends.base import IndexUnavailableError
from flow_rag_vla.memory.backends.choice import LayeredBackend
from flow_rag_vla.memory.cache import LruCache, quantised
from flow_rag_vla.memory.calibration import SITUATIONS_KEPT, Calibration, calibrate
from flow_rag_vla.memory.case import (
    Array,
    CaseError,
    EncoderStamp,
    FailureCase,
    GroupKey,
    Revision,
    action_distance,
    unit_embedding,
)
from flow_rag_vla.memory.conflicts import contradict, lost_to, prevails
from flow_rag_vla.memory.credit import CaseUse, Counts, UseResult, Worth, worth
from flow_rag_vla.memory.guard import STOPPED, Guard, GuardError, within_limits
from flow_rag_vla.memory.images import CaseImage
from flow_rag_vla.memory.index import CaseIndex, IndexBackend, IndexFactory, as_backend, faiss_factory
from flow_rag_vla.memory.inspection import Inspection
from flow_rag_vla.memory.ledger import Ledger, SuccessSituation
from flow_rag_vla.memory.loading import Loaded, Loader
from flow_rag_vla.memory.pruning import candidates, least_valuable, nearest_others
from flow_rag_vla.memory.results import AddResult, MemorySettings, RetrievedCase, SearchResult
from flow_rag_vla.memory.salvage import SalvageReport, open_or_salvage
from flow_rag_vla.memory.statistics import IndexStatistics, Latencies, MemoryStatistics
from flow_rag_vla.memory.store import CaseFilter, CaseSummary, FailureStore, StoreError, UnknownCaseError

NEIGHBOURS_COMPARED = 64
"""Most similar cases whose actions a new case is compared with: a scene that stands still gives many alike."""

PAYLOADS_KEPT = 4096
"""Whole cases kept in memory; the others are read from the store when a search brings them up."""


class FailureMemory:
    """Failure cases in a store, with an index that is rebuilt from it.

    Threads: any number may search and read; methods that change something hold one lock until their change is
    durable. A search never waits for a change that is being written, only for the moment in which the index takes it.
    """

    def __init__(
        self,
        store: FailureStore,
        settings: MemorySettings | None = None,
        make_index: IndexFactory | IndexBackend | None = None,
    ) -> None:
        """Build the index from a store. The memory then owns the store and the backend."""
        self.store = store
        self.ledger = Ledger(store)
        self.settings = settings or MemorySettings()
        self._backend = as_backend(make_index or faiss_factory())
        self._loader = Loader(store, self._backend)
        self._write_lock = threading.RLock()
        self._searches: LruCache[tuple[RetrievedCase, ...]] = LruCache(self.settings.cache_size)
        self._payloads: LruCache[FailureCase] = LruCache(PAYLOADS_KEPT)
        self._latencies = Latencies()
        self._generator = np.random.default_rng(self.settings.seed)
        self._generation = 0
        self._added = self._duplicates = self._invalid = self._pruned = self._guarded = 0
        self._guard: tuple[tuple[float, EncoderStamp | None], Guard] | None = None
        self._success_count = self.ledger.success_count()
        self._search_count = self._cache_hits = 0
        self._index: CaseIndex | None
        self._loaded: Loaded
        self._data_version: int
        self._load()
        self._inspection = Inspection(store.path) if store.unverified else None

    @classmethod
    def open(
        cls,
        path: str | Path,
        settings: MemorySettings | None = None,
        make_index: IndexFactory | IndexBackend | None = None,
    ) -> tuple[FailureMemory, SalvageReport | None]:
        """Open a database, saving what is intact of a damaged one; the report says so if it was.

        Raises:
            StoreError: if it cannot be opened.
        """
        store, report = open_or_salvage(path)
        return cls(store, settings, make_index), report

    def close(self) -> None:
        """Keep the index for the next start, and close the store."""
        if self._inspection is not None:
            self._inspection.close()
        self._keep_quietly()
        self._backend.close()
        with self._write_lock:
            self.store.close()

    def settle_index(self) -> None:
        """Return when no better index is being made in the background: for tests and measurements."""
        if isinstance(self._backend, LayeredBackend):
            self._backend.builder.settle()

    def keep_index(self) -> bool:
        """Keep the index in files beside the database, if there is something new that a restart would gain by.

        Changes wait while the state is copied, searches do not wait at all. Say whether files were written.
        """
        with self._write_lock:
            if not self._loader.is_due(self._loaded) or not self._caught_up():
                return False
            moment = self._loader.moment(self._loaded)
        return moment is not None and self._loader.save(moment)

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
            self._guard = None
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

    def nearest(
        self, embedding: Array, *, k: int, threshold: float, task: str = "", phase: str = ""
    ) -> tuple[RetrievedCase, ...]:
        """As :meth:`search` with an embedding that is known to be right, but neither counted, timed nor remembered."""
        return self._nearest(self._index, embedding, k, threshold, task, phase)

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

    def add(self, case: FailureCase, images: tuple[CaseImage, ...] = ()) -> AddResult:
        """Store a case unless it is known already; accepted means durable, and that it may act.

        A duplicate has the same task, phase and type, a similar embedding, and a similar failed chunk as a case that
        is there. A retired case counts too: what was taken out on purpose must not come back by itself. When the
        memory is full the least valuable case goes (see ``pruning``) in the same transaction. A case that the guard
        stops, or that contradicts one of better credit, is stored retired; an active one that it beats is retired.

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
            if not case.calibration_id:
                case = dataclasses.replace(case, calibration_id=self.calibration_id)
            stopped, beaten = self._tried(case)
            if stopped:
                case = self._as_retired(case, stopped)
            victim: CaseSummary | None = None
            if not case.retired and self._active - len(beaten) >= self.settings.capacity:
                victim = self._victim(case)
                if victim is None:
                    return AddResult(
                        False,
                        0,
                        f"the memory is full with {self._active} cases, each the last of its task, phase and type; "
                        "raise the parameter capacity or retire cases",
                    )
            remove = () if victim is None else (victim.case_id,)
            changed = {item.case_id: item for item in beaten if item.case_id not in remove}
            case_id = self.apply([case], changed, {0: images} if images else None, remove)[0]
            if victim is not None:
                self._pruned += 1
            if stopped:
                return AddResult(False, case_id, f"case {case_id} is kept retired: {stopped}")
            return AddResult(True, case_id, "", remove)

    def apply(
        self,
        fresh: Sequence[FailureCase],
        changed: Mapping[int, FailureCase],
        images: Mapping[int, tuple[CaseImage, ...]] | None = None,
        remove: Sequence[int] = (),
    ) -> list[int]:
        """Store, change and drop cases in one transaction, then let searches know; give the new ones' ids.

        Nothing is tried or compared here, see :meth:`add` and ``merging``.

        Raises:
            StoreError: if it cannot be written; nothing was changed then.
        """
        with self._write_lock:
            ids = self.store.add(fresh, remove, list(changed.values()), images)
            for case_id in (*remove, *changed):
                self._forget(self._summaries[case_id])
            for case in changed.values():
                self._take(case)
            for case, case_id in zip(fresh, ids, strict=True):
                self._take(dataclasses.replace(case, case_id=case_id))
            self._added += len(fresh)
            self._changed()
            return ids

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep every other change out while several are prepared together."""
        with self._write_lock:
            yield

    @property
    def calibration_id(self) -> str:
        """12 hex digits of the calibration in force; "" while the default threshold is."""
        found = self._calibration
        if found is None:
            return ""
        return hashlib.sha256(repr(sorted(found.to_settings().items())).encode()).hexdigest()[:12]

    def guard(self, stamp: EncoderStamp | None = None) -> Guard:
        """What a new case is tried on: the stored successes at the present gate.

        stamp: whose embedding the case has; None: that of the memory's cases.
        """
        with self._write_lock:
            key = self.threshold, stamp or self.stamp
            if self._guard is None or self._guard[0] != key:
                sample = [] if key[1] is None else self.ledger.successes(key[1])
                self._guard = key, Guard(self.settings.guard, sample, self.threshold)
            return self._guard[1]

    def rivals_of(self, case: FailureCase) -> list[FailureCase]:
        """Active cases of nearly the same situation whose corrections are far from that of a case."""
        index = self._index
        if index is None or case.correction is None:
            return []
        near: list[int] = []
        for kind in FailureType:
            group = GroupKey(case.task, case.phase, kind)
            similarities, ids = index.search_group(group, case.embedding[np.newaxis, :], NEIGHBOURS_COMPARED)
            near.extend(ids[0][similarities[0] >= self.settings.duplicate_similarity].tolist())
        return [
            rival
            for case_id, rival in self.cases(near).items()
            if case_id != case.case_id and contradict(rival, case, self.settings.contradiction_distance)
        ]

    def _tried(self, case: FailureCase) -> tuple[str, list[FailureCase]]:
        """Why a case may not act, "" if it may; and the active cases that it beats, as they are to be stored."""
        if case.retired:
            return "", []
        refusal = self.guard(case.stamp).refusal(case)
        if refusal is not None:
            self._guarded += 1
            return f"{STOPPED}: {refusal.text}", []
        beaten = []
        for rival in self.rivals_of(case):
            distance = self._apart(rival, case)
            if prevails(rival, case, self.settings.credit.prior_weight):
                return lost_to("it", rival, f"case {rival.case_id}", distance), []
            name = f"case {case.case_id}" if case.case_id else "a newer case"
            beaten.append(self._as_retired(rival, lost_to(f"case {rival.case_id}", case, name, distance)))
        return "", beaten

    @staticmethod
    def _apart(first: FailureCase, second: FailureCase) -> float:
        assert first.correction is not None and second.correction is not None
        return action_distance(first.correction, second.correction)

    def revised(self, case: FailureCase, change: str, detail: str) -> FailureCase:
        """A case with one more entry in its history."""
        entry = Revision(time.time_ns(), change, self.settings.origin, detail, self.ledger.last_use())
        return dataclasses.replace(case, history=(*case.history, entry))

    def _as_retired(self, case: FailureCase, reason: str) -> FailureCase:
        return self.revised(dataclasses.replace(case, retired=True, retired_reason=reason), "retired", reason)

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
                    arriving = self._loader.arrivals(case.stamp)
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
        force: bool = False,
    ) -> FailureCase:
        """Change what may be known better later; None leaves a field as it is.

        A new correction is tried like a new case; that of a later success is cut to what the robot then did, which the
        limits of motion say. ``force`` lets it change stored successes; the limits of motion and
        of the workspace are not a person's to lift here.

        Raises:
            UnknownCaseError: if there is no such case.
            GuardError: if the guard stops the correction.
            CaseError: if the correction does not fit the failed chunk.
            StoreError: if it cannot be written; nothing was changed then.
        """
        with self._write_lock:
            before = self.get(case_id)
            after, said = before, []
            if correction is not None:
                if correction_source == "later_success":
                    # The policy may have asked for more than the controller then did.
                    correction = within_limits(correction, self.settings.guard.limits)
                after = dataclasses.replace(after, correction=correction, correction_source=correction_source)
                said.append(f"correction by {correction_source}")
            elif forget_correction:
                after = dataclasses.replace(after, correction=None, correction_source="")
                said.append("correction forgotten")
            if failure_type is not None:
                after = dataclasses.replace(after, failure_type=failure_type)
                said.append(f"type {before.failure_type.name.lower()} to {failure_type.name.lower()}")
            if note is not None:
                after = dataclasses.replace(after, note=note)
                said.append("note")
            beaten: list[FailureCase] = []
            if correction is not None:
                refusal = self.guard().unsafe(after) if force else self.guard().refusal(after)
                if refusal is not None:
                    self._guarded += 1
                    raise GuardError(f"case {case_id}: {refusal.text}")
                if not after.retired:
                    stopped, beaten = ("", []) if force else self._tried(after)
                    if stopped:
                        raise GuardError(f"case {case_id} keeps what it has: {stopped}")
            learned = correction is not None and correction_source != "human"
            after = self.revised(after, "learned" if learned else "edited", ", ".join(said) or "nothing")
            self.apply([], {item.case_id: item for item in (*beaten, after)})
            return after

    def retire(self, case_id: int, retired: bool = True, reason: str = "") -> FailureCase:
        """Take a case out of every search, or back in; it stays on disk.

        One that comes back is judged by what its use is worth from then on. What is so already stays as it is.

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
            if retired == before.retired and (not retired or reason == before.retired_reason):
                return before
            after = dataclasses.replace(before, retired=retired, retired_reason=reason if retired else "")
            after = self.revised(after, "retired" if retired else "restored", reason)
            self.apply([], {case_id: after})
            return after

    def record_use(self, ids: Iterable[int], success: bool) -> None:
        """Credit (or debit) cases that guided an episode at full strength; see :meth:`record_uses`."""
        uses = [CaseUse(case_id, CorrectionMode.GUIDANCE, 1.0) for case_id in sorted(set(ids))]
        self.record_uses(uses, UseResult.SUCCESS if success else UseResult.FAILURE)

    def record_uses(self, uses: Sequence[CaseUse], result: UseResult, episode_id: int = 0) -> list[FailureCase]:
        """Log how cases came up in an episode and how it ended; give the cases that retire by it.

        Chunks of one episode are not independent, so a case is counted once an episode however many it shaped.
        Unknown ids are ignored. When a case retires is said in ``credit``.

        Raises:
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            known = [use for use in uses if use.case_id in self._summaries]
            if not known:
                return []
            totals = self.ledger.record_uses(known, result, episode_id, self.settings.origin)
            for case_id, counts in totals.items():
                self._summaries[case_id] = dataclasses.replace(
                    self._summaries[case_id], uses=int(counts.episodes), successes=int(counts.successes)
                )
            self._changed()
            retired: dict[int, FailureCase] = {}
            for case_id in totals:
                case = self.get(case_id)
                if not case.retired and (found := self.worth(case)).retires(self.settings.credit):
                    retired[case_id] = self._as_retired(case, f"credit: {found}")
            if retired:
                self.apply([], retired)
            return list(retired.values())

    def worth(self, case: FailureCase) -> Worth:
        """What the use of a case is worth, from all robots' uses, or those here since it was last restored."""
        restored = [item for item in case.history if item.change == "restored"]
        used, passed_over = self.ledger.counted(case.case_id, restored[-1].after_use if restored else 0)
        if not restored:
            used = Counts(case.uses, case.successes)
        phase, task = self.ledger.baseline(case.task, case.phase), self.ledger.baseline(case.task)
        return worth(used, passed_over, phase, task, self.settings.credit)

    def observe_done(self, situations: Sequence[SuccessSituation]) -> None:
        """Offer what was done in an episode that succeeded to the sample that new cases are tried on.

        Raises:
            CaseError: if a situation is of another encoder than the memory's cases.
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            for item in situations:
                self.store.check_stamp(item.stamp)
            self.ledger.add_successes(situations, self._generator, self.settings.successes_kept)
            self._success_count = self.ledger.success_count()
            self._guard = None
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
        """Take in what another program has written to the database; say whether it had.

        Also the moment to keep the index, in the background, when there is a better one.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._write_lock:
            if isinstance(self._backend, LayeredBackend) and self._loader.is_due(self._loaded):
                self._backend.builder.submit_once("keep", self._keep_quietly)
            if self.store.data_version() == self._data_version and not self._loader.behind:
                return False
            self.store.reload_stamp()
            version = self.store.data_version()
            if self._caught_up():
                self._data_version = version
            else:
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
            refused_guard=self._guarded,
            success_situations=self._success_count,
            calibration_id=self.calibration_id,
            searches=self._search_count,
            cache_hits=self._cache_hits,
            search_p50_ms=middle,
            search_p99_ms=high,
            threshold=self.threshold,
            calibrated=self._calibration is not None,
            stamp=self.stamp,
            index=IndexStatistics.of(self._index, self._loaded.source, self._loader.problem),
            damage="" if self._inspection is None else self._inspection.problem,
        )

    def _load(self) -> None:
        self._data_version = self.store.data_version()
        self._loaded = self._loader.load()
        self._see_loaded()

    def _caught_up(self) -> bool:
        """Take in what the log of the database says; False if it does not go back far enough."""
        if not self._loader.catch_up(self._loaded):
            return False
        self._see_loaded()
        return True

    def _see_loaded(self) -> None:
        loaded, stamp = self._loaded, self.store.stamp
        self._index, self._retired, self._summaries = loaded.index, loaded.retired, loaded.table
        self._active = loaded.table.active
        found = Calibration.from_settings(self.store.settings()) if self.settings.calibrate else None
        self._calibration = found if found is not None and found.stamp == stamp else None
        self._changed()

    def _keep_quietly(self) -> None:
        try:
            self.keep_index()
        except StoreError as error:
            self._loader.problem = f"the index could not be kept: {error}"

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
            self._index = self._loaded.index = CaseIndex(case.stamp, self._backend, "active")
            self._retired = self._loaded.retired = CaseIndex(case.stamp, self._backend, "retired")
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
        try:
            (self._retired if case.retired else self._index).add(case.group, [case.case_id], case.embedding)
        except IndexUnavailableError as error:
            # It is durable; the next look at the database takes it into the index.
            self._loader.fell_behind(error)
        self._active += 0 if case.retired else 1

    def _forget(self, summary: CaseSummary) -> None:
        index = self._retired if summary.retired else self._index
        if index is not None:
            try:
                index.remove(summary.group, [summary.case_id])
            except IndexUnavailableError as error:
                self._loader.fell_behind(error)
        self._summaries.pop(summary.case_id, None)
        self._active -= 0 if summary.retired else 1

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
