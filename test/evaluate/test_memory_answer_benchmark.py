# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the memory's answer measures answers, not silence."""

from __future__ import annotations

import numpy as np

from flow_rag_vla.evaluate.benchmarks import memory_answer


def test_it_measures_answers_with_renewals_beside_them(monkeypatch):
    monkeypatch.setattr(memory_answer, "CASES", 400)
    monkeypatch.setattr(memory_answer, "SUCCESSES", 200)
    found = memory_answer.measure(20)
    assert found.answered > 0.2
    assert (found.answer.count, found.scan.count, found.beside.count) == (20, 20, 20)
    assert found.renewal_ms > 0.0
    assert "ratio" in found.table() and "renewal" in found.table()


def test_situations_that_are_near_have_chunks_that_are_near():
    keys, chunks = memory_answer.situations(300, np.random.default_rng(3))
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1.0, atol=1e-4)
    alike = keys @ keys.T
    apart = np.abs(chunks[:, None] - chunks[None]).max(axis=(2, 3))
    np.fill_diagonal(alike, 0.0)
    assert apart[alike > 0.8].mean() < 0.5 * apart.mean()
