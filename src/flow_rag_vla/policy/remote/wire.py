# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""openpi's message format: MessagePack, with arrays as maps of bytes, type and shape.

An array is ``{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [H, D]}``, a NumPy scalar
``{b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}`` (openpi, packages/openpi-client, ``msgpack_numpy.py``). A
message comes from another machine: only numbers of the plain kinds are made of it, sizes are checked before anything
is allocated, and there is no way from bytes to code.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from flow_rag_vla.policy.remote.errors import WireError, missing_library

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
"""Booleans, integers and floating point numbers; no objects, texts, records or dates."""

_PLAIN_KINDS = "biuf"
_MOST_DIMENSIONS = 8
_MOST_ITEMS = 65_536
"""Of a list or a map: numbers come as arrays, which are bytes."""


def encode(message: Any) -> bytes:
    """Bytes of a message: maps, lists, texts, numbers, and arrays of numbers.

    Raises:
        WireError: for a value that the format cannot carry, such as an array of objects.
        MissingLibraryError: if msgpack is not installed.
    """
    msgpack = _msgpack()
    try:
        return bytes(msgpack.packb(message, default=_packed))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"the message cannot be sent: {error}") from None


def decode(data: bytes, most_bytes: int = 64_000_000) -> Any:
    """The message in some bytes; its arrays are read-only views of them.

    Raises:
        WireError: for bytes that are no such message, more of them than ``most_bytes``, an array of anything but
            numbers, or one whose bytes do not fit its shape.
        MissingLibraryError: if msgpack is not installed.
    """
    if len(data) > most_bytes:
        raise WireError(f"the message has {len(data):,} bytes, allowed are {most_bytes:,}")
    msgpack = _msgpack()
    try:
        return msgpack.unpackb(
            data,
            object_hook=_unpacked,
            ext_hook=_refuse_extension,
            max_array_len=_MOST_ITEMS,
            max_map_len=_MOST_ITEMS,
        )
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"{len(data):,} bytes that are no message: {str(error) or type(error).__name__}") from None


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise missing_library(error) from None
    return msgpack


def _packed(value: Any) -> dict[bytes, Any]:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"a value of type {type(value).__name__} is none that the protocol knows")
    if value.dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"an array of {value.dtype} is none of numbers")
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": list(value.shape),
        }
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _unpacked(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        return _scalar(value)
    return value


def _array(value: dict[Any, Any]) -> Any:
    dtype, data, shape = _dtype(value), value.get(b"data"), value.get(b"shape")
    if not isinstance(data, bytes):
        raise WireError(f"an array's data is of type {type(data).__name__}, expected bytes")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    ):
        raise WireError(f"an array's shape is {str(shape)[:60]}, expected at most {_MOST_DIMENSIONS} whole numbers")
    size = math.prod(shape) * dtype.itemsize
    if size != len(data):
        raise WireError(f"an array of {dtype.str} {shape} needs {size:,} bytes, but {len(data):,} came")
    return np.frombuffer(data, dtype).reshape(shape)


def _scalar(value: dict[Any, Any]) -> Any:
    dtype, data = _dtype(value), value.get(b"data")
    if not isinstance(data, (bool, int, float)):
        raise WireError(f"a number is of type {type(data).__name__}, expected a number")
    return dtype.type(data)


def _dtype(value: dict[Any, Any]) -> np.dtype[Any]:
    name = value.get(b"dtype")
    if not isinstance(name, str) or _DTYPE.fullmatch(name) is None:
        raise WireError(f"an array's type is {str(name)[:40]!r}, expected one of numbers, such as '<f4' or '|u1'")
    return np.dtype(name)


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise WireError(f"the message holds an extension of type {code}, which the protocol has not")
