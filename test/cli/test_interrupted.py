# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends every command that starts a graph with 130, but for those that run until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.bringup.supervisor import Supervisor
from flow_rag_vla.cli import sim as sim_command
from flow_rag_vla.cli.main import app
from flow_rag_vla.nodes import operator

runner = CliRunner()


def _interrupted(*_arguments: object, **_more: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """A name is enough: nothing reads it before the player."""
    path = tmp_path / "a.mcap"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sim", "--no-report", "--runs", "RUNS"], 130),
        (["sim", "--no-report", "--runs", "RUNS", "--wait"], 0),
        (["robot", "--profile", "mock", "--mock"], 0),
        (["robot", "--profile", "mock", "--mock", "--instruction", "open the drawer"], 130),
        (["soak", "--runs", "RUNS"], 130),
        (["replay", "BAG"], 130),
        (["replay", "BAG", "--loop"], 0),
        (["replay", "BAG", "--graph", "--runs", "RUNS"], 130),
        (["record", "NEW"], 0),
        (["record", "NEW", "--duration", "60"], 130),
    ],
)
def test_ctrl_c_is_130_where_it_cut_the_work_short(arguments, code, bag, tmp_path, monkeypatch):
    monkeypatch.setattr(Supervisor, "start", _interrupted)
    if arguments[0] == "soak":
        pytest.importorskip("psutil")
    places = {"BAG": str(bag), "RUNS": str(tmp_path / "runs"), "NEW": str(tmp_path / "new")}
    result = runner.invoke(app, [places.get(part, part) for part in arguments])
    assert result.exit_code == code, result.output


def test_a_report_that_ctrl_c_left_out_is_130_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sim_command, "_run", lambda *_arguments: 0)
    monkeypatch.setattr("flow_rag_vla.evaluate.report.make_report", _interrupted)
    result = runner.invoke(app, ["sim", "--runs", str(tmp_path)])
    assert result.exit_code == 130 and "report left out" in result.output, result.output


def test_a_plan_that_ctrl_c_ended_is_130(tmp_path, monkeypatch):
    monkeypatch.setattr(operator, "Operator", _interrupted)
    result = runner.invoke(app, ["ask", "open the drawer", "--run", "--runs", str(tmp_path)])
    assert result.exit_code == 130 and "stopping" in result.output, result.output
