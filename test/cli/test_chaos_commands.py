# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that try the graph's endurance: what they refuse, and what their help shows."""

from __future__ import annotations

import os
import re

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.domain import own_domain
from flow_rag_vla.cli.main import app


def shown(*arguments):
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize(("command", "example"), [("chaos", "chaos -n 1000"), ("soak", "soak --hours 8")])
def test_the_help_shows_examples(command, example):
    code, text = shown(command, "--help")
    assert code == 0 and example in text


def test_an_unknown_kind_of_fault_is_refused_with_the_known_ones(tmp_path):
    code, text = shown("chaos", "--only", "earthquake", "--runs", str(tmp_path))
    assert code == 2 and "earthquake" in text and "kill" in text and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("--world", "mars"), ("--with", "simulator")])
def test_an_unknown_world_or_node_is_refused_with_the_known_ones(tmp_path, option, value):
    code, text = shown("chaos", option, value, "--runs", str(tmp_path))
    assert code == 2 and value in text and list(tmp_path.iterdir()) == []
    assert ("sim" if option == "--world" else "deliberation") in text


def test_a_domain_that_the_caller_chose_is_kept_and_else_one_is_claimed(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    own_domain()
    assert os.environ["ROS_DOMAIN_ID"] == "7"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    own_domain()
    assert 1 <= int(os.environ["ROS_DOMAIN_ID"]) <= 101
    first = os.environ.pop("ROS_DOMAIN_ID")
    own_domain()
    assert os.environ["ROS_DOMAIN_ID"] != first, "the first is claimed"
