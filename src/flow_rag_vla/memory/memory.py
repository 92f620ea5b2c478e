# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure memory: the one place through which what is remembered changes.

What is to change is worked out elsewhere: whether a case may act (``admission``), which of many are new (``reading``),
what an edit makes of a case (``editing``), what using it was worth (``credit``), from which similarity on a case is
credible (``gate``), which one goes when there is no room (``pruning``). Here it is done: one change at a time, each in
one transaction, and then searches are told.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.admission import Trial, try_edited, try_new, try_restored
from flow_rag_vla.memory.calibration import Calibration
from flow_rag_vla.memory.case import Array, EncoderStamp, FailureCase, Revision
from flow_rag_vla.memory.credit import CaseUse, UseResult
from flow_rag_vla.memory.editing import CaseEdit
from flow_rag_vla.memory.guard import Guard, GuardError
from flow_rag_vla.memory.images import CaseImage
from flow_rag_vla.memory.index import IndexBackend, IndexFactory, as_backend, faiss_factory
from flow_rag_vla.memory.inspection import Inspection
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.reading import CaseReader
from flow_rag_vla.memory.results import AddResult, MemorySettings
from flow_rag_vla.memory.salvage import SalvageReport, open_or_salvage
from flow_rag_vla.memory.statistics import MemoryStatistics
from flow_rag_vla.memory.store import CaseSummary, FailureStore, StoreError, StoreUnavailableError


