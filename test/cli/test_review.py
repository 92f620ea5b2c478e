# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The console command ``review``: a link that opens, and an end by a signal."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.cli.review import _ended
from flow_rag_vla.labeling.training.jobs import Jobs
from flow_rag_vla.labeling.training.orders import EvaluateOrder


def test_the_printed_link_opens_the_page_and_its_token_the_registry_until_ctrl_c(tmp_path):
    command = [sys.executable, "-u", "-m", "flow_rag_vla.cli.main", "review", str(tmp_path / "labels"), "--create"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--name", "ada", "--detector-model", str(tmp_path / "no weights")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert "0 objects in 0 pictures" in process.stdout.readline()
        url, token = re.fullmatch(
            r"(http://127\.0\.0\.1:\d+)/labeling/#token=(\S+)", process.stdout.readline().strip()
        ).groups()
        with urllib.request.urlopen(f"{url}/labeling/") as page:
            assert "review.js" in page.read().decode()
        request = urllib.request.Request(f"{url}/api/labeling/me", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer) == {"name": "ada", "role": "reviewer", "may_review": True}
        request.full_url = f"{url}/api/labeling/models"
        with urllib.request.urlopen(request) as answer:
            problem = json.load(answer)["problem"]
        assert "in no weights;" in problem and tmp_path.name not in problem
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stdout.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("signals", [[1, 1], [1, 2]], ids=["once", "twice"])
def test_the_job_that_its_end_waits_for_is_named_and_a_second_signal_does_not_wait(tmp_path, signals):
    jobs, console = Jobs(tmp_path / "jobs", niceness=0), Console(record=True, soft_wrap=True, file=io.StringIO())
    came = iter(signals)
    with _ended(console, jobs, lambda: next(came, signals[-1])):
        jobs.start(EvaluateOrder("simulator:5000"), "one")
    assert "ending the job one" in console.export_text() and not jobs.under_way
    assert jobs.job("one").status.ended


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/nothing"], "there is no registry"),
        (["{folder}/labels", "--create", "--tokens", "{folder}/none.json"], "none.json"),
        (["{folder}/labels", "--create", "--media", "{folder}/none"], "no such folder"),
    ],
)
def test_what_cannot_be_served_is_named(tmp_path, arguments, said):
    filled = [part.format(folder=tmp_path) for part in arguments]
    result = CliRunner().invoke(app, ["review", *filled], env={"COLUMNS": "300"})
    assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output
