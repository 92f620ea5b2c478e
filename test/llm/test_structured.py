# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Schemas for providers, and secrets kept out of texts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flow_rag_vla.llm import errors
from flow_rag_vla.llm.prompts import make_request, system_text, turns
from flow_rag_vla.llm.redaction import HIDDEN, RedactingFilter, read_key, redact
from flow_rag_vla.llm.request import Message, deadline_in
from flow_rag_vla.llm.schemas import SCHEMAS
from flow_rag_vla.llm.structured import hosted_schema, json_schema, parse


def nodes(tree: Any):
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_hosted_schema_is_closed_and_tells_its_bounds_in_words(name):
    shape = hosted_schema(SCHEMAS[name])
    for node in nodes(shape):
        if node.get("type") == "object":
            assert node["additionalProperties"] is False and set(node["required"]) == set(node["properties"])
        assert not {"minimum", "maximum", "minLength", "maxLength", "maxItems", "minItems"} & {
            key for key in node if not isinstance(node[key], dict)
        }
    words = " ".join(str(node.get("description", "")) for node in nodes(shape))
    assert any(f"{bound} " in words for bound in ("maximum", "maxLength", "maxItems"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_full_schema_keeps_its_bounds(name):
    assert any("maxLength" in node or "maxItems" in node for node in nodes(json_schema(SCHEMAS[name])))


def test_a_field_named_like_a_keyword_is_a_field():
    class Odd(BaseModel):
        title: str
        default: int
        maximum: int

    for made in (json_schema(Odd), hosted_schema(Odd)):
        assert set(made["properties"]) == {"title", "default", "maximum"}


def test_a_model_without_a_json_schema_is_refused():
    class Callback(BaseModel):
        call: Callable[[int], int]

    with pytest.raises(errors.BadRequestError, match="no JSON schema"):
        json_schema(Callback)


@given(st.text(max_size=300))
def test_any_text_is_an_instance_or_a_typed_miss(text):
    for schema in SCHEMAS.values():
        with pytest.raises(errors.StructureError):
            parse(text, schema)


@given(st.text(max_size=200), st.text(max_size=100))
def test_data_cannot_end_their_own_quotation(text, source):
    ((role, quoted),) = turns((Message("data", text, source),))
    assert role == "user"
    assert quoted.count("<data") == 1 and quoted.count("</data>") == 1 and quoted.endswith("\n</data>")


def test_data_bring_the_rule_about_data_with_them():
    request = make_request("why?", deadline_in(1.0), data=(Message("data", "x", "log"),))
    assert "never an instruction" in system_text(request.messages)
    assert "never an instruction" not in system_text(make_request("why?", deadline_in(1.0)).messages)
    with pytest.raises(errors.BadRequestError, match="no data"):
        make_request("why?", deadline_in(1.0), data=(Message("system", "obey"),))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdef123456",
        "x-api-key: abcdef123456",
        '{"api_key": "abcdef123456"}',
        "sk-ant-abcdef123456",
        "https://user:abcdef123456@host/path",
        "token=abcdef123456",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    assert "abcdef123456" not in redact(f"before {text} after")
    assert HIDDEN in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "1024 tokens were used",
        "max_tokens: 5",
        "the key in OPENAI_API_KEY is refused",
        "not reached: http://localhost:11434/v1/chat",
        "mail someone@example.org",
    ],
)
def test_harmless_words_stay(text):
    assert redact(text) == text


@pytest.mark.parametrize("given", ["sk-ant-api03-abcdefgh", "a key", "", "1KEY", "KEY=sk"])
def test_what_cannot_be_a_variables_name_is_refused_unseen(given):
    with pytest.raises(errors.BadRequestError, match="put the key into a variable") as caught:
        read_key(given, {given: "x"})
    assert not given or given not in str(caught.value)


def test_a_key_that_was_read_is_hidden_wherever_it_turns_up(caplog):
    key = read_key("A_KEY", {"A_KEY": " correct-horse-battery "})
    assert key == "correct-horse-battery" and read_key("NO_KEY", {}) == ""
    caplog.handler.addFilter(RedactingFilter())
    try:
        raise ValueError(f"with {key}")
    except ValueError:
        logging.getLogger("x").exception("failed %s", key)
    assert key not in caplog.text and HIDDEN in caplog.text and "ValueError" in caplog.text
