# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench deliberation``, ``pace`` and ``swapping``: run by name, with their figures."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from flow_rag_vla.cli import bench, bench_deliberation, bench_likeness, bench_pace
from flow_rag_vla.cli.main import app
from flow_rag_vla.deliberation.stages import STAGES
from flow_rag_vla.evaluate.benchmarks.swapping import SwappingFigures


def test_every_stage_is_timed_and_no_known_command_is_planned_wrongly(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_deliberation, "ROUNDS", 100)
    result = CliRunner().invoke(app, ["bench", "deliberation", "--quick", "--json", str(tmp_path)])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "deliberation.json").read_text())
    assert tuple(figures["stages"]) == STAGES and figures["checks_per_second"] > 0
    assert figures["plans"]["wrong"] == 0 and sum(figures["plans"].values()) >= 20
    means = sum(mean for _, mean in figures["stages"].values())
    assert abs(means - figures["whole_mean_ms"]) < 1e-6, "the stages are the whole"
    assert "bare call of the provider" in result.output


def test_a_starts_own_case_is_found_with_the_hand_where_the_cases_was(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_likeness, "STARTS", 12)
    monkeypatch.setattr("flow_rag_vla.sim.tasks.TASK_RULES", {"pick_and_place": _rule("pick_and_place")})
    result = CliRunner().invoke(app, ["bench", "likeness", "--quick", "--json", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (found,) = json.loads((tmp_path / "likeness.json").read_text())["figures"]
    assert found["starts"] == 3 and found["moved"] == found["alike"] == 3
    assert found["own"] > 0.5 > found["others"]


def test_slower_runs_are_the_same_starts_and_take_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_pace, "STARTS", 4)
    monkeypatch.setattr(bench_pace, "PACES", (1.0, 0.5))
    monkeypatch.setattr("flow_rag_vla.sim.tasks.TASK_RULES", {"open_drawer": _rule("open_drawer")})
    result = CliRunner().invoke(app, ["bench", "pace", "--quick", "--json", str(tmp_path)])
    assert result.exit_code == 0, result.output
    whole, half = json.loads((tmp_path / "pace.json").read_text())["figures"]
    assert (whole["starts"], whole["successes"], half["successes"]) == (1, 1, 1)
    assert half["median_s"] > 1.5 * whole["median_s"]


def _rule(task):
    from flow_rag_vla.sim.tasks import TASK_RULES

    return TASK_RULES[task]


def test_swapping_tells_the_ratio_and_whether_the_target_is_met():
    loop, timer = {"p50": (0.02, 0.02), "p99": (1.0, 1.05)}, {"p50": (0.02, 0.03), "p99": (1.0, 2.0)}
    figures = SwappingFigures(4, 30.0, loop, timer, (0, 0), {"tokens": 10.0})
    assert figures.reached and "ratio 1.05, target at most 1.1" in figures.table()
    assert not SwappingFigures(4, 30.0, timer, timer, (0, 0), {}).reached


def test_they_run_only_when_they_are_named():
    assert all(bench.BENCHMARKS[name].on_request for name in ("deliberation", "likeness", "pace", "swapping"))
