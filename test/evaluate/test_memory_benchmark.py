# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The memory's benchmark at scale, sized down: every stage runs, and what it prints is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.evaluate.benchmarks import memory_growth, memory_scale
from flow_rag_vla.evaluate.benchmarks.memory_cases import CHUNK, MEAN_LENGTH, isotropic, shaped

CASES = 3_000


def test_generated_vectors_are_the_same_each_time_and_shaped_like_the_encoders():
    rows = next(shaped(CASES))
    np.testing.assert_array_equal(rows, next(shaped(CASES)))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    mean = rows.mean(axis=0)
    assert np.linalg.norm(mean) == pytest.approx(MEAN_LENGTH, abs=0.01)
    shares = np.cumsum(np.linalg.svd(rows - mean, compute_uv=False) ** 2)
    assert [int(np.searchsorted(shares / shares[-1], part)) + 1 for part in (0.9, 0.99)] == pytest.approx(
        [9, 19], abs=2
    )
    other = next(shaped(CASES, CHUNK, CHUNK + 10))
    assert len(other) == 10
    assert np.max(other @ rows.T) < 0.99999
    assert np.linalg.norm(next(isotropic(CASES)).mean(axis=0)) < 0.1


def test_every_stage_measures_what_the_table_says(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_scale, "ADDING_S", 0.5)
    database = tmp_path / "memory.db"
    figures = {"cases": CASES, "dimension": 512}
    for stage in ("fill", "first", "serve", "hard"):
        figures[stage] = memory_scale.run_stage(stage, database, CASES, 40)
    assert figures["serve"]["source"] == "kept files"
    assert figures["serve"]["recall"] > 0.9
    assert figures["serve"]["published"] > 0.9
    assert figures["serve"]["added"] > 0
    assert figures["first"]["kept_bytes"] > 2 * 512 * 2048
    text = memory_scale.table(figures)
    assert f"{figures['serve']['recall']:.4f}" in text
    assert "restart" in text
    missed = {**figures, "serve": {**figures["serve"], "restart_s": memory_scale.MAX_RESTART_S + 1.0}}
    assert not memory_scale.reached(missed)


def test_growth_is_read_while_cases_are_learned_and_told_for_each_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_growth, "WARM_UP", 20)
    found = memory_growth.learned(80, tmp_path)
    assert found.cases == tuple(range(8, 81, 8)) and found.cases[found.warm] == 24
    assert len(found.resident_mb) == memory_growth.READINGS and min(found.resident_mb) > 10.0
    # An embedding of 512, a chunk of 16 x 7, every second time another, and the robot's state.
    assert found.own_kb == pytest.approx(4e-3 * (512 + 1.5 * 112 + 15))
    grown = memory_growth.Growth((500, 1_000, 2_000), (50.0, 100.0, 106.0), 2.0, 1)
    assert grown.a_case_kb == pytest.approx(6.0) and not grown.reached
    assert "6.0 kB a case beside 2.0 kB of its own arrays (ratio 3.00)" in grown.table()
