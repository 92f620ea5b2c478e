# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The wire format: what openpi sends comes back as it was, and nothing that a stranger sends does harm."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flow_rag_vla.policy.remote.errors import WireError
from flow_rag_vla.policy.remote.wire import decode, encode

NUMBERS = st.one_of(
    arrays.boolean_dtypes(), arrays.integer_dtypes(), arrays.unsigned_integer_dtypes(), arrays.floating_dtypes()
)


@given(arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
def test_an_array_comes_back_as_it_was(array):
    back = decode(encode({"observation": {"image": array}, "prompt": "put it there"}))
    assert back["prompt"] == "put it there"
    found = back["observation"]["image"]
    assert found.dtype == array.dtype and found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_an_array_is_packed_as_openpi_packs_it():
    packed = msgpack.unpackb(encode(np.array([[1, 2, 3]], dtype="<i2")))
    assert packed == {
        b"__ndarray__": True, b"data": b"\x01\0\x02\0\x03\0", b"dtype": "<i2", b"shape": [1, 3],
    }  # fmt: skip
    assert msgpack.unpackb(encode(np.float32(0.5))) == {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["text"]), np.array([1j]), {1, 2}, 2**70])
def test_what_the_format_cannot_carry_is_not_sent(value):
    with pytest.raises(WireError, match="cannot be sent"):
        encode({"value": value})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "|O8", b"shape": [0]}),
            "expected one of numbers",
        ),
        (msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "f4,O", b"shape": [0]}), "expected one of num"),
        (msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": b"<f4", b"shape": [0]}), "expected one of num"),
        (msgpack.packb({b"__ndarray__": True, b"data": b"1234", b"dtype": "<f4", b"shape": [2]}), "needs 8 bytes"),
        (msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [2**62, 4]}), "needs"),
        (msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [-1]}), "whole numbers"),
        (msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [0] * 40}), "whole numbers"),
        (msgpack.packb({b"__ndarray__": True, b"data": "text", b"dtype": "<f4", b"shape": [1]}), "expected bytes"),
        (msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}), "expected a number"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}), "no message"),
        (msgpack.packb(msgpack.ExtType(7, b"code")), "extension of type 7"),
        (b"\x91" * 5000, "no message"),
        (b"", "no message"),
        (msgpack.packb(1) + b"\0", "extra data"),
    ],
)
def test_bytes_that_are_no_message_are_refused_and_named(data, said):
    with pytest.raises(WireError, match=said):
        decode(data)


def test_a_large_message_is_refused_before_it_is_looked_at():
    with pytest.raises(WireError, match="1,001 bytes, allowed are 1,000"):
        decode(b"\xc1" * 1001, 1000)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_refusal(data):
    try:
        decode(data)
    except WireError as error:
        assert str(error)


@given(st.data())
def test_a_message_with_some_bytes_changed_gives_a_message_or_a_refusal(data):
    good = bytearray(encode({"actions": np.arange(14, dtype=np.float32).reshape(2, 7), "timing": {"infer_ms": 1.5}}))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(good))
    except WireError as error:
        assert str(error)
