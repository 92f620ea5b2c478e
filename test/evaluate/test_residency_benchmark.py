# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of leases, phases and the pipeline, sized down: what it prints is what was measured."""

from __future__ import annotations

import json

from flow_rag_vla.evaluate.benchmarks import residency


def test_every_part_measures_what_the_table_says(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(residency, "LARGEST", 400_000)
    path = tmp_path / "residency.json"
    residency.main(["--leases", "400", "--workers", "8", "--rounds", "2", "--messages", "400", "--json", str(path)])
    figures = json.loads(path.read_text())
    leases, phases, pipeline = figures["leases"], figures["phases"], figures["pipeline"]
    assert leases["failed"] == 0 and leases["peak"] <= leases["budget"]
    assert leases["loads"] > residency.MODELS // 3 and leases["evictions"] > 0, "the budget was full"
    assert len(leases["managed_s"]) == len(leases["baseline_s"]) == residency.PARTS
    assert phases["peak"] <= phases["budget"] and phases["loads"] == 4 and "out of memory" in phases["baseline"]
    assert pipeline["barriers"] == 4 and pipeline["piped_per_s"] > 0
    printed = capsys.readouterr().out
    assert f"{leases['loads']} loads" in printed and f"{pipeline['messages']} messages, 4 barriers" in printed


def test_a_target_that_is_missed_is_told():
    fine = residency.LeaseFigures(10, 2, 8, 8, 3, 1, 0, (1.0,), (0.9,), 0.9, 5.0)
    slow = residency.LeaseFigures(10, 2, 8, 8, 3, 1, 0, (1.0,), (0.7,), 0.9, 5.0)
    over = residency.LeaseFigures(10, 2, 8, 9, 3, 1, 0, (1.0,), (0.9,), 0.9, 5.0)
    lost = residency.LeaseFigures(10, 2, 8, 8, 3, 1, 1, (1.0,), (0.9,), 0.9, 5.0)
    assert [one.reached for one in (fine, slow, over, lost)] == [True, False, False, False]
