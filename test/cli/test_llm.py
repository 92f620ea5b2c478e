# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla llm``: from episodes to a provider by name, on a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flow_rag_vla.cli.main import app
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.data.episode_record import EpisodeRecord, record_path, write_record
from flow_rag_vla.llm.fine_tuning.registration import VARIABLE

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))
from tiny import make_tiny_model


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "registered"))

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["llm", *map(str, arguments)], env={"COLUMNS": "200"})

    return invoke


@pytest.fixture
def episodes(tmp_path):
    folder = tmp_path / "run" / "episodes"
    words = ["", "please ", "now ", "robot, ", "first "]
    for number, goal in enumerate(goal for goal in GOALS for _ in words):
        said = words[number % len(words)] + goal.instruction
        record = EpisodeRecord(number + 1, goal.task, "nominal", said, 7, "success", "", 0, 1, 1.0, 20.0)
        path = record_path(folder, number + 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, record)
    return folder.parent


def test_the_whole_way_from_episodes_to_a_provider(run, episodes, tmp_path):
    lessons, tuning, merged = tmp_path / "lessons.jsonl", tmp_path / "tuning", tmp_path / "merged"
    prepared = run("prepare", episodes, "--to", lessons)
    assert prepared.exit_code == 0 and "30 conversations of 30" in prepared.output, prepared.output
    base = make_tiny_model(tmp_path / "base", spread=0.4)
    arguments = ["train", lessons, "--base", base, "--to", tuning, "--device", "cpu", "--epochs", 1, "--longest", 4096]
    trained = run(*arguments)
    assert trained.exit_code == 0 and "kept for compare" in trained.output and "loss" in trained.output, trained.output
    made = run("merge", tuning, "--to", merged)
    assert made.exit_code == 0 and "differ" in made.output, made.output
    assert run("register", "robot-plans", merged).exit_code == 0
    assert "robot-plans" in run("list").output
    compared = run("compare", lessons, "--model", "robot-plans", "--seconds", 0.1, "--most", 1)
    assert compared.exit_code == 0 and "rules" in compared.output and "robot-plans" in compared.output, compared.output
    assert run("unregister", "robot-plans").exit_code == 0 and "none is registered" in run("list").output


@pytest.mark.parametrize(("options", "asked"), [((), False), (("--gradient-checkpointing",), True)])
def test_gradient_checkpointing_reaches_the_training(run, tmp_path, monkeypatch, options, asked):
    from flow_rag_vla.llm.fine_tuning import training

    given = []

    def train(base, seen, folder, settings, *_rest):
        given.append(settings.gradient_checkpointing)
        return training.Trained(folder, 1, (1.0,), 0)

    monkeypatch.setattr(training, "train", train)
    lessons = tmp_path / "lessons.jsonl"
    turns = [[{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": "x"}] for number in "1234"]
    lessons.write_text("".join(json.dumps({"conversations": one}) + "\n" for one in turns))
    assert run("train", lessons, "--base", "b", "--to", tmp_path / "t", *options).exit_code == 0
    assert given == [asked]


def test_reviewed_floor_plans_are_learned_from_and_a_pair_that_is_wrong_is_named(run, tmp_path):
    folder, lessons = tmp_path / "reviewed", tmp_path / "lessons.jsonl"
    folder.mkdir()
    finding = {"rule": "R1", "status": "cannot_tell", "spaces": ["b1"], "finding": "no area is given"}
    analysis = {
        "compliance": [finding],
        "design_evaluation": {"strengths": [], "weaknesses": [], "score": 50},
        "summary": "Too little is known.",
    }
    rules = [{"number": "R1", "text": "a bedroom has 9 square metres", "source": "code.md#0"}]
    for name, who in (("house", {"reviewed_by": "kim"}), ("shed", {})):
        plan = {"spaces": [{"id": "b1", "kind": "bedroom"}]}
        (folder / f"{name}.topology.json").write_text(json.dumps(plan))
        (folder / f"{name}.analysis.json").write_text(json.dumps({"analysis": analysis, "rules": rules, **who}))
    result = run("prepare", "--floor-plans", folder, "--to", lessons)
    assert result.exit_code == 0 and "1 conversations of 1" in result.output, result.output
    assert f"{folder / 'shed.analysis.json'}: " in result.output and "reviewed_by: Field required" in result.output
    (turns,) = [json.loads(line)["conversations"] for line in lessons.read_text().splitlines()]
    assert json.loads(turns[-1]["content"]) == analysis
    (folder / "house.analysis.json").unlink()
    nothing = run("prepare", "--floor-plans", folder, "--to", lessons)
    assert nothing.exit_code == 1 and "no plan with a reviewed analysis" in nothing.output
    assert run("prepare", "--floor-plans", tmp_path / "nowhere", "--to", lessons).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prepare", "--to", "x.jsonl"), "hold nothing to learn from"),
        (("prepare", "--to", "x.jsonl", "-d", "nowhere.db"), "nowhere.db"),
        (("train", "nowhere.jsonl", "--base", "b", "--to", "t"), "cannot be read"),
        (("merge", "nowhere", "--to", "m"), "holds no adapter"),
        (("compare", "nowhere.jsonl", "--model", "m"), "cannot be read"),
        (("register", "rules", "."), "cannot be a provider's name"),
        (("unregister", "nobody"), "known: none"),
    ],
)
def test_what_goes_wrong_is_one_line(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output, result.output
