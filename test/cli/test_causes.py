# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla causes`` over a log, and over what is none."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.evaluate.trials.journal import Journal
from flow_rag_vla.evaluate.trials.protocol import Start, Trial, TrialResult
from flow_rag_vla.sim.scene import sample_scene


def test_a_log_of_trials_gives_a_table_and_a_page(tmp_path: Path) -> None:
    with Journal(tmp_path / "trials.jsonl") as journal:
        for seed in range(60):
            drawer = sample_scene("open_drawer", "object_size", seed).drawer
            assert drawer is not None
            trial = Trial("pybullet/open_drawer/object_size/p", "off", Start(seed, seed))
            journal.append(TrialResult(trial, "open_drawer", "object_size", "p", drawer.scale < 1.0, 5.0))
    page = tmp_path / "causes.html"
    arguments = ["causes", str(tmp_path), "-v", "scale", "--html", str(page)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "unique scale" in result.output and "no proof" not in result.output and "not proof" in result.output
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    listed = CliRunner().invoke(app, ["causes", str(tmp_path), "--list"])
    assert "friction: 60 different values" in listed.output
    few = CliRunner().invoke(app, ["causes", str(tmp_path), "--method", "retry"])
    assert few.exit_code == 2 and "no episode is left" in few.output


def test_what_is_no_log_is_said_with_the_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["causes", str(tmp_path)])
    assert result.exit_code == 2 and "name a run's folder" in result.output and "Traceback" not in result.output
