# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Takes the cases of another robot in: duplicates unite, contradictions are settled and reported, the unsafe refused.

A misreading that contradicts what the memory knows (see ``misreadings``) is left out, and the case taken without it.

Credit is kept by robot, and each robot's own count only grows, so two knowledges of it unite by the larger one (a
grow-only counter; Shapiro et al. 2011, "Conflict-free replicated data types"): merging twice, or in another order,
gives the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow_rag_vla.memory.case import FailureCase, OriginCredit, action_distance
from flow_rag_vla.memory.conflicts import contradict, lost_to, prevails
from flow_rag_vla.memory.guard import Guard, GuardRefusal
from flow_rag_vla.memory.images import CaseImage
from flow_rag_vla.memory.index import CaseIndex, NumpyIndex
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.shelf import NEIGHBOURS_COMPARED
from flow_rag_vla.memory.store import StoreError

Progress = Callable[[int, int], None]
"""Called with the cases done and their number."""

PROGRESS_EVERY = 64


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A case that arrives. place: its row in the file or its id in the other store, for reports."""

    place: str
    case: FailureCase
    images: tuple[CaseImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A case that was not taken, and why, with the remedy."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(slots=True)
class MergeReport:
    """What a merge did, or in a dry run would do.

    imported: new cases; duplicates: known ones, of which ``united`` brought credit or a correction that was not known
    doubted: cases whose misreading was left out, and why; they are counted above like any other
    """

    imported: int = 0
    duplicates: int = 0
    united: int = 0
    origins: tuple[str, ...] = ()
    refused: list[Refused] = field(default_factory=list)
    doubted: list[Refused] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def merge_cases(
    memory: FailureMemory,
    arrivals: Sequence[Arrival],
    source: str,
    *,
    origin: str = "",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> MergeReport:
    """Take cases into a memory: those that may act and are not known, in one transaction with every union.

    Args:
        memory: where they go.
        arrivals: what comes.
        source: file or robot, for the history of each case.
        origin: name given to the cases; "" keeps their own. What they earned stays with those who earned it.
        dry_run: find out everything and store nothing.
        progress: told how far it is.

    Raises:
        EncoderMismatchError: if they are of another encoder than the memory's cases, naming both.
        StoreError: if they are of several encoders, do not fit or cannot be written; nothing was stored then.
    """
    with memory.changing():
        plan = _Plan(memory, source, origin)
        for done, arrival in enumerate(arrivals):
            plan.take(arrival)
            if progress is not None and done % PROGRESS_EVERY == 0:
                progress(done, len(arrivals))
        plan.check_room()
        if not dry_run and (plan.fresh or plan.changed):
            memory.apply(plan.fresh, plan.changed, plan.images)
        if progress is not None:
            progress(len(arrivals), len(arrivals))
        return plan.report


def united(known: FailureCase, other: FailureCase) -> FailureCase:
    """One case of two that say the same: each robot's larger credit, and what one of them does not know.

    What a retired case says was taken out on purpose: an active one does not learn it.
    """
    shares = {item.origin: item for item in known.shares}
    for item in other.shares:
        mine = shares.get(item.origin)
        if mine is None or (item.uses, item.successes) > (mine.uses, mine.successes):
            shares[item.origin] = item
    credits = tuple(shares[name] for name in sorted(shares))
    result = known
    if credits != known.shares:
        result = dataclasses.replace(
            result,
            uses=sum(item.uses for item in credits),
            successes=sum(item.successes for item in credits),
            credits=tuple(item for item in credits if item.origin != known.origin),
        )
    if other.retired and not known.retired:
        return result
    if known.correction is None and other.correction is not None and other.horizon == known.horizon:
        result = dataclasses.replace(result, correction=other.correction, correction_source=other.correction_source)
    if known.misreading is None and other.misreading is not None:
        result = dataclasses.replace(result, misreading=other.misreading)
    return result


class _Plan:
    """What is to be stored, worked out case by case."""

    def __init__(self, memory: FailureMemory, source: str, origin: str) -> None:
        self.fresh: list[FailureCase] = []
        self.changed: dict[int, FailureCase] = {}
        self.images: dict[int, tuple[CaseImage, ...]] = {}
        self.report = MergeReport()
        self._memory, self._source, self._origin = memory, source, origin
        self._gained: set[int] = set()
        """Stored cases that have learned a correction: the index knows nothing of it yet."""
        self._arriving: CaseIndex | None = None
        self._guard: Guard | None = None
        self._distance = memory.settings.contradiction_distance
        self._weight = memory.settings.credit.prior_weight

    def take(self, arrival: Arrival) -> None:
        """Work out what becomes of one case."""
        case, report = arrival.case, self.report
        self._memory.store.check_stamp(case.stamp)
        if self._arriving is None:
            self._arriving = CaseIndex(case.stamp, NumpyIndex)
            self._guard = self._memory.guard(case.stamp)
        elif case.stamp != self._arriving.stamp:
            raise StoreError(f"cases of {self._arriving.stamp} and {case.stamp} cannot be stored together")
        if self._origin and self._origin != case.origin:
            # Before it is renamed: what it earned stays with those who earned it.
            case = dataclasses.replace(case, credits=case.shares, origin=self._origin)
        report.origins = tuple(sorted({*report.origins, case.origin}))
        known = self._memory.duplicate_of(case)
        if known is not None:
            report.duplicates += 1
            self._unite_stored(known, case, arrival.place)
            return
        place = self._same_arrival(case)
        if place is not None:
            report.duplicates += 1
            self._unite_fresh(place, case, arrival.place)
            return
        refusal = None if case.retired else self._stopped(case)
        if refusal is not None:
            report.refused.append(Refused(arrival.place, refusal.text))
            return
        case = self._settled(self._believed(case, arrival.place), arrival.place)
        case = self._memory.revised(case, "imported", f"from {self._source}")
        self._arriving.add(case.group, [len(self.fresh)], case.embedding)
        if arrival.images:
            self.images[len(self.fresh)] = arrival.images
        self.fresh.append(case)
        report.imported += 1

    def check_room(self) -> None:
        """Refuse more active cases than fit."""
        statistics = self._memory.statistics()
        retired = sum(self._newly_retired(item) for item in self.changed.values())
        wanted, room = sum(not case.retired for case in self.fresh), statistics.capacity - statistics.cases + retired
        if wanted > room:
            raise StoreError(
                f"{wanted} active cases are new but there is room for {max(room, 0)}; raise the parameter capacity "
                "or retire cases first"
            )

    def _newly_retired(self, case: FailureCase) -> bool:
        return case.retired and not self._memory.get(case.case_id).retired

    def _unite_stored(self, case_id: int, case: FailureCase, place: str) -> None:
        known = self.changed.get(case_id) or self._memory.get(case_id)
        after = self._united(known, case, f"case {case_id}", place)
        if after is not known:
            self.changed[case_id] = self._memory.revised(after, "merged", f"with {place} of {self._source}")
            self.report.united += 1
            if known.correction is None and after.correction is not None:
                self._gained.add(case_id)

    def _unite_fresh(self, row: int, case: FailureCase, place: str) -> None:
        after = self._united(self.fresh[row], case, "an earlier one", place, row)
        if after is not self.fresh[row]:
            self.fresh[row] = after
            self.report.united += 1

    def _united(
        self, known: FailureCase, case: FailureCase, name: str, place: str, row: int | None = None
    ) -> FailureCase:
        after = united(known, case)
        if after.correction is not None and known.correction is None and not known.retired:
            refusal = self._stopped(after)
            if refusal is not None:
                self.report.refused.append(Refused(place, f"its correction for {name}: {refusal.text}"))
                after = dataclasses.replace(after, correction=None, correction_source="")
            else:
                after = self._prevailing(after, name, place, row)
        if after.misreading is not None and known.misreading is None:
            after = self._believed(after, f"{place}, for {name}")
        elif _misread_otherwise(known, case, self._memory.settings.guard.misreading.distance):
            text = f"it is the same failure as {name} and misread otherwise; {name} keeps its misreading"
            self.report.doubted.append(Refused(place, text))
        if contradict(known, case, self._distance) and not case.retired:
            # One situation and one failure, so that there is room for one correction only: the known one stays.
            assert known.correction is not None and case.correction is not None
            distance = action_distance(known.correction, case.correction)
            self.report.conflicts.append(
                f"{place} is the same failure as {name}, corrected {distance:.3f} apart; {name} keeps its correction"
            )
        return known if _same(known, after) else after

    def _stopped(self, case: FailureCase) -> GuardRefusal | None:
        """Why a case may not act with a correction that arrives; None if it may."""
        return None if self._guard is None else self._guard.refusal(case) or self._guard.unplaced(case)

    def _believed(self, case: FailureCase, place: str) -> FailureCase:
        """The case, without its misreading if that contradicts what the memory knows. A retired one may come back."""
        text = self._memory.doubted(case)
        if text is None:
            return case
        self.report.doubted.append(Refused(place, f"taken without its misreading: {text}"))
        return dataclasses.replace(case, misreading=None)

    def _settled(self, case: FailureCase, place: str) -> FailureCase:
        """The case, retired if a contradicting one prevails; those that it beats are retired."""
        if case.retired:
            return case
        for rival, name, where in self._rivals(case):
            case = self._duel(rival, case, name, place, where)
        return case

    def _prevailing(self, case: FailureCase, name: str, place: str, row: int | None) -> FailureCase:
        """A known case with the correction that it has learned, or without if a contradicting one prevails."""
        rivals = list(self._rivals(case, row))
        for rival, whose, _ in rivals:
            if prevails(rival, case, self._weight):
                assert rival.correction is not None and case.correction is not None
                distance = action_distance(rival.correction, case.correction)
                self.report.conflicts.append(lost_to(f"the correction of {place} for {name}", rival, whose, distance))
                return dataclasses.replace(case, correction=None, correction_source="")
        for rival, whose, where in rivals:
            self._duel(rival, case, whose, f"{name}, corrected by {place},", where)
        return case

    def _rivals(self, case: FailureCase, own: int | None = None) -> Iterator[tuple[FailureCase, str, int]]:
        """Active cases as they are to be that contradict one, what they are called, and where they are.

        own: row of the case, if it is an arrival itself. Where: the id of a stored case, -1 less the row of another.
        """
        if case.correction is None:
            return
        stored = {rival.case_id: rival for rival in self._memory.rivals_of(case)}
        least = self._memory.settings.duplicate_similarity
        for case_id in self._gained - stored.keys() - {case.case_id}:
            other = self.changed[case_id]
            if (other.task, other.phase) == (case.task, case.phase) and float(
                other.embedding @ case.embedding
            ) >= least:
                stored[case_id] = other
        for case_id, rival in stored.items():
            current = self.changed.get(case_id, rival)
            if not current.retired and contradict(current, case, self._distance):
                yield current, f"case {case_id}", case_id
        for row in self._near(case):
            other = self.fresh[row]
            if row != own and not other.retired and contradict(other, case, self._distance):
                yield other, "an earlier arrival", -1 - row

    def _duel(self, first: FailureCase, case: FailureCase, name: str, place: str, where: int) -> FailureCase:
        if case.retired or first.correction is None or case.correction is None:
            return case
        distance = action_distance(first.correction, case.correction)
        if prevails(first, case, self._weight):
            text = lost_to(place, first, name, distance)
            self.report.conflicts.append(text)
            return self._retired(case, text)
        text = lost_to(name, case, place, distance)
        self.report.conflicts.append(text)
        if where < 0:
            self.fresh[-1 - where] = self._retired(first, text)
        else:
            self.changed[where] = self._retired(first, text)
        return case

    def _retired(self, case: FailureCase, reason: str) -> FailureCase:
        return self._memory.revised(dataclasses.replace(case, retired=True, retired_reason=reason), "retired", reason)

    def _same_arrival(self, case: FailureCase) -> int | None:
        limit = self._memory.settings.duplicate_action_distance
        for row in self._near(case):
            known = self.fresh[row]
            if known.group == case.group and action_distance(known.failed_actions, case.failed_actions) <= limit:
                return row
        return None

    def _near(self, case: FailureCase) -> list[int]:
        """Rows of arrivals in nearly the same situation, of any failure type."""
        arriving = self._arriving
        if arriving is None:
            return []
        rows: list[int] = []
        for group in arriving.sizes():
            if (group.task, group.phase) == (case.task, case.phase):
                found, ids = arriving.search_group(group, case.embedding[None, :], NEIGHBOURS_COMPARED)
                rows.extend(ids[0][found[0] >= self._memory.settings.duplicate_similarity].tolist())
        return rows


def _misread_otherwise(first: FailureCase, second: FailureCase, distance: float) -> bool:
    if first.misreading is None or second.misreading is None:
        return False
    return float(np.linalg.norm(first.misreading - second.misreading)) > distance


def _same(first: FailureCase, second: FailureCase) -> bool:
    """Whether a union brought nothing new."""

    def said(case: FailureCase) -> tuple[int, int, tuple[OriginCredit, ...], bool, bool]:
        return case.uses, case.successes, case.shares, case.correction is None, case.misreading is None

    return said(first) == said(second)
