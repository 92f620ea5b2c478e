# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The command that serves the live page: tokens, addresses and wrong arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.bringup.graph import sim_graph
from flow_rag_vla.cli.live import Log, with_page
from flow_rag_vla.cli.main import app
from flow_rag_vla.gateway.access import Role, load_access


def run(*arguments: str):
    return CliRunner().invoke(app, ["live", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def test_a_new_token_is_shown_once_and_kept_as_a_digest(tmp_path):
    file = tmp_path / "lab.json"
    result = run("--tokens", str(file), "--new-token", "ada:operator", "--expires", "8")
    assert result.exit_code == 0, result.output
    secret = re.search(r"shown this once: (\S+)", result.output)
    assert secret is not None
    assert secret[1] not in file.read_text()
    assert load_access(file).check(secret[1], Role.OPERATOR).name == "ada"


def test_a_second_person_is_added_and_the_same_one_gets_a_new_token(tmp_path):
    file = tmp_path / "lab.json"
    for who in ("ada:operator", "bo:viewer", "ada:reviewer"):
        assert run("--tokens", str(file), "--new-token", who).exit_code == 0
    kept = {entry["name"]: entry["role"] for entry in json.loads(file.read_text())["tokens"]}
    assert kept == {"bo": "viewer", "ada": "reviewer"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--new-token", "ada:operator"), "needs the file"),
        (("--tokens", "{folder}/t.json", "--new-token", "ada"), "NAME:ROLE"),
        (("--tokens", "{folder}/t.json", "--new-token", "ada:root"), "viewer, labeller, reviewer, operator"),
        (("--tokens", "{folder}/open.json", "--new-token", "ada:viewer"), "chmod 600"),
        (("--params-file", "{folder}/none.yaml"), "does not exist"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, arguments, says):
    (tmp_path / "open.json").write_text('{"tokens": []}')
    (tmp_path / "open.json").chmod(0o644)
    result = run(*(argument.format(folder=tmp_path) for argument in arguments))
    assert result.exit_code == 2
    assert says in re.sub(r"[│\s]+", " ", result.output)


def test_a_simulation_with_a_page_prints_its_address_and_keeps_the_secret_out_of_its_folder(tmp_path, capsys):
    from rich.console import Console

    graph = sim_graph({"dashboard": "true"}, Path("parameters.yaml"))
    processes = with_page(Console(soft_wrap=True), graph, tmp_path, 8700)
    dashboard = next(item for item in processes if item.spec.name == "dashboard")
    assert dashboard.overrides["port"] == 8700
    printed = dict(re.findall(r"live page, (\w+): http://127.0.0.1:8700/live/#token=(\S+)", capsys.readouterr().out))
    assert set(printed) == {"viewer", "operator"}
    access = load_access(dashboard.overrides["tokens"])
    assert access.check(printed["operator"], Role.OPERATOR)
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not any(secret in kept for secret in printed.values())


def test_a_log_is_read_by_whole_lines(tmp_path):
    path = tmp_path / "node.log"
    path.write_text("one\ntw")
    log = Log(path)
    assert log.lines() == ["one"]
    path.write_text("one\ntwo\n")
    assert log.lines() == ["two"]
    assert log.lines() == []
