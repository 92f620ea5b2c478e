# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Why something went wrong, as far as the evidence says: by a language model, or by fixed sentences.

A model that can fill the structure FailureDiagnosis is asked with the evidence and similar cases as data; what it cites
must have been given. The embedded provider cannot, and then the diagnosis is made of the evidence by a table of
sentences that says so: its certainty is the detector's confidence, and it never proposes an offset, because no evidence
gives one. A diagnosis is a proposal. It acts only after a check (see ``admission``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.deliberation.likeness import Sought
from flow_rag_vla.deliberation.stages import SimilarFailure
from flow_rag_vla.llm.errors import LlmError, StructureError, UnsupportedSchemaError
from flow_rag_vla.llm.knowledge import case_text, quoted
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.request import Message, Picture, Request, deadline_in
from flow_rag_vla.llm.schemas import DIAGNOSIS_QUESTION, FailureDiagnosis, Offset
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.text_store import Passage

TEMPLATE = "template"
"""Who made a diagnosis that no model made."""

_CAUSES: Mapping[FailureType, tuple[str, str]] = {
    FailureType.GRASP_FAILURE: ("the hand closed and held nothing", "regrasp"),
    FailureType.COLLISION: ("something pushed against the hand harder than the task needs", "slower"),
    FailureType.DROP: ("what the hand held left it before its goal", "regrasp"),
    FailureType.MISALIGNMENT: ("the tool did not go where it was commanded to", "slower"),
    FailureType.TIMEOUT: ("nothing moved on within the time allowed", "retry"),
    FailureType.UNKNOWN: ("the evidence fits no known kind of failure", "ask_a_person"),
}


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """A failure as the detector told it.

    confidence: 0 to 1; wrench: newtons and newton metres at the tool; empty if not known
    pictures: of the cameras, for models that see
    manuals: what documents say that may be about it
    """

    kind: FailureType
    task: str
    phase: str
    evidence: tuple[Evidence, ...] = ()
    confidence: float = 0.0
    description: str = ""
    wrench: tuple[float, ...] = ()
    pictures: tuple[Picture, ...] = ()
    manuals: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """A diagnosis and who made it. note: why no model made it; empty if one did."""

    diagnosis: FailureDiagnosis
    source: str
    note: str = ""


class Unable:
    """The provider that has said that it fills no diagnoses: it is not asked again while it is the one in use."""

    def __init__(self) -> None:
        self._provider: tuple[str, str] | None = None

    def said(self, provider: str, model: str) -> bool:
        """A provider with a model said so; whether that is new."""
        before, self._provider = self._provider, (provider, model)
        return before != self._provider

    def in_use(self, provider: str, model: str) -> None:
        """These are in use now; others than said so may know more."""
        if self._provider != (provider, model):
            self._provider = None

    @property
    def note(self) -> str:
        """Why nobody needs to be asked; empty if somebody may."""
        return "" if self._provider is None else unable(self._provider[0])


def unable(provider: str) -> str:
    """What is said of a provider that fills no diagnoses."""
    return f"provider {provider!r} fills no diagnoses"


def by_template(seen: FailureSeen, similar: Sequence[SimilarFailure] = ()) -> FailureDiagnosis:
    """A diagnosis made of the evidence by fixed sentences.

    Where two or more similar cases carry a correction, trying again is proposed: the memory then has something to say.
    """
    cause, proposal = _CAUSES[seen.kind]
    lines = [_line(item) for item in seen.evidence] + _felt(seen.wrench)
    if not lines:
        lines = [f"the detector said so with confidence {seen.confidence:.2f}, and gave no value"]
        proposal = "ask_a_person"
    alike = [case for case in similar if case.task == seen.task and case.failure == seen.kind.name.lower()]
    if sum(bool(case.corrected_by) for case in alike) >= 2 and proposal != "ask_a_person":
        proposal = "retry"
    where = f" in the phase {seen.phase}" if seen.phase else ""
    return FailureDiagnosis.model_validate(
        {
            "failure": seen.kind.name.lower(),
            "cause": f"{cause}{where}"[:200],
            "evidence": [line[:200] for line in lines[:6]],
            "similar_cases": [case.case_id for case in alike if case.case_id >= 1][:5],
            "proposal": proposal,
            "offset": Offset(dx_mm=0, dy_mm=0, dz_mm=0),
            "certainty": min(max(seen.confidence, 0.0), 1.0) if math.isfinite(seen.confidence) else 0.0,
        }
    )


def in_words(seen: FailureSeen) -> str:
    """A failure in words, as cases are told."""
    return case_text(seen.kind, seen.task, seen.phase, seen.evidence, note=seen.description)


def sought_by(seen: FailureSeen, instruction: str = "") -> Sought:
    """What past failures of the task are to be like to help with this one.

    Args:
        seen: the failure.
        instruction: the episode's command; empty or of another task: any target of the task may have been meant.
    """
    goals = tuple(goal for goal in GOALS if goal.task == seen.task)
    meant = tuple(goal for goal in goals if goal.instruction == instruction)
    return Sought(meant or goals, in_words(seen), seen.phase or "unknown")


def diagnosis_data(seen: FailureSeen, similar: Sequence[SimilarFailure]) -> tuple[Message, ...]:
    """Evidence, similar cases and manuals, quoted; cases are named by the numbers that an answer may cite."""
    parts = [in_words(seen), *_felt(seen.wrench)]
    cases = tuple(
        Message(
            "data",
            f"{case.failure} in task {case.task}, phase {case.phase}; corrected by {case.corrected_by or 'nobody'}; "
            f"{case.successes} of {case.uses} uses succeeded; {_alike(case)}",
            f"case {case.case_id}",
        )
        for case in similar
    )
    return (Message("data", "\n".join(parts), "evidence", seen.pictures), *cases, *quoted(seen.manuals))


def check_cited(value: BaseModel, similar: Sequence[SimilarFailure]) -> None:
    """Make sure that a diagnosis cites only cases that were given.

    Raises:
        StructureError: naming the first that was not.
    """
    assert isinstance(value, FailureDiagnosis)
    known = {case.case_id for case in similar}
    for case_id in value.similar_cases:
        if case_id not in known:
            given = ", ".join(map(str, sorted(known))) or "none"
            raise StructureError(f"the answer cites case {case_id}, which was not given; given were {given}")


def diagnosis_request(seen: FailureSeen, similar: Sequence[SimilarFailure], deadline: float) -> Request:
    """The request for a diagnosis; ``deadline`` is seconds from now."""
    return make_request(
        DIAGNOSIS_QUESTION,
        deadline_in(deadline),
        FailureDiagnosis,
        data=diagnosis_data(seen, similar),
        check=lambda value: check_cited(value, similar),
    )


async def diagnose(
    model: LanguageModel | None, seen: FailureSeen, similar: Sequence[SimilarFailure] = (), deadline: float = 30.0
) -> Diagnosed:
    """A diagnosis in time: the model's, else the template's with the reason. Never raises for what a model does."""
    if model is None:
        return Diagnosed(by_template(seen, similar), TEMPLATE, "no language model was asked")
    try:
        answer = await model.ask(diagnosis_request(seen, similar, deadline))
    except UnsupportedSchemaError:
        return Diagnosed(by_template(seen, similar), TEMPLATE, unable(model.provider.name))
    except LlmError as error:
        return Diagnosed(by_template(seen, similar), TEMPLATE, f"{error.kind}: {error}")
    assert isinstance(answer.value, FailureDiagnosis)  # the service checked it
    return Diagnosed(answer.value, f"{answer.provider} {answer.model}")


def _alike(case: SimilarFailure) -> str:
    return "not compared" if case.similarity is None else f"alike {case.similarity:.2f} by {case.measure}"


def _line(item: Evidence) -> str:
    beside = "above" if item.value > item.threshold else "below"
    if f"{item.value:.4g}" == f"{item.threshold:.4g}":
        beside = "at"
    unit = f" {item.unit}" if item.unit else ""
    return f"{item.name.replace('_', ' ')} {item.value:.4g}{unit} is {beside} its threshold {item.threshold:.4g}{unit}"


def _felt(wrench: Sequence[float]) -> list[str]:
    if len(wrench) < 3 or not all(math.isfinite(value) for value in wrench[:3]):
        return []
    force = math.sqrt(sum(value * value for value in wrench[:3]))
    x, y, z = wrench[:3]
    return [f"force at the tool {force:.3g} N ({x:.2g}, {y:.2g}, {z:.2g})"]
