# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.evaluate.trials.variants import InForce, methods, parse, parse_all, register, resolved

NAMES = [method.name for method in methods()]
WITH_CASES = [method.name for method in methods() if method.needs_cases]


@given(st.sampled_from(WITH_CASES), st.one_of(st.none(), st.integers(1, 10**6)), st.sampled_from(["", "shuffled+"]))
def test_a_variant_reads_back_as_it_is_written(name: str, episodes: int | None, prefix: str) -> None:
    text = f"{prefix}{name}" + ("" if episodes is None else f":{episodes}")
    found = parse(text)
    assert str(found) == text
    assert (found.method.name, found.episodes, found.shuffled) == (name, episodes, bool(prefix))
    assert found.needs_cases


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_described_in_a_sentence(name: str) -> None:
    assert parse(name).description.endswith(".")


def test_short_words_stand_for_the_memory_in_force() -> None:
    assert [str(item) for item in parse_all("on,shuffled,on:50,online")] == [
        "off", "dispatch", "shuffled+dispatch", "dispatch:50", "online+dispatch",
    ]  # fmt: skip


def test_short_words_stand_for_what_the_graph_does_where_that_can_be_asked() -> None:
    in_force = InForce("by_cause", "dispatch")
    assert [str(item) for item in parse_all("on,shuffled,on:50,online,dispatch", in_force)] == [
        "off", "by_cause", "shuffled+by_cause", "by_cause:50", "online+dispatch", "dispatch",
    ]  # fmt: skip
    # A report shows both; what was named in full is called as it was.
    assert resolved("off, on,on:50,shuffled,guide,shuffled+guide", in_force) == {
        "by_cause": "on", "by_cause:50": "on:50", "shuffled+by_cause": "shuffled",
    }  # fmt: skip


def test_the_baseline_comes_first_and_nothing_twice() -> None:
    assert [str(item) for item in parse_all(" guide, off ,guide,, retry")] == ["off", "guide", "retry"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("guess", "known: off"), ("", "not known"), ("guide:x", "not known"), ("retry:3", "uses no cases"),
        ("shuffled+off", "uses no cases"), ("guide:0", "no episode"), ("online+guide:5", "not cut"),
        ("shuffled+online+guide", "not known"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(TrialError, match=reason):
        parse(text)


def test_a_growing_memory_needs_no_bank() -> None:
    assert not parse("online+guide").needs_cases


@pytest.mark.parametrize("name", ["on", "Two Words", "a,b", ""])
def test_a_method_that_could_not_be_written_in_a_list_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        register(name, "Nothing.")