class FailureMemory(CaseReader):
    """Failure cases in a store, with an index that is rebuilt from it.

    Threads: any may call any method until one calls ``close``, the last. Methods that change something, and ``guard``,
    hold one lock until their change is durable: they may wait for each other and for the disk, and are not for a thread
    that must be in time. What is inherited, ``statistics`` and ``refuse`` do without it; one thread calls ``refuse``.

    Locks, in the order in which they are taken; whoever holds one takes none before it:

    1. this memory's for changes, reentrant, held by ``changing`` as well;
    2. the one beside which stored successes are read (``CaseReader.successes``);
    3. those of the store and of the index, each on its own, never one inside the other;
    4. the one under which ``generation`` counts on, then those of the caches.

    A thread of the index backend takes the first one to keep the index, so nobody waits for that thread (``close`` of a
    backend, ``settle_index``) while holding it.
    """

    def __init__(
        self,
        store: FailureStore,
        settings: MemorySettings | None = None,
        make_index: IndexFactory | IndexBackend | None = None,
    ) -> None:
        """Build the index from a store. The memory then owns the store and the backend."""
        backend = as_backend(make_index or faiss_factory())
        super().__init__(store, settings or MemorySettings(), backend)
        self._write_lock = threading.RLock()
        self._generator = np.random.default_rng(self.settings.seed)
        self._added = self._duplicates = self._invalid = self._pruned = self._guarded = 0
        self._guard: tuple[tuple[float, EncoderStamp | None], Guard] | None = None
        self._success_count = self.ledger.success_count()
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
        self._shelf.keep_quietly(self.keep_index)
        # Outside of the lock: a thread of the backend may be waiting for it, in keep_index.
        self._backend.close()
        with self._write_lock:
            self.store.close()

    def keep_index(self) -> bool:
        """Keep the index in files beside the database, if there is something new that a restart would gain by.

        Changes wait while the state is copied, searches do not wait at all. Say whether files were written.
        """
        with self._write_lock:
            if not self._shelf.is_due:
                return False
            save = self._shelf.keeping()
            self._see_all()
        return save is not None and save()

    def configure(self, settings: MemorySettings) -> None:
        """Take new settings for the searches and changes to come."""
        with self._write_lock:
            self.settings = settings
            self._guard = None
            self._searches.size = settings.cache_size
            self._changed()

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
            trial = Trial() if case.retired else self._counted(try_new(case, self.guard(case.stamp), self))
            stopped, beaten = trial.stopped, self._beaten(trial)
            if stopped:
                case = self._as_retired(case, stopped)
            victim: CaseSummary | None = None
            if not case.retired and self._shelf.active - len(beaten) >= self.settings.capacity:
                victim = self._shelf.least_valuable(case, self._generator)
                if victim is None:
                    return AddResult(
                        False,
                        0,
                        f"the memory is full with {self._shelf.active} cases, each the last of its task, phase and "
                        "type; raise the parameter capacity or retire cases",
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
            self._shelf.drop((*remove, *changed))
            for case in changed.values():
                self._shelf.take(case)
            for case, case_id in zip(fresh, ids, strict=True):
                self._shelf.take(dataclasses.replace(case, case_id=case_id))
            self._added += len(fresh)
            self._changed((*remove, *changed))
            return ids

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep every other change out while several are prepared together."""
        with self._write_lock:
            yield

    def guard(self, stamp: EncoderStamp | None = None) -> Guard:
        """What a new case is tried on: the stored successes at the present gate.

        stamp: whose embedding the case has; None: that of the memory's cases.
        """
        with self._write_lock:
            key = self.threshold, stamp or self.stamp
            if self._guard is None or self._guard[0] != key:
                sample = {} if key[1] is None else self.successes(key[1])
                self._guard = key, Guard(self.settings.guard, sample, self.threshold)
            return self._guard[1]

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
            fresh = self.unknown(cases)
            room = self.settings.capacity - self._shelf.active
            wanted = sum(not case.retired for case in fresh)
            if wanted > room:
                raise StoreError(
                    f"{wanted} active cases are new but there is room for {max(room, 0)}; raise the parameter capacity "
                    "or retire cases first"
                )
            if not dry_run and fresh:
                self.apply(fresh, {})
            return len(fresh), len(cases) - len(fresh)

    def edit(
        self,
        case_id: int,
        *,
        correction: Array | None = None,
        correction_source: str = "human",
        forget_correction: bool = False,
        misreading: Array | None = None,
        forget_misreading: bool = False,
        failure_type: FailureType | None = None,
        note: str | None = None,
        force: bool = False,
        reason: str = "",
    ) -> FailureCase:
        """Change what may be known better later; None leaves a field as it is. The reason goes into the history.

        A new correction is tried like a new case; that of a later success is cut to what the robot then did, which the
        limits of motion say. ``force`` lets it change stored successes, and a misreading contradict what is known; the
        limits of motion and of the workspace are not a person's to lift here.

        Raises:
            UnknownCaseError: if there is no such case.
            GuardError: if the guard stops the correction, or the misreading is not believed (see ``misreadings``).
            CaseError: if the correction does not fit the failed chunk.
            StoreError: if it cannot be written; nothing was changed then.
        """
        change = CaseEdit(
            correction, correction_source, forget_correction, misreading, forget_misreading, failure_type, note
        )
        with self._write_lock:
            after, detail = change.applied(self.get(case_id), self.settings.guard.limits)
            doubted = None if misreading is None or force else self.doubted(after)
            if doubted is not None:
                self._guarded += 1
                raise GuardError(f"case {case_id} keeps what it has: {doubted}")
            trial = Trial() if correction is None else self._counted(try_edited(after, self.guard(), self, force=force))
            if trial.refusal is not None:
                raise GuardError(f"case {case_id}: {trial.refusal.text}")
            if trial.lost:
                raise GuardError(f"case {case_id} keeps what it has: {trial.lost}")
            beaten = self._beaten(trial)
            after = self.revised(after, change.kind, f"{detail}: {reason}" if reason else detail)
            self.apply([], {item.case_id: item for item in (*beaten, after)})
            return after

    def retire(self, case_id: int, retired: bool = True, reason: str = "") -> FailureCase:
        """Take a case out of every search, or back in; it stays on disk.

        One that comes back is judged by what its use is worth from then on. Its correction must still be a motion that
        the robot may make: a file's retired cases were never tried. What is so already stays as it is.

        Raises:
            UnknownCaseError: if there is no such case.
            GuardError: if it would come back with a correction beyond the limits of motion or the workspace.
            StoreError: if it cannot be written, or there is no room to take it back in.
        """
        with self._write_lock:
            before = self.get(case_id)
            if not retired and before.retired and self._shelf.active >= self.settings.capacity:
                raise StoreError(
                    f"the memory is full with {self._shelf.active} cases; raise the parameter capacity or retire "
                    "another one"
                )
            if retired == before.retired and (not retired or reason == before.retired_reason):
                return before
            trial = Trial() if retired else self._counted(try_restored(before, self.guard()))
            if trial.refusal is not None:
                raise GuardError(f"case {case_id} stays retired: {trial.refusal.text}")
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
            known = [use for use in uses if use.case_id in self._shelf.table]
            if not known:
                return []
            totals = self.ledger.record_uses(known, result, episode_id, self.settings.origin)
            self._shelf.credit(totals)
            self._changed(totals)
            retired: dict[int, FailureCase] = {}
            for case_id in totals:
                case = self.get(case_id)
                if not case.retired and (found := self.worth(case)).retires(self.settings.credit):
                    retired[case_id] = self._as_retired(case, f"credit: {found}")
            if retired:
                try:
                    self.apply([], retired)
                except StoreUnavailableError:
                    # The uses are counted; whoever counts again would count them twice. It retires with its next use.
                    return []
            return list(retired.values())

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
            self._changed((), successes=True)

    def observe_success(self, situations: Sequence[tuple[str, str, Array]]) -> Calibration | None:
        """Take in situations (task, phase, (D,) float32 embedding) without a failure; calibrate the threshold anew.

        Raises:
            CaseError: if an embedding is no unit vector of the memory's dimension.
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            self._gate.observe(situations)
            return self.recalibrate()

    def recalibrate(self) -> Calibration | None:
        """Set the threshold from what is stored; None, and the default one, if that is not enough.

        Raises:
            StoreError: if it cannot be written.
        """
        with self._write_lock:
            index = self._shelf.index
            if index is None or not self.settings.calibrate:
                return None
            found = self._gate.recalibrate(index, self.settings)
            self._changed(())
            return found

    def refresh(self) -> bool:
        """Take in what another program has written to the database; say whether it had.

        Also the moment to keep the index, in the background, when there is a better one.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._write_lock:
            self._shelf.keep_later(self.keep_index)
            changed = self._shelf.refresh()
            if changed:
                # The other program may have added successes, too.
                self._success_count, self._guard = self.ledger.success_count(), None
                self._see_all()
            return changed

    def refuse(self) -> None:
        """Count something that made no valid case; one thread counts these."""
        self._invalid += 1

    def statistics(self) -> MemoryStatistics:
        """Counts and latencies."""
        middle, high = self._latencies.percentiles()
        return MemoryStatistics(
            cases=self._shelf.active,
            retired=len(self._shelf.table) - self._shelf.active,
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
            calibrated=self.calibration is not None,
            stamp=self.stamp,
            index=self._shelf.statistics(),
            damage="" if self._inspection is None else self._inspection.problem,
        )

    def _counted(self, trial: Trial) -> Trial:
        """A trial, counted if the guard stopped the case."""
        self._guarded += trial.refusal is not None
        return trial

    def _beaten(self, trial: Trial) -> list[FailureCase]:
        """The cases that a trial retires, as they are to be stored."""
        return [self._as_retired(loser.case, loser.reason) for loser in trial.beaten]

    def _duplicate_message(self, case: FailureCase, known: int) -> str:
        text = f"case {known} is the same failure: same task, phase and type, similar embedding and actions"
        summary = self._shelf.table.get(known)
        if case.correction is not None and summary is not None and not summary.has_correction:
            text += f"; case {known} has no correction yet, edit it to store the one given"
        return text
