# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "gym/CartPole-v1"], "continuous version"),
        (["--task", "atari/Pong"], "is not understood"),
        (["--task", "gym/MountainCarContinuous-v0", "--memory", "magic"], "magic"),
        (["--task", "gym/MountainCarContinuous-v0", "--success", "won"], "is not understood"),
        (["--task", "gym/Pendulum-v1"], "has no expert"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(tmp_path, arguments, message):
    result = run("external", *arguments, "--prepared", tmp_path / "p", "--output", tmp_path / "o")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_evaluate_takes_an_environment_by_a_name_with_a_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = run("evaluate", "--task", "gym/Pendulum-v1", "--workers", 1)
    assert refused.exit_code == 2
    assert "has no expert" in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "controls"], "--memory retry,blend,shuffled+residual"),
        (["--variant", "held_out_strip"], "--variant is for this machine's simulator"),
        (["--collect", 5, "--cases", "bank"], "--cases is for this machine's simulator"),
        (["--delay-ticks", 3], "--delay-ticks is for this machine's simulator"),
    ],
)
def test_evaluate_leaves_no_option_out_in_silence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    refused = run("evaluate", "--task", "gym/MountainCarContinuous-v0", *arguments)
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
    assert not list(tmp_path.iterdir())


def test_trials_leave_a_folder_that_can_be_gone_on_with(tmp_path):
    arguments = [
        *("external", "--task", "gym/MountainCarContinuous-v0", "--memory", "dagger", "--step-limit", 200),
        *("--bank-episodes", 1, "--iterations", 40, "--prepared", tmp_path / "p", "--output", tmp_path / "o"),
    ]
    first = run(*arguments, "--episodes", 1)
    assert first.exit_code == 0, first.output
    again = run(*arguments, "--episodes", 2, "--resume")
    assert again.exit_code == 0, again.output
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert [group["starts"] for group in summary["groups"]] == [2]
    assert {item["variant"] for item in summary["groups"][0]["variants"]} == {"off", "dagger"}
