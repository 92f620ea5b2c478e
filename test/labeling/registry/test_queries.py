# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Conditions as people write them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from flow_rag_vla.labeling.registry.queries import attribute_terms, parse_attributes

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True)
VALUES = st.one_of(st.text(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.dictionaries(NAMES, VALUES))
@example({"a": "3", "b": 3, "c": 3.0, "d": "true", "e": True, "f": '"x"', "g": "", "h": "NaN", "i": "빨강=3"})
def test_attributes_are_written_as_they_are_read(attributes):
    read = parse_attributes(attribute_terms(attributes))
    assert read == attributes
    assert {name: type(value) for name, value in read.items()} == {
        name: type(value) for name, value in attributes.items()
    }


def test_a_text_that_reads_as_something_else_stands_in_quotes():
    assert attribute_terms({"pose": "open", "look": 3, "name": "3", "wet": True}) == [
        "pose=open", "look=3", 'name="3"', "wet=true",
    ]  # fmt: skip
