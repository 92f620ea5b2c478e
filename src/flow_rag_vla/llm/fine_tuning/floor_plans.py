# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reviewed floor plan analyses, as conversations to learn from.

A folder holds pairs of files. ``NAME.topology.json`` is a ``FloorPlan``. ``NAME.analysis.json`` is what
``POST /api/language/analyze`` answered, corrected where it was wrong, with ``reviewed_by``: an analysis that nobody
stood for would teach a model its own mistakes. The rules are part of the pair, since the analysis cites them by number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from flow_rag_vla.llm.errors import BadRequestError, StructureError
from flow_rag_vla.llm.fine_tuning.comparing import conversation_of
from flow_rag_vla.llm.fine_tuning.conversations import Conversation
from flow_rag_vla.llm.knowledge import CHECK_PLAN, RULES, FloorPlan, analysis_request
from flow_rag_vla.llm.request import deadline_in
from flow_rag_vla.llm.schemas import FloorPlanAnalysis, Line, Structure
from flow_rag_vla.llm.structured import parse
from flow_rag_vla.llm.text_store import Passage

TOPOLOGY, ANALYSIS = ".topology.json", ".analysis.json"
"""How the names of the two files of a pair end."""

_SECONDS = 60.0


class GivenRule(Structure):
    """A rule as it was given. source: document and place, such as ``code.md#3``."""

    number: Annotated[str, StringConstraints(pattern=r"^R[1-9][0-9]*$", max_length=10)]
    text: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    source: Annotated[str, StringConstraints(pattern=r"^.+#[0-9]{1,9}$", max_length=300)]


class ReviewedAnalysis(Structure):
    """An analysis for which somebody stands. account: of the answer, as the gateway adds it; not looked at."""

    reviewed_by: Line
    analysis: FloorPlanAnalysis
    rules: list[GivenRule] = Field(min_length=1, max_length=32)
    question: Annotated[str, StringConstraints(min_length=1, max_length=2000)] = CHECK_PLAN
    account: Any = None


def floor_plan_conversations(folder: Path) -> tuple[list[Conversation], list[str]]:
    """The conversations of all pairs of a folder by name, and a sentence for each file that makes none."""
    plans = {path.name.removesuffix(TOPOLOGY) for path in folder.glob(f"*{TOPOLOGY}")}
    analyses = {path.name.removesuffix(ANALYSIS) for path in folder.glob(f"*{ANALYSIS}")}
    found: list[Conversation] = []
    problems = [] if plans | analyses else [f"{folder} holds no NAME{TOPOLOGY} with its NAME{ANALYSIS}"]
    for name in sorted(plans | analyses):
        plan, analysis = folder / f"{name}{TOPOLOGY}", folder / f"{name}{ANALYSIS}"
        if name not in analyses:
            problems.append(f"{plan}: {analysis.name}, its reviewed analysis, is not beside it")
        elif name not in plans:
            problems.append(f"{analysis}: {plan.name}, the plan that it is about, is not beside it")
        else:
            try:
                found.append(read_pair(plan, analysis))
            except BadRequestError as error:
                problems.append(str(error))
    return found, problems


def read_pair(plan: Path, analysis: Path) -> Conversation:
    """The conversation of a floor plan and its reviewed analysis, as a model is asked when a plan is analyzed.

    Raises:
        BadRequestError: naming the file and what is wrong in it; also for an analysis that cites a rule that was not
            given, or names a space that the plan does not have.
    """
    topology, reviewed = _read(plan, FloorPlan), _read(analysis, ReviewedAnalysis)
    given = []
    for number, rule in enumerate(reviewed.rules, 1):
        if rule.number != f"R{number}":
            raise BadRequestError(f"{analysis}: rule {number} is numbered {rule.number!r}, expected 'R{number}'")
        source, _, position = rule.source.rpartition("#")
        given.append(Passage(number, RULES, source, int(position), rule.text))
    try:
        request = analysis_request(topology, given, deadline_in(_SECONDS), question=reviewed.question)
        assert request.check is not None
        request.check(reviewed.analysis)
        return conversation_of(request, reviewed.analysis)
    except (BadRequestError, StructureError) as error:
        raise BadRequestError(f"{analysis}: {error}") from None


def _read(path: Path, schema: type[Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"), schema)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{path} cannot be read: {error}") from error
    except StructureError as error:
        raise BadRequestError(f"{path}: {error}") from None
