# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla deliberate`` and its kin: decisions on the console, and refusals with their remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.deliberation.history import EpisodeFact, fact_to_json


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLM_PROVIDER", raising=False)


def test_a_decision_shows_checks_criteria_and_outcome(tmp_path: Path) -> None:
    facts = [EpisodeFact("pick_and_place", True, 4.0, first_contact=1.0, peak_force=5.0) for _ in range(8)]
    (tmp_path / "rehearsals.jsonl").write_text("".join(map(fact_to_json, facts)), encoding="utf-8")
    arguments = ["deliberate", "put the red cube in the bin", "--simulated", "3", "--log", str(tmp_path)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "accepted" in shown.output and "is inside the workspace" in shown.output and "certainty" in shown.output
    told = CliRunner().invoke(app, [*arguments, "--json"])
    decision = json.loads(told.output)
    assert decision["outcome"] == "accepted" and decision["score"]["terms"][0]["samples"] == 8


def test_a_scene_of_a_file_refuses_what_is_not_there_and_risky_plans_without_a_person(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    things = [{"name": "red cube", "position": [0.45, -0.1, 0.02]}, {"name": "bin", "position": [0.5, 0.24, 0.0]}]
    table.write_text(json.dumps([*things, {"name": "person", "position": [0.45, 0.9, 0.0]}]), encoding="utf-8")
    arguments = ["deliberate", "put the blue box in the bin", "--scene", str(table)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1 and "there is no blue box" in refused.output
    hasty = CliRunner().invoke(app, ["deliberate", "빨리 서랍을 열어"])
    assert "refused" in hasty.output and "to be done at" not in hasty.output
    risky = CliRunner().invoke(app, ["deliberate", "put the red cube in the bin", "--scene", str(table)])
    assert risky.exit_code == 1 and "nobody is there to ask" in risky.output
    table.write_text('[{"position": 3}]', encoding="utf-8")
    wrong = CliRunner().invoke(app, arguments)
    assert wrong.exit_code == 2 and "is no list of things" in wrong.output and "Traceback" not in wrong.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["regret", "nowhere", "--task", "push"], "holds no failure_memory.db"),
        (["regret", "nowhere", "--task", "dance"], "unknown task"),
        (["diagnose", "dance", "3"], "unknown task"),
        (["diagnose", "push", "3", "--variant", "upside_down"], "is not known"),
        (["deliberate", "open the drawer", "-p", "oracle"], "unknown provider"),
        (["deliberate", "open the drawer", "--log", "nowhere"], "nowhere is not there"),
        (["deliberate", "open the drawer", "--memory", "no.db"], "no.db is not there"),
        (["deliberate", "open the drawer", "--profile", "none.yaml"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output, result.output
