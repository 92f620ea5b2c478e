# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What surrounds a provider: deadline, cancellation, limits, cache, accounts, and providers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.llm import errors
from flow_rag_vla.llm.accounting import Ledger, parse_prices
from flow_rag_vla.llm.cache import ResponseCache
from flow_rag_vla.llm.limits import RetryPolicy, TokenBucket
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.registry import chosen_provider, make_provider, provider_names
from flow_rag_vla.llm.request import CancelToken, Message, RawAnswer, Request, Sampling, Usage, deadline_in
from flow_rag_vla.llm.schemas import SCHEMAS, LabelPrompt, TaskPlan, schema_named
from flow_rag_vla.llm.service import LanguageModel, ServiceSettings


class Scripted:
    """A provider that does what each entry of its script says: raise it, wait for ever, or answer it."""

    name, model, deterministic = "scripted", "m", False

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.asked: list[Request] = []

    async def answer(self, request, emit=None):
        self.asked.append(request)
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(entry, BaseException):
            raise entry
        if entry == "hang":
            await asyncio.Event().wait()
        if entry == "stubborn":
            for _ in range(1000):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.02)
        return RawAnswer(str(entry), Usage(10, 5))

    async def close(self) -> None:
        pass


def ask(provider, settings=None, seconds=10.0, schema=None, question="hello", **more):
    model = LanguageModel(provider, settings, random.Random(0))
    return asyncio.run(model.ask(make_request(question, deadline_in(seconds), schema, **more)))


def test_a_provider_that_ignores_its_cancellation_cannot_hold_up_the_deadline():
    async def both() -> None:
        model = LanguageModel(Scripted("stubborn"))
        with pytest.raises(errors.DeadlineError):
            await model.ask(make_request("hello", deadline_in(0.1)))
        # The stubborn task is still there, and the caller is not kept by it.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(left) == 1
        for task in left:
            for _ in range(1000):
                task.cancel()
                await asyncio.sleep(0)

    asyncio.run(both())


def test_a_provider_that_raises_something_else_is_a_typed_error_without_secrets():
    with pytest.raises(errors.ProtocolError, match=r"KeyError: .*\[hidden\]") as caught:
        ask(Scripted(KeyError("api_key=abcdefgh12345")), ServiceSettings(retry=RetryPolicy(attempts=1)))
    assert "abcdefgh" not in str(caught.value)


def test_a_cancellation_from_outside_passes_through_and_ends_the_provider():
    async def canceled() -> None:
        provider = Scripted("hang")
        task = asyncio.ensure_future(LanguageModel(provider).ask(make_request("x", deadline_in(60.0))))
        while not provider.asked:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(canceled())


def test_a_deadline_that_has_passed_asks_nobody():
    provider = Scripted("x")
    request = Request((Message("user", "x"),), deadline_in(1e-9))
    with pytest.raises(errors.DeadlineError):
        asyncio.run(LanguageModel(provider).ask(request))
    assert provider.asked == []


def test_errors_that_do_not_pass_are_not_tried_again():
    provider = Scripted(errors.UnknownModelError("m"))
    with pytest.raises(errors.UnknownModelError):
        ask(provider)
    assert len(provider.asked) == 1


def test_a_deterministic_provider_is_not_asked_twice_for_the_same():
    provider = Scripted("nonsense")
    provider.deterministic = True
    with pytest.raises(errors.StructureError, match="after 1 answers"):
        ask(provider, schema=TaskPlan)


def test_a_long_conversation_still_gets_its_retry():
    provider = Scripted("nonsense")
    with pytest.raises(errors.StructureError, match="after 3 answers"):
        ask(provider, schema=LabelPrompt, question="x" * 31_500)
    assert len(provider.asked) == 3


def test_the_same_question_is_answered_from_the_cache_and_costs_nothing():
    provider, ledger = Scripted("a", "b", "c"), Ledger(parse_prices(("m=1/1",)))
    settings = ServiceSettings(cache=ResponseCache(8, 60.0), ledger=ledger)
    first, again, other = (ask(provider, settings, question=words) for words in ("x", "x", "y"))
    assert (first.text, again.text, other.text) == ("a", "a", "b")
    assert again.cached and again.usage == Usage() and again.cost == 0.0 and not first.cached
    assert ledger.accounts["scripted", "m"].calls == 2
    # Who asks for chance gets it.
    assert ask(provider, settings, question="x", sampling=Sampling(temperature=1.0)).text == "c"


def test_what_was_wrong_is_not_kept():
    provider = Scripted("nonsense", "nonsense", "nonsense", '{"phrases": ["cube"]}')
    settings = ServiceSettings(cache=ResponseCache(8, 60.0))
    with pytest.raises(errors.StructureError):
        ask(provider, settings, schema=LabelPrompt)
    assert ask(provider, settings, schema=LabelPrompt).value == LabelPrompt(phrases=["cube"])


def test_the_cache_forgets_the_oldest_and_the_old():
    now = [0.0]
    cache = ResponseCache(2, 10.0, lambda: now[0])
    for key in "abc":
        cache.put(key, key)
    assert [cache.get(key) for key in "abc"] == [None, "b", "c"]
    now[0] = 11.0
    assert cache.get("b") is None and len(cache) == 1


def test_a_call_without_a_price_is_counted_as_such():
    ledger = Ledger()
    assert ask(Scripted("x"), ServiceSettings(ledger=ledger)).cost is None
    assert ledger.accounts["scripted", "m"].unpriced == 1


