# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench residency``: known by name, and not part of the runs that nobody named."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from flow_rag_vla.cli import bench
from flow_rag_vla.cli.main import app
from flow_rag_vla.evaluate.benchmarks import residency


def test_the_benchmark_is_run_by_name_and_leaves_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(residency, "LARGEST", 100_000)
    full = residency.main
    small = ["--leases", "100", "--workers", "4", "--rounds", "1", "--messages", "100"]
    monkeypatch.setattr(residency, "main", lambda arguments: full([*small, *arguments]))
    result = CliRunner().invoke(app, ["bench", "residency", "--json", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "residency.json").read_text())["leases"]["leases"] == 100


def test_it_runs_only_when_it_is_named():
    assert bench.BENCHMARKS["residency"].on_request
    assert bench.complete_benchmark("resi") == ["residency"]
