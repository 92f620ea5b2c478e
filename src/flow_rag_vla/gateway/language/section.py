# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The section of the gateway in which a language model is asked, and floor plans are checked against retrieved rules.

``POST /api/language/ask`` answers one question, by a built-in schema if one is named, or from retrieved passages with
citations. ``POST /api/language/analyze``
checks the topology of a floor plan. ``GET /api/language/health`` says who answers. What is sent as data is quoted to
the model and never obeyed. One language model lives on the server's event loop: make the section for one application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from flow_rag_vla.gateway.access import Labeller, Viewer
from flow_rag_vla.gateway.app import Section
from flow_rag_vla.gateway.errors import GatewayError, unavailable
from flow_rag_vla.gateway.metrics import Metric, labelled
from flow_rag_vla.llm.accounting import Ledger
from flow_rag_vla.llm.errors import BadRequestError, LlmError
from flow_rag_vla.llm.knowledge import CHECK_PLAN, FloorPlan, answer_request, floor_plan_request
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.request import MAX_CHARACTERS, Answer, Message, Request, Sampling, deadline_in
from flow_rag_vla.llm.schemas import FloorPlanAnalysis, schema_named
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.text_store import Passage, TextStore

NAME = "language"

_STATUS = {
    "bad_request": 400,
    "unknown_provider": 400,
    "unknown_model": 400,
    "unsupported_schema": 422,
    "refused": 422,
    "rate_limited": 429,
}
"""By kind of error; every other one means that somebody else is missing or slow."""

_REMEDY = {
    "bad_request": "see the message",
    "unsupported_schema": "start the server with another provider",
    "refused": "ask otherwise",
    "rate_limited": "ask again later",
    "deadline": "allow more time, or use a quicker model",
    "structure": "ask again, or use a model that follows schemas better",
    "missing_key": "set the variable that the message names, and start the server again",
    "missing_package": "install what the message names, and start the server again",
    "unknown_provider": "start the server with one of those that the message names",
    "unknown_model": "start the server with a model that its provider has",
    "truncated": "raise max_tokens, or ask for less",
    "store": "see the message",
}
"""By kind of error; what is not named here may pass by itself."""

Seconds = Annotated[float, Field(gt=0.0, le=600.0)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Quoted(_Closed):
    """Text that a model may read and must not obey."""

    text: Text
    source: Annotated[str, Field(max_length=200)] = ""


class Ask(_Closed):
    """One question.

    schema_name: of a built-in structure, such as TaskPlan; empty: text
    collections: answered from the nearest k passages of these alone, with citations; none: from nothing
    """

    question: Text
    schema_name: Annotated[str, Field(max_length=60)] = ""
    collections: Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(max_length=16)] = []
    k: Annotated[int, Field(ge=1, le=32)] = 5
    data: Annotated[list[Quoted], Field(max_length=64)] = []
    deadline_s: Seconds = 30.0
    max_tokens: Annotated[int, Field(ge=1, le=65_536)] = 1024


class Analyze(_Closed):
    """A floor plan to check. k: how many rules are retrieved."""

    plan: FloorPlan
    question: Annotated[str, Field(min_length=1, max_length=2000)] = CHECK_PLAN
    k: Annotated[int, Field(ge=1, le=32)] = 6
    deadline_s: Seconds = 60.0


class Retrieved(BaseModel):
    """A retrieved passage, by the number that an answer cites."""

    number: str
    text: str
    source: str


class Answered(BaseModel):
    """An answer and its account.

    value: the validated instance; null where no schema was asked for
    passages: what it was to be answered from
    """

    text: str
    value: dict[str, Any] | None
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cost: float | None
    attempts: int
    seconds: float
    passages: list[Retrieved] = []


class Analyzed(BaseModel):
    """What a floor plan's analysis came to, and the rules that it was given."""

    analysis: FloorPlanAnalysis
    rules: list[Retrieved]
    account: Answered


class Health(BaseModel):
    """Who answers. rules: passages that analyses look into; null without a store."""

    provider: str
    model: str
    passages: int | None
    calls: int
    failures: int


