# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes

import pytest

from flow_rag_vla.core.allocator import give_back
from flow_rag_vla.core.process_figures import ProcessFigures


def test_what_a_computation_freed_is_given_back():
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("not glibc: there is nothing to give back with")
    process = ProcessFigures()
    # Many small blocks, below what the allocator maps by itself, with one that stays in use behind them.
    blocks = [bytes(4_000) for _ in range(20_000)]
    held = blocks.pop()
    high = process.read()["memory_mb"]
    del blocks
    give_back()
    assert process.read()["memory_mb"] < high - 40.0
    assert len(held) == 4_000
