# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.residency.messages import MAX_BYTES, MessageError, ResultMessage, Status, TaskMessage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
DATA = st.dictionaries(TEXT, JSON, max_size=4)


@given(st.builds(TaskMessage, TEXT.filter(bool), TEXT, DATA, st.integers(-9, 9), TEXT))
def test_a_task_survives_its_json(task):
    assert TaskMessage.from_json(task.to_json()) == task
    assert "\n" not in task.to_json()


@given(
    st.builds(
        ResultMessage,
        TEXT,
        TEXT,
        st.sampled_from(Status),
        DATA,
        TEXT,
        st.integers(0, 9),
        st.floats(0, 9),
        st.floats(0, 9),
    )
)
def test_a_result_survives_its_json(result):
    assert ResultMessage.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[]", "expected an object"),
        ("{}", "lacks fields"),
        ('{"module": ""}', "expected a name"),
        ('{"module": 3}', "module is 3, expected text"),
        ('{"module": "a", "priority": true}', "expected a whole number"),
        ('{"module": "a", "else": 1}', "'else', expected one of"),
        ('{"module": "a", "data": 1}', "expected an object"),
        ("[" * 100_000, "no JSON"),
        (" " * (MAX_BYTES + 1), "name a file"),
    ],
)
def test_a_malformed_task_is_refused_by_field(text, said):
    with pytest.raises(MessageError, match=said):
        TaskMessage.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"task_id": "a", "module": "b", "status": "fine"}',
        '{"task_id": "a", "module": "b", "status": "ok", "run_s": -1}',
        '{"task_id": "a", "module": "b", "status": "ok", "run_s": NaN}',
        '{"task_id": "a", "module": "b", "status": "ok", "queued_s": "1"}',
    ],
)
def test_a_malformed_result_is_refused(text):
    with pytest.raises(MessageError):
        ResultMessage.from_json(text)


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_whatever_comes_is_a_message_or_one_typed_error(raw):
    with contextlib.suppress(MessageError):
        assert TaskMessage.from_json(raw).module


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, "x" * MAX_BYTES])
def test_what_is_no_json_or_too_long_is_not_sent(value):
    with pytest.raises(MessageError):
        TaskMessage("a", data={"x": value}).to_json()
