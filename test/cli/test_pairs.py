# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The command that runs the graph with and without memory: what it refuses before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory", "nowhere.db"], "no failure memory"),
        (["--memory", "nowhere.db", "--task", "juggle"], "juggle"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_reason(arguments: list[str], words: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["pairs", *arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 2 and words in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_its_help_shows_an_example():
    done = CliRunner().invoke(app, ["pairs", "--help"], env={"COLUMNS": "160", "TERM": "dumb"})
    assert done.exit_code == 0 and "flow_rag_vla pairs --memory" in done.output
