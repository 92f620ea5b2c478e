# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the robot went through, as conversations for a language model: commands and plans, failures and causes.

Only what was reviewed by its outcome is taken: plans of episodes that succeeded without a person, and failure cases
that are not retired and whose correction came from a trusted source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from flow_rag_vla.core.goal import UnknownTaskError, parse_instruction
from flow_rag_vla.data.episode_record import EpisodeRecord
from flow_rag_vla.llm.fine_tuning.comparing import conversation_of
from flow_rag_vla.llm.fine_tuning.conversations import Conversation
from flow_rag_vla.llm.knowledge import case_text
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.request import Message, deadline_in
from flow_rag_vla.llm.schemas import DIAGNOSIS_QUESTION, FailureDiagnosis, Offset, PlanStep, TaskPlan
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.store import CaseFilter, FailureStore

TRUSTED = ("search", "later_success", "expert", "human")
"""Sources of corrections that were tried or given by somebody who knows; see ``memory.case.CORRECTION_SOURCES``."""

MOST_MM = 50
"""Largest offset of a diagnosis along an axis."""

_PAGE = 500
_SECONDS = 60.0


def plan_conversations(records: Iterable[EpisodeRecord]) -> Iterator[Conversation]:
    """A command and its plan, of each episode that did it without a person."""
    for record in records:
        if not record.succeeded or record.intervened or not record.instruction.strip():
            continue
        try:
            goal = parse_instruction(record.instruction)
        except UnknownTaskError:
            continue
        if goal.task != record.task:
            continue  # what was done is not what was said
        step = PlanStep(task=goal.task, target=goal.target)  # type: ignore[arg-type]
        plan = TaskPlan(steps=[step], refusal="none", reason="")
        yield conversation_of(make_request(record.instruction, deadline_in(_SECONDS), TaskPlan), plan)


def diagnosis_conversations(cases: Iterable[FailureCase]) -> Iterator[Conversation]:
    """Measured evidence and the diagnosis that a trusted correction bears out."""
    for case in cases:
        if case.retired or case.correction is None or case.correction_source not in TRUSTED or not case.evidence:
            continue
        # Without the source and the note: they are known only afterwards.
        evidence = case_text(case.failure_type, case.task, case.phase, case.evidence)
        data = (Message("data", evidence, "evidence"),)
        request = make_request(DIAGNOSIS_QUESTION, deadline_in(_SECONDS), FailureDiagnosis, data=data)
        yield conversation_of(request, diagnosis_of(case))


def diagnosis_of(case: FailureCase) -> FailureDiagnosis:
    """The diagnosis of a case that has a correction: every field is read off the case.

    The offset is the difference of the ways, correction less failed chunk, summed over the horizon, millimetres in the
    base frame, cut to :data:`MOST_MM`. The certainty is the share of uses that succeeded, counted with one success and
    one failure more (Laplace), so that an unused case says one half.
    """
    assert case.correction is not None
    kind = case.failure_type.name.lower().replace("_", " ")
    lines = [
        f"{item.name} {item.value:.4g} {item.unit} beyond {item.threshold:.4g}".replace("  ", " ")
        for item in case.evidence[:6]
    ]
    rows = min(len(case.correction), len(case.failed_actions))
    way = (case.correction[:rows, :3] - case.failed_actions[:rows, :3]).sum(axis=0) * 1000.0
    dx, dy, dz = (int(value) for value in np.clip(np.rint(way), -MOST_MM, MOST_MM))
    cause = case.note.strip() or f"{kind} in phase {case.phase or 'unknown'}: {lines[0]}"
    return FailureDiagnosis(
        failure=kind,
        cause=cause[:200],
        evidence=[line[:200] for line in lines],
        similar_cases=[],
        proposal="offset" if (dx, dy, dz) != (0, 0, 0) else "retry",
        offset=Offset(dx_mm=dx, dy_mm=dy, dz_mm=dz),
        certainty=round((case.successes + 1) / (case.uses + 2), 3),
    )


def cases_of(store: FailureStore) -> Iterator[FailureCase]:
    """All active cases of a store, newest first."""
    offset = 0
    while True:
        total, page = store.page(CaseFilter(), offset, _PAGE)
        yield from page
        offset += _PAGE
        if offset >= total:
            return


def gathered(records: Sequence[EpisodeRecord], store: FailureStore | None) -> list[Conversation]:
    """Everything that episodes and a failure memory have to teach."""
    found = list(plan_conversations(records))
    if store is not None:
        found += diagnosis_conversations(cases_of(store))
    return found
