# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Retrieval: documents to passages, passages to numbered data, and answers that cite only what was retrieved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator
from typing_extensions import Self

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.llm.errors import BadRequestError, StructureError
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.request import CancelToken, Message, Request, Sampling
from flow_rag_vla.llm.schemas import FloorPlanAnalysis, Structure
from flow_rag_vla.llm.text_store import Passage, TextStore

LONGEST_PASSAGE = 800
"""Characters: a few sentences. Longer ones blur what a vector stands for, shorter ones lose their context."""

MANUALS, CASES, RULES = "manual", "failure_case", "building_rule"
"""The collections that requests look into."""


def passages(text: str, longest: int = LONGEST_PASSAGE) -> list[str]:
    """A document in pieces of at most ``longest`` characters, cut at blank lines, else at sentences, else at words.

    A Markdown heading goes with each piece below it.
    """
    pieces: list[str] = []
    heading = ""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        block = block.strip()
        if not block:
            continue
        first, _, rest = block.partition("\n")
        if first.startswith("#"):
            heading, block = first.lstrip("# ").strip()[: longest // 4], rest.strip()
            if not block:
                continue
        room = longest - len(heading) - 1 if heading else longest
        pieces += [f"{heading}\n{part}" if heading else part for part in _cut(block, room)]
    return pieces


def _cut(block: str, room: int) -> list[str]:
    parts: list[str] = []
    present = ""
    for sentence in re.split(r"(?<=[.!?다])\s+", block):
        for piece in _words_within(sentence, room):
            if present and len(present) + 1 + len(piece) > room:
                parts.append(present)
                present = piece
            else:
                present = f"{present} {piece}".strip()
    return [*parts, present] if present else parts


def _words_within(sentence: str, room: int) -> Iterable[str]:
    while len(sentence) > room:
        cut = sentence.rfind(" ", 1, room)
        cut = room if cut < 0 else cut
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence


def document_text(path: Path) -> str:
    """The words of a text or Markdown file.

    Raises:
        BadRequestError: for a file that is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{path} cannot be read as text: {error}") from error


def read_document(store: TextStore, collection: str, path: Path) -> int:
    """Put a text or Markdown file into a store; return how many passages it made.

    Raises:
        BadRequestError: for a file that is no UTF-8 text.
    """
    return store.add(collection, path.name, passages(document_text(path)))


def quoted(found: Sequence[Passage]) -> tuple[Message, ...]:
    """Passages as data for a request, numbered R1, R2, ...: the numbers that answers cite."""
    return tuple(
        Message("data", passage.text, f"R{number} {passage.source}#{passage.position}")
        for number, passage in enumerate(found, 1)
    )


def check_citations(cited: Iterable[str], found: Sequence[Passage]) -> None:
    """Make sure that every citation is one of the numbers that were given.

    Raises:
        StructureError: naming the first that is not.
    """
    known = {f"R{number}" for number in range(1, len(found) + 1)}
    for citation in cited:
        if citation not in known:
            given = ", ".join(sorted(known)) or "none"
            raise StructureError(f"the answer cites {citation!r}, which was not retrieved; given were {given}")


class CitedAnswer(Structure):
    """An answer in words that rests on retrieved passages, or says that they do not answer it."""

    known: bool = Field(description="whether the passages answer the question")
    answer: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    citations: list[Annotated[str, StringConstraints(min_length=1, max_length=10)]] = Field(
        max_length=12, description="numbers of the passages that the answer rests on, such as R2"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.known != bool(self.citations):
            raise ValueError("what is known cites passages, what is not known cites none")
        return self


_ANSWER = (
    "You answer from the numbered passages alone. Name in citations each passage that the answer rests on. Where they "
    "do not answer the question, say so with known false; never fill a gap from elsewhere."
)


def answer_request(
    question: str,
    store: TextStore,
    deadline: float,
    *,
    collections: Sequence[str] = (),
    k: int = 5,
    data: Sequence[Message] = (),
    sampling: Sampling | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Request, list[Passage]]:
    """The request for a CitedAnswer from the passages that fit a question, and those passages.

    An answer that cites another passage counts as a miss.

    Raises:
        BadRequestError: if these collections (none: all) hold nothing.
    """
    found = store.search(question, k, collections)
    if not found:
        names = ", ".join(collections) or "store"
        raise BadRequestError(f"nothing is known in {names}; add documents before questions are asked of them")
    request = make_request(
        question,
        deadline,
        CitedAnswer,
        data=(*data, *quoted(found)),
        system=_ANSWER,
        sampling=sampling,
        cancel=cancel,
        check=lambda value: _check_answer(value, found),
    )
    return request, found


def _check_answer(value: BaseModel, found: Sequence[Passage]) -> None:
    assert isinstance(value, CitedAnswer)
    check_citations(value.citations, found)


class Space(Structure):
    """A room of a floor plan. Areas in square metres, widths in metres."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    kind: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    area_m2: float | None = Field(default=None, gt=0.0, le=1e5, allow_inf_nan=False)
    windows: int | None = Field(default=None, ge=0, le=1000)


class Connection(Structure):
    """How two spaces are joined."""

    between: tuple[str, str]
    kind: Literal["door", "opening", "stairs", "wall"]
    width_m: float | None = Field(default=None, gt=0.0, le=100.0, allow_inf_nan=False)


class FloorPlan(Structure):
    """The topology of a floor plan: spaces and what joins them."""

    spaces: list[Space] = Field(min_length=1, max_length=200)
    connections: list[Connection] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [space.id for space in self.spaces]
        if len(set(names)) != len(names):
            raise ValueError("two spaces have the same id")
        for connection in self.connections:
            for name in connection.between:
                if name not in names:
                    raise ValueError(f"a connection names the space {name!r}, which is not there")
        return self


CHECK_PLAN = "Check this plan against the retrieved rules and rate its design."
"""What is asked of a plan unless somebody asks otherwise."""

ANALYSIS_TOKENS = 4096
"""Longest analysis: a finding for each of many rules."""


def floor_plan_request(
    plan: FloorPlan,
    store: TextStore,
    deadline: float,
    *,
    question: str = CHECK_PLAN,
    k: int = 6,
    sampling: Sampling | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Request, list[Passage]]:
    """The request for a FloorPlanAnalysis, and the rules that it was given.

    An answer that cites another rule, or names a space that the plan does not have, counts as a miss.

    Raises:
        BadRequestError: if the store has no rules.
    """
    kinds = sorted({space.kind for space in plan.spaces})
    found = store.search(f"{question} {', '.join(kinds)}", k, [RULES])
    if not found:
        raise BadRequestError("the store has no building rules; add some before plans are checked")
    return analysis_request(plan, found, deadline, question=question, sampling=sampling, cancel=cancel), found


def analysis_request(
    plan: FloorPlan,
    found: Sequence[Passage],
    deadline: float,
    *,
    question: str = CHECK_PLAN,
    sampling: Sampling | None = None,
    cancel: CancelToken | None = None,
) -> Request:
    """As :func:`floor_plan_request`, with rules that were found before."""
    topology = Message("data", plan.model_dump_json(exclude_none=True), "topology")
    return make_request(
        question,
        deadline,
        FloorPlanAnalysis,
        data=(topology, *quoted(found)),
        sampling=sampling or Sampling(max_tokens=ANALYSIS_TOKENS),
        cancel=cancel,
        check=lambda value: _check_analysis(value, plan, found),
    )


def _check_analysis(value: BaseModel, plan: FloorPlan, found: Sequence[Passage]) -> None:
    assert isinstance(value, FloorPlanAnalysis)
    check_citations((finding.rule for finding in value.compliance), found)
    names = {space.id for space in plan.spaces}
    for finding in value.compliance:
        for space in finding.spaces:
            if space not in names:
                raise StructureError(f"the answer names the space {space!r}, which the plan does not have")


def case_text(
    failure: FailureType,
    task: str,
    phase: str,
    evidence: Sequence[Evidence],
    correction_source: str = "",
    note: str = "",
) -> str:
    """A failure case in words, as a passage of the collection ``failure_case``."""
    measured = ", ".join(
        f"{item.name} {item.value:.4g} {item.unit} (threshold {item.threshold:.4g})".replace("  ", " ")
        for item in evidence
    )
    lesson = f" What helped came from {correction_source}." if correction_source else ""
    said = f" {note.strip()}" if note.strip() else ""
    kind = failure.name.lower().replace("_", " ")
    return f"{kind} in task {task}, phase {phase}. Measured: {measured or 'nothing'}.{lesson}{said}"
