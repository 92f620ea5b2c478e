# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong is said at once, with the value and the remedy, and leaves nothing behind."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app

WRONG = (
    ("sim -t nope", "unknown task 'nope'; known tasks: pick_and_place"),
    ("sim --variant nope", "--variant 'nope' is not known; known: plain"),
    ("sim --corrector nope", "corrector is 'nope', expected one of consensus"),
    ("sim --log-level loud", "log_level is 'loud', expected one of debug"),
    ("sim --params-file nope.yaml", "params_file 'nope.yaml' does not exist; copy config/flow_rag_vla.yaml"),
    ("sim --runs /proc/nope", "cannot be made: No such file or directory; see --runs"),
    ('sim -i "don\'t open the drawer"', "is refused (negated)"),
    ("sim -i '서랍을 열고 빨간 큐브를 통에 넣어줘'", "is 2 tasks; flow_rag_vla ask --run does them in turn"),
    ("deliberate 'open the drawer' --profile frank", "did you mean 'franka'?"),
    ("sim --with nope", "--with nope: expected one of llm, deliberation, labeling"),
    ("robot --profile mock --with controller", "--with controller: expected one of llm"),
    ("sim --checkpoint nope", "checkpoint 'nope' holds no policy.json; give a policy's folder, such as runs/train"),
    ("robot --profile mock --checkpoint empty", "checkpoint 'empty' holds no policy.json"),
    ("replay --graph empty --checkpoint nope", "checkpoint 'nope' holds no policy.json"),
    ("approve", "approve asks a person: run it at a terminal"),
    ("score won", "'won' is no outcome; say success or failure"),
    ("robot", "profile is empty; name one of franka"),
    ("robot --profile frank --runs runs", "did you mean 'franka'?"),
    ("robot --check empty", "profile 'empty' is not known; shipped: franka"),
    ("live --new-token a:king --tokens t.json", "with a role of viewer, labeller"),
    ("live --new-token a:viewer --tokens /proc/t.json", "cannot be written: no file can be made there; name another"),
    ("ask 'make me coffee'", "did you mean 'take'?"),
    ("report nope", "nope is no run folder; give one of those below runs/"),
    ("report empty", "empty holds no run.json, episodes or bag"),
    ("evaluate --task push --checkpoint nope", "no policy.json in nope; give a folder with a policy checkpoint"),
    ("proof --ground push", "--ground 'push' is no TASK/SCENE; give for example open_drawer/object_size"),
    ("why empty 1", "holds no .mcap or .db3 file; give the folder that the recorder wrote"),
    ("why nope 1", "there is nothing at nope; give a bag folder, a run folder such as runs/TIME, or a file"),
    (
        "regret nope --task push",
        "nope holds no failure_memory.db; make a bank: flow_rag_vla practice, or evaluate --collect N",
    ),
    ("registry stats nope", "no registry; check the path, or make one: flow_rag_vla label PICTURES --registry FOLDER"),
    ("label-dataset export cups --to out", "or where a name is taken, its folder of datasets with --store"),
    ("external --task metaworld/pusch", "did you mean push-v3?"),
    ("record --profile nope", "profile 'nope' is not one of graph, control"),
    ("memory list -d nope.db", "nope.db: there is no such database; check the path"),
    ("bench nope", "unknown benchmark 'nope'; known: loop"),
    ("reference --picture blue", "--picture is 'blue', expected one of light, dark"),
    ("reference --yaml --picture dark", "give one of them"),
)


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_it_is_said_and_nothing_is_made(line, said, tmp_path: Path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(line), env={"COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert said in " ".join(result.output.split())
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
