# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Ten minutes of the whole graph: nothing grows but what stores. Only with ``make long``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flow_rag_vla.evaluate.soak import case_growth, rows

MOST_GROWTH = 1.0
"""Percent of a node's resident memory behind the warm-up."""

STORING = ("failure_memory", "recorder")
"""Nodes that keep what they are given. The recorder's is the index of its bag, until the bag is closed."""

MOST_A_CASE_KB = 12.0
"""Memory for each case that is learned behind the warm-up: twice the 6 of its index and of the whole case, which is
kept for answers until there are 2,048. ``flow_rag_vla bench memory`` measures what later ones take (target 5)."""

MOST_AT_ONCE_MB = 40.0
"""What the making of the first compressed indexes leaves behind: buffers of the libraries, which cases do not grow."""


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
    grown = {name: row["rss_mb_growth"] for name, row in nodes.items() if name not in STORING}
    assert all(value is not None and value < MOST_GROWTH for value in grown.values()), grown
    learned = case_growth(content)
    assert learned is not None and learned.cases > 100, learned
    assert learned.a_case_kb < MOST_A_CASE_KB and learned.once_mb < MOST_AT_ONCE_MB, learned
