"""Ten minutes of the whole graph: nothing grows. Only with ``make long``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flow_rag_vla.evaluate.soak import rows

MOST_GROWTH = 1.0
"""Percent of a node's resident memory behind the warm-up."""


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_minutes_with_commands_in_words_do_not_grow(tmp_path: Path):
    figures = tmp_path / "soak.json"
    command = [sys.executable, "-m", "flow_rag_vla.cli.main", "soak", "-m", "10", "--words"]
    done = subprocess.run(
        [*command, "--runs", str(tmp_path), "--json", str(figures)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    content = json.loads(figures.read_text())
    nodes = {row["node"]: row for row in rows(content)}
    assert {"controller", "failure_memory", "llm", "deliberation"} <= nodes.keys()
    grown = {name: row["rss_mb_growth"] for name, row in nodes.items()}
    assert all(value is not None and value < MOST_GROWTH for value in grown.values()), grown
