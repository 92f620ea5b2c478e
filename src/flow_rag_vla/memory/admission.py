# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a case may act, found out before anything is stored.

Two questions, in this order: does the guard stop it (see ``guard``), and does it contradict active cases, one of which
stays in its place (see ``conflicts``)? A new case, an edited one and one that comes back are asked differently, one
function each.

Nothing here changes or locks anything. The memory asks while it keeps other changes out, so that the answer still holds
when it stores what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.memory.case import FailureCase, action_distance
from flow_rag_vla.memory.conflicts import lost_to, prevails
from flow_rag_vla.memory.guard import STOPPED, Guard, GuardRefusal
from flow_rag_vla.memory.reading import CaseReader


@dataclass(frozen=True, slots=True, eq=False)
class Loser:
    """An active case that is to be retired for another one, and why."""

    case: FailureCase
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What came of trying a case; it may act unless the guard refuses it or it lost.

    lost: which case stays in its place, in one sentence; "" if none does
    beaten: those that go for it; none if it may not act
    """

    refusal: GuardRefusal | None = None
    lost: str = ""
    beaten: tuple[Loser, ...] = ()

    @property
    def stopped(self) -> str:
        """Why the case may not act, as the reason that it is retired for; "" if it may."""
        return self.lost if self.refusal is None else f"{STOPPED}: {self.refusal.text}"


def try_new(case: FailureCase, guard: Guard, memory: CaseReader) -> Trial:
    """Try a case that is about to be stored, active.

    Raises:
        StoreError: if the store cannot be read.
    """
    refusal = guard.refusal(case)
    return _contest(case, memory) if refusal is None else Trial(refusal)


def try_edited(case: FailureCase, guard: Guard, memory: CaseReader, *, force: bool = False) -> Trial:
    """Try a stored case with its new correction, also a retired one: it may be restored later.

    force: only that the correction is a safe motion is asked

    Raises:
        StoreError: if the store cannot be read.
    """
    refusal = guard.unsafe(case) if force else guard.refusal(case)
    if refusal is not None:
        return Trial(refusal)
    return Trial() if force or case.retired else _contest(case, memory)


def try_restored(case: FailureCase, guard: Guard) -> Trial:
    """Try a retired case that is to act again: what arrived in a file must also say where the tool was."""
    arrived = any(item.change == "imported" for item in case.history)
    return Trial(guard.unsafe(case) or (guard.unplaced(case) if arrived else None))


def _contest(case: FailureCase, memory: CaseReader) -> Trial:
    """Hold a case against the active ones that contradict it. The first that stays ends it."""
    beaten = []
    for rival in memory.rivals_of(case):
        assert rival.correction is not None and case.correction is not None
        distance = action_distance(rival.correction, case.correction)
        if prevails(rival, case, memory.settings.credit.prior_weight):
            return Trial(lost=lost_to("it", rival, f"case {rival.case_id}", distance))
        name = f"case {case.case_id}" if case.case_id else "a newer case"
        beaten.append(Loser(rival, lost_to(f"case {rival.case_id}", case, name, distance)))
    return Trial(beaten=tuple(beaten))
