# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Two providers on the same fixed sample: how often each answers validly, rightly, and alike."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from flow_rag_vla.llm.errors import LlmError, StructureError
from flow_rag_vla.llm.fine_tuning.conversations import Conversation, Turn
from flow_rag_vla.llm.knowledge import ANALYSIS_TOKENS
from flow_rag_vla.llm.prompts import system_text, turns
from flow_rag_vla.llm.request import Message, Request, Sampling, deadline_in
from flow_rag_vla.llm.schemas import SCHEMAS, FloorPlanAnalysis
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.structured import parse, schema_instruction

OnAnswer = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its value (an instance, or text without space around it), or the kind of error; seconds."""

    value: BaseModel | str | None
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """One provider on a sample.

    valid: answers that are what was asked for; right: equal to the answer of the sample; alike: equal to the other's
    """

    provider: str
    model: str
    asked: int
    valid: int
    right: int
    alike: int
    median_s: float
    failed: Mapping[str, int] = field(default_factory=dict)


def conversation_of(request: Request, answer: BaseModel | str) -> Conversation:
    """A request and the answer that it should get, in the words in which the local provider asks its model.

    Raises:
        BadRequestError: for a request without a question.
    """
    system = system_text(request.messages)
    if request.schema is not None:
        system = f"{system}\n\n{schema_instruction(request.schema)}".strip()
    head = (Turn("system", system),) if system else ()
    said = tuple(Turn(role, text) for role, text in turns(request.messages))
    text = answer if isinstance(answer, str) else answer.model_dump_json()
    return Conversation((*head, *said, Turn("assistant", text)))


def schema_of(conversation: Conversation) -> type[BaseModel] | None:
    """The built-in structure that the answer of a conversation is an instance of; None for free text."""
    for schema in SCHEMAS.values():
        try:
            parse(conversation.answer, schema)
        except StructureError:
            continue
        return schema
    return None


def request_of(conversation: Conversation, seconds: float) -> Request:
    """The question of a conversation, to be asked of any provider."""
    schema = schema_of(conversation)
    messages = []
    for turn in conversation.turns[:-1]:
        text = turn.content
        if turn.role == "system" and schema is not None:
            # Each provider says the schema in its own way.
            text = text.removesuffix(schema_instruction(schema)).rstrip()
        if text:
            messages.append(Message(turn.role, text))  # type: ignore[arg-type]
    # As long as the answer may be where it is asked for; cut off it would count as a miss.
    tokens = ANALYSIS_TOKENS if schema is FloorPlanAnalysis else Sampling().max_tokens
    return Request(tuple(messages), deadline_in(seconds), schema, Sampling(tokens, 0.0))


async def compare(
    candidate: LanguageModel,
    reference: LanguageModel,
    sample: Sequence[Conversation],
    seconds: float,
    on_answer: OnAnswer | None = None,
) -> tuple[Score, Score]:
    """Ask both, one question after the other; errors count by their kind. ``seconds``: for each answer."""
    replies: tuple[list[Reply], list[Reply]] = ([], [])
    for number, conversation in enumerate(sample, 1):
        for model, given in zip((candidate, reference), replies, strict=True):
            given.append(await _asked(model, request_of(conversation, seconds)))
        if on_answer is not None:
            on_answer(number, len(sample))
    expected = [_expected(conversation) for conversation in sample]
    return (
        _score(candidate, replies[0], replies[1], expected),
        _score(reference, replies[1], replies[0], expected),
    )


def table(scores: Sequence[Score]) -> str:
    """The scores for people."""
    lines = [f"{'':48} {'asked':>6} {'valid':>6} {'right':>6} {'alike':>6} {'median s':>9}  failed"]
    for one in scores:
        failed = ", ".join(f"{kind} {count}" for kind, count in sorted(one.failed.items())) or "none"
        name = f"{one.provider[:20]}, {one.model[-25:]}"
        lines.append(f"{name:48} {one.asked:6} {one.valid:6} {one.right:6} {one.alike:6} {one.median_s:9.2f}  {failed}")
    return "\n".join(lines)


async def _asked(model: LanguageModel, request: Request) -> Reply:
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        answer = await model.ask(request)
    except LlmError as error:
        return Reply(None, error.kind, clock() - started)
    return Reply(answer.text.strip() if answer.value is None else answer.value, "", clock() - started)


def _expected(conversation: Conversation) -> BaseModel | str:
    schema = schema_of(conversation)
    return conversation.answer.strip() if schema is None else parse(conversation.answer, schema)


def _score(
    model: LanguageModel, replies: Sequence[Reply], others: Sequence[Reply], expected: Sequence[BaseModel | str]
) -> Score:
    provider = model.provider
    return Score(
        provider.name,
        provider.model,
        len(replies),
        sum(not reply.kind for reply in replies),
        sum(reply.value == value for reply, value in zip(replies, expected, strict=True)),
        sum(not one.kind and one.value == other.value for one, other in zip(replies, others, strict=True)),
        statistics.median(reply.seconds for reply in replies) if replies else 0.0,
        Counter(reply.kind for reply in replies if reply.kind),
    )
