# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The commands on a recorded run, as a person calls them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.policy.policy import FlowPolicy

runner = CliRunner()


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    """A run of one process, see test/evaluate/decisions/stage.py."""
    name = "flow_rag_vla_test_stage"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "evaluate" / "decisions" / "stage.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    stage = sys.modules[name].Stage(tmp_path_factory.mktemp("run"), FlowPolicy.load())
    return stage.run(110).bag


def test_two_variants_are_compared_in_text_page_and_json(bag, tmp_path):
    page, content = tmp_path / "d.html", tmp_path / "d.json"
    result = runner.invoke(
        app, ["replay", str(bag), "--memory", "off,recorded", "--html", str(page), "--json", str(content)]
    )
    assert result.exit_code == 0, result.output
    assert "off and recorded part at" in result.output and "case 41" in result.output
    assert "times as fast as it was recorded" in result.output
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(content.read_text())["cases"].keys() == {"41"}


def test_one_variant_is_held_against_what_was_decided_live(bag):
    result = runner.invoke(app, ["replay", str(bag), "--memory", "recorded"])
    assert result.exit_code == 0, result.output
    assert "every chunk, correction and command is the same, bit for bit" in result.output
    assert "no parameters are on record" in result.output


def test_another_seed_gives_other_decisions(bag):
    result = runner.invoke(app, ["replay", str(bag), "--memory", "recorded", "--seed", "3"])
    assert "recorded and live part at" in result.output


def test_why_prints_and_writes_a_page(bag, tmp_path):
    page = tmp_path / "why.html"
    result = runner.invoke(app, ["why", str(bag), "90", "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert "tick 90" in result.output and "gives this chunk bit for bit" in result.output
    assert "Path of the tool" in page.read_text()


def test_why_says_when_there_are_no_pictures_to_save(bag, tmp_path):
    result = runner.invoke(app, ["why", str(bag), "1", "--frames", str(tmp_path / "frames")])
    assert result.exit_code == 0 and "there are no pictures to save" in result.output, result.output
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["why", "BAG", "999"], "holds ticks"),
        (["why", "/nowhere", "1"], "there is nothing at /nowhere; give a bag folder, a run folder"),
        (["why", "BAG", "90", "--memory", "/nowhere.db"], "/nowhere.db is not there"),
        (["replay", "BAG", "--memory", "off,on,empty"], "expected one or two"),
        (["replay", "BAG", "--memory", "magic"], "not one of"),
        (["replay", "/nowhere"], "does not exist; name a bag folder, a run folder, or a file"),
        (["replay", "BAG", "--graph", "--remake", "soup"], "soup"),
        (["record", "--profile", "soup"], "soup"),
        (["dataset", "import", "/nowhere", "--to", "NEVER"], "LeRobot"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_started(bag, arguments, said, tmp_path):
    places = {"BAG": str(bag), "NEVER": str(tmp_path / "never")}
    values = [places.get(part, part) for part in arguments]
    if "--graph" in values:
        values += ["--runs", str(tmp_path / "runs")]
    result = runner.invoke(app, values, env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