@pytest.mark.parametrize("entry", ["m", "m=1", "m=1/x", "=1/2", "m=-1/2", "m=nan/1"])
def test_a_price_that_is_none_is_named(entry):
    with pytest.raises(ValueError, match="price"):
        parse_prices((entry,))


def test_the_own_rate_limit_refuses_what_it_would_let_through_too_late():
    now = [0.0]
    bucket = TokenBucket(60.0, 1.0, lambda: now[0])
    settings = ServiceSettings(requests=bucket)
    provider = Scripted("x")
    assert ask(provider, settings).text == "x"
    with pytest.raises(errors.RateLimitedError, match="own rate limit") as caught:
        ask(provider, settings, seconds=0.5)
    assert caught.value.retry_after_s == pytest.approx(1.0)
    now[0] = 1.0
    assert ask(provider, settings, seconds=0.5).text == "x"


def test_tokens_are_settled_after_the_answer():
    now = [0.0]
    settings = ServiceSettings(tokens=TokenBucket(60.0, 10.0, lambda: now[0]))
    assert ask(Scripted("x"), settings).text == "x"
    with pytest.raises(errors.RateLimitedError) as caught:
        ask(Scripted("x"), settings, seconds=1.0)
    assert caught.value.retry_after_s == pytest.approx(5.0)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.1, 3.0)), min_size=1, max_size=30))
def test_a_bucket_never_lets_more_through_than_its_rate(arrivals):
    now, at = [0.0], []
    bucket = TokenBucket(60.0, 2.0, lambda: now[0])
    for pause, amount in arrivals:
        now[0] += pause
        at.append((now[0] + bucket.take(amount), amount))
    assert [time for time, _ in at] == sorted(time for time, _ in at)
    for place, (time, _) in enumerate(at):
        assert sum(amount for _, amount in at[: place + 1]) <= 2.0 + time + 1e-6


@given(st.integers(0, 60), st.floats(0.0, 100.0) | st.none(), st.randoms(use_true_random=False))
def test_waits_between_retries_are_bounded_and_keep_what_was_asked(retry, asked, rng):
    wait = RetryPolicy(base_s=0.5, cap_s=8.0).wait_s(retry, asked, rng)
    assert (asked or 0.0) <= wait <= max(asked or 0.0, min(8.0, 0.5 * 2.0**retry))


def test_a_cancel_token_tells_everyone_once_and_forgets_who_left():
    token, told = CancelToken(), []
    token.on_cancel(lambda: told.append("a"))
    token.on_cancel(lambda: told.append("b"))()
    token.cancel()
    token.cancel()
    token.on_cancel(lambda: told.append("late"))
    assert told == ["a", "late"]


def test_the_provider_is_chosen_by_parameter_then_variable_then_default():
    assert chosen_provider("", {}) == "rules"
    assert chosen_provider("", {"LLM_PROVIDER": "openai"}) == "openai"
    assert chosen_provider("local", {"LLM_PROVIDER": "openai"}) == "local"
    with pytest.raises(errors.UnknownProviderError, match=r"LLM_PROVIDER.*known: rules, claude"):
        chosen_provider("", {"LLM_PROVIDER": "oracle"})


def test_another_package_adds_a_provider_with_one_file_and_an_entry_point(tmp_path, monkeypatch):
    (tmp_path / "parrot.py").write_text(
        "from flow_rag_vla.llm.request import RawAnswer\n"
        "class Parrot:\n"
        "    name, model, deterministic = 'parrot', 'grey', True\n"
        "    async def answer(self, request, emit=None):\n"
        "        return RawAnswer(request.question)\n"
        "    async def close(self):\n"
        "        pass\n"
        "def make(settings):\n"
        "    return Parrot()\n"
    )
    metadata = tmp_path / "parrot-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[flow_rag_vla.llm_providers]\nparrot = parrot:make\nbroken = nowhere_to_be_found:make\nrules = parrot:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"parrot", "broken"} <= set(provider_names())
    assert ask(make_provider("parrot"), question="hello").text == "hello"
    assert make_provider("rules").model == "task-language-1"
    with pytest.raises(errors.MissingPackageError, match="nowhere_to_be_found"):
        make_provider("broken")


def test_rules_says_what_it_cannot_fill():
    for name in SCHEMAS:
        if name != "TaskPlan":
            with pytest.raises(errors.UnsupportedSchemaError, match=name):
                ask(make_provider("rules"), schema=schema_named(name))


def test_rules_never_reads_data():
    scene = Message("data", "open the drawer", "label")
    answer = ask(make_provider("rules"), schema=TaskPlan, question="put the cube in the bin", data=(scene,))
    assert [step.target for step in answer.value.steps] == ["red_cube"]


def test_an_unknown_schema_is_refused_with_the_known_ones():
    with pytest.raises(errors.BadRequestError, match="TaskPlan"):
        schema_named("Poem")


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"max_tokens": 10**6}, {"temperature": 2.5}, {"temperature": float("nan")}, {"top_p": 0.0}],
)
def test_sampling_out_of_range_is_refused(wrong):
    with pytest.raises(errors.BadRequestError):
        Sampling(**wrong)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(seconds):
    with pytest.raises(errors.BadRequestError):
        deadline_in(seconds)


def test_half_a_character_is_refused():
    with pytest.raises(errors.BadRequestError, match="half a character"):
        make_request("open \ud800 the drawer", deadline_in(1.0))


def test_a_schema_that_is_no_model_is_refused():
    with pytest.raises(errors.BadRequestError, match="no pydantic model"):
        Request((Message("user", "x"),), deadline_in(1.0), schema=dict)
