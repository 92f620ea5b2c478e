# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A YAML file of others is what it seems, or it is refused."""

from __future__ import annotations

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.yaml_text import plain_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(VALUES)
def test_what_was_written_is_read(value):
    # A list that occurs twice is written with an alias.
    assert plain_yaml(yaml.safe_dump([value, value])) == [value, value]


def test_a_small_file_that_stands_for_billions_is_refused():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)]
    with pytest.raises(yaml.YAMLError, match="more than 1,000,000 values"):
        plain_yaml("\n".join(lines))


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000 + "1" + "}" * 5000])
def test_what_is_nested_too_deep_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="nested too deep"):
        plain_yaml(text)


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: {c: *a}}"])
def test_what_is_part_of_itself_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="refers to what it is part of"):
        plain_yaml(text)


def test_no_object_is_made():
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        plain_yaml("!!python/object/apply:os.system ['true']")


def test_a_long_plain_list_is_read():
    assert plain_yaml("[" + ",".join(string.ascii_letters) + "]") == list(string.ascii_letters)
