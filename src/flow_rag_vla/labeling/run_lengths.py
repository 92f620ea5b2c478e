# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Masks as COCO's run lengths: lists of numbers, and the compressed text of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BITS = 5
_MORE = 0x20
_SIGN = 0x10
_BASE = 48
"""Characters from "0" on carry five bits and whether more follow."""


def mask_counts(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask (H, W) column by column, beginning with those outside: COCO's uncompressed RLE."""
    flat = np.asarray(mask, np.bool_).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def counts_mask(counts: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """The mask (height, width) of run lengths.

    Raises:
        ValueError: a run is negative, or they do not sum up to the picture.
    """
    runs = np.asarray(counts, np.int64)
    if runs.size and int(runs.min()) < 0:
        raise ValueError(f"a run length is {int(runs.min())}, expected 0 or more")
    if int(runs.sum()) != width * height:
        raise ValueError(f"the run lengths sum up to {int(runs.sum())}, expected {width} x {height}")
    flat = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")


def counts_text(counts: Sequence[int]) -> str:
    """Run lengths as COCO's compressed text: each from the third on as the difference to the one two before."""
    letters: list[str] = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = value & (_MORE - 1)
            value >>= _BITS
            more = value != (-1 if bits & _SIGN else 0)
            letters.append(chr(_BASE + (bits | (_MORE if more else 0))))
    return "".join(letters)


def text_counts(text: str) -> list[int]:
    """The run lengths in a compressed text.

    Raises:
        ValueError: it breaks off, or holds a character that is none of it.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - _BASE
        if not 0 <= bits < 2 * _MORE or shift > 60:
            raise ValueError(f"{letter!r} does not belong into compressed run lengths")
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths break off")
    return counts
