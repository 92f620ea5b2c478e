# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench replay``; what it measures is tested in test/evaluate and test/ros."""

from __future__ import annotations

from typer.testing import CliRunner

from flow_rag_vla.cli.bench_replay_graph import inside
from flow_rag_vla.cli.main import app

runner = CliRunner()


def test_a_bag_that_cannot_be_decided_again_is_named_before_anything_is_started(tmp_path):
    result = runner.invoke(app, ["bench", "replay", "--bag", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path} holds no .mcap or .db3 file" in result.output


def test_it_is_listed_with_what_it_measures():
    result = runner.invoke(app, ["bench", "--help"], env={"COLUMNS": "200"})
    assert "bench replay" in result.output and "--bag" in result.output


def test_pictures_shown_while_the_recorder_starts_do_not_count():
    printed = {
        "to_chunk": [1.0, 99.0, 2.0],
        "to_command": [3.0, 98.0],
        "to_tick": [4.0],
        "lost": 2,
        "stamps": {"to_chunk": [10, 25, 30], "to_command": [19, 20], "to_tick": [41], "lost": [24, 39]},
    }
    assert inside(printed, [10, 20, 30, 40]) == {"to_chunk": [1.0, 2.0], "to_command": [3.0], "to_tick": [], "lost": 1}
