# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Looks through all active cases for what would be stopped, retired, contradicted or doubted today."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.memory.case import FailureCase, action_distance
from flow_rag_vla.memory.conflicts import lost_to, prevails
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.merging import PROGRESS_EVERY, Progress
from flow_rag_vla.memory.store import CaseFilter

BATCH = 512


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that should not act, and why. misreading: it is only what it says of a misread target that should not."""

    case_id: int
    text: str
    misreading: bool = False


def check_cases(memory: FailureMemory, progress: Progress | None = None) -> list[Finding]:
    """The active cases that the guard stops, that lose against another one, or whose use is worse than none.

    Then those whose misreading is doubted (see ``misreadings``): what arrived in a file before what the robot found
    out itself, younger ones before older ones. What was found speaks against no further one, so that of two that
    contradict each other one is found.

    Raises:
        StoreError: if the store cannot be read.
    """
    guard, findings, done = memory.guard(), dict[int, Finding](), 0
    misread: list[tuple[bool, int]] = []
    while True:
        total, some = memory.page(CaseFilter(), done, BATCH)
        for case in some:
            if case.misreading is not None:
                misread.append((not _arrived(case), case.case_id))
            refusal = guard.refusal(case)
            worth = memory.worth(case) if case.uses else None
            if refusal is not None:
                findings[case.case_id] = Finding(case.case_id, f"the guard stops it: {refusal.text}")
            elif worth is not None and worth.retires(memory.settings.credit):
                findings[case.case_id] = Finding(case.case_id, f"credit: {worth}")
            else:
                _contradictions(memory, case, findings)
            done += 1
            if progress is not None and done % PROGRESS_EVERY == 0:
                progress(done, total)
        if not some or done >= total:
            break
    # Newest first, as the pages give them.
    for _, case_id in sorted(misread, key=lambda item: item[0]):
        if case_id not in findings:
            current = memory.cases([case_id]).get(case_id)
            text = None if current is None else memory.doubted(current, findings)
            if text is not None:
                findings[case_id] = Finding(case_id, f"{text}; {_forget(case_id)}", misreading=True)
    return [findings[case_id] for case_id in sorted(findings)]


def _arrived(case: FailureCase) -> bool:
    return any(item.change in ("imported", "merged") for item in case.history)


def _forget(case_id: int) -> str:
    return f"or forget it: flow_rag_vla memory edit {case_id} --forget-misreading"


def _contradictions(memory: FailureMemory, case: FailureCase, findings: dict[int, Finding]) -> None:
    for rival in memory.rivals_of(case):
        # Each pair is seen from both sides; the loser is found from the winner's.
        older, younger = sorted((case, rival), key=lambda item: item.case_id)
        stays = older if prevails(older, younger, memory.settings.credit.prior_weight) else younger
        if stays is not case or rival.case_id in findings or rival.correction is None or case.correction is None:
            continue
        distance = action_distance(rival.correction, case.correction)
        text = lost_to(f"case {rival.case_id}", case, f"case {case.case_id}", distance)
        findings[rival.case_id] = Finding(rival.case_id, text)