def language_section(
    model: LanguageModel, ledger: Ledger, open_store: Callable[[], TextStore] | None = None
) -> Section:
    """The routes below ``/api/language``.

    Args:
        model: who answers; used on the server's loop alone.
        ledger: the one that the model's settings hold, for figures.
        open_store: opens the store of building rules; called for each analysis in a thread of its own, since a store
            belongs to the thread that opened it. None: there are no rules, and nothing is analyzed.
    """
    router = APIRouter()
    # One retrieval at a time: they share an embedder, and two would only make each other slower.
    retrieving = asyncio.Lock()

    @router.get("/health")
    async def health(_person: Viewer) -> Health:
        """Who answers, how often, and from how many passages."""
        calls = sum(account.calls for account in ledger.accounts.values())
        failures = sum(account.failures for account in ledger.accounts.values())
        count = None if open_store is None else await asyncio.to_thread(_count, open_store)
        return Health(
            provider=model.provider.name, model=model.provider.model, passages=count, calls=calls, failures=failures
        )

    @router.post("/ask")
    async def ask(asked: Ask, _person: Labeller) -> Answered:
        """The answer to one question."""
        if asked.collections and open_store is None:
            raise _nothing_known()
        try:
            if asked.collections and asked.schema_name:
                raise BadRequestError("schema_name and collections exclude each other; ask for one of them")
            schema = schema_named(asked.schema_name) if asked.schema_name else None
            data = [Message("data", item.text, item.source) for item in asked.data]
            deadline, sampling = deadline_in(asked.deadline_s), Sampling(asked.max_tokens)
            if asked.collections:
                assert open_store is not None
                async with retrieving:
                    request, found = await asyncio.to_thread(_cited, open_store, asked, data, deadline, sampling)
                return _answered(await model.ask(request), found)
            request = make_request(asked.question, deadline, schema, data=data, sampling=sampling)
            return _answered(await model.ask(request))
        except LlmError as error:
            raise _refusal(error) from error

    @router.post("/analyze")
    async def analyze(asked: Analyze, _person: Labeller) -> Analyzed:
        """A floor plan against the rules that fit it."""
        if open_store is None:
            raise _nothing_known()
        try:
            async with retrieving:
                request, found = await asyncio.to_thread(_request, open_store, asked)
            answer = await model.ask(request)
        except LlmError as error:
            raise _refusal(error) from error
        assert isinstance(answer.value, FloorPlanAnalysis)  # the service checked it
        return Analyzed(analysis=answer.value, rules=_retrieved(found), account=_answered(answer))

    def metrics() -> Iterable[Metric]:
        accounts = {f"{name}/{which}": account for (name, which), account in ledger.accounts.items()}
        for key, text in (("calls", "Calls of language models."), ("failures", "Calls that failed.")):
            values = {name: float(getattr(account, key)) for name, account in accounts.items()}
            yield labelled(f"flow_rag_vla_language_{key}_total", "counter", text, "model", values)

    return Section(NAME, router, metrics=metrics)


def _count(open_store: Callable[[], TextStore]) -> int:
    store = open_store()
    try:
        return len(store)
    finally:
        store.close()


def _request(open_store: Callable[[], TextStore], asked: Analyze) -> tuple[Request, Sequence[Passage]]:
    store = open_store()
    try:
        return floor_plan_request(asked.plan, store, deadline_in(asked.deadline_s), question=asked.question, k=asked.k)
    finally:
        store.close()


def _cited(
    open_store: Callable[[], TextStore], asked: Ask, data: Sequence[Message], deadline: float, sampling: Sampling
) -> tuple[Request, Sequence[Passage]]:
    store = open_store()
    try:
        return answer_request(
            asked.question, store, deadline, collections=asked.collections, k=asked.k, data=data, sampling=sampling
        )
    finally:
        store.close()


def _nothing_known() -> GatewayError:
    return unavailable("no_rules", "this server has no building rules or manuals", "start it with --rules or --store")


def _retrieved(found: Sequence[Passage]) -> list[Retrieved]:
    return [
        Retrieved(number=f"R{number}", text=one.text, source=f"{one.source}#{one.position}")
        for number, one in enumerate(found, 1)
    ]


def _answered(answer: Answer, found: Sequence[Passage] = ()) -> Answered:
    return Answered(
        text=answer.text,
        value=None if answer.value is None else answer.value.model_dump(mode="json"),
        provider=answer.provider,
        model=answer.model,
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cost=answer.cost,
        attempts=answer.attempts,
        seconds=round(answer.seconds, 6),
        passages=_retrieved(found),
    )


def _refusal(error: LlmError) -> GatewayError:
    status = _STATUS.get(error.kind, 503)
    return GatewayError(status, error.kind, str(error), _REMEDY.get(error.kind, "ask again later"))
