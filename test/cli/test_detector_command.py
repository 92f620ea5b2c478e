# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla detector`` from pictures to pages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.training import checkpoint

LONG = 150.0
TINY = ["--size", "tiny", "--width", "64", "--height", "64", "--batch", "4", "--threads", "1", "--tracking", "none"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["detector", *words])


def test_a_detector_is_trained_used_and_measured(run, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    done = run("train", "simulator:1", "-o", str(folder), "--epochs", "1", *TINY)
    assert done.exit_code == 0 and "best mAP on the validation pictures" in done.output, done.output
    assert "| drawer |" in (folder / "model" / "MODEL_CARD.md").read_text()
    # A training's own folder stands for its model.
    page = tmp_path / "page"
    scored = run("evaluate", "simulator:1", "--detector", "detr", "-m", str(folder), "-o", str(page), "--most", "2")
    assert scored.exit_code == 0 and "2 pictures of simulator:1, test: mAP" in scored.output, scored.output
    assert json.loads((page / "evaluation.json").read_text())["pictures"] == 2


def test_a_dataset_that_is_not_there_leaves_no_folder_behind(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run("train", "nope")
    assert refused.exit_code == 2 and "nope holds no manifest.json" in refused.output, refused.output
    assert "label-dataset build" in refused.output and "metrics in" not in refused.output
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_training_with_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    words = ["detector", "train", "simulator:1", "-o", str(folder), "--epochs", "9999", "--save-every", "1", *TINY]
    command = [sys.executable, "-m", "flow_rag_vla.cli.main", *words]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + LONG
        while checkpoint.read(folder) is None:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 130, (tmp_path / "log").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    standing = checkpoint.read(folder)
    text = (tmp_path / "log").read_text()
    assert standing is not None and "the same command goes on" in text and "Traceback" not in text
    assert f"interrupted at step {standing.step} of" in text and (folder / "training.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "nowhere"), "there is no dataset"),
        (("train", "simulator:1", "--width", "100"), "width is 100, expected a multiple of 32"),
        (("train", "simulator:none"), "is not of the form simulator:N"),
        (("evaluate", "simulator:1", "--detector", "yolo"), "unknown detector 'yolo'"),
        (("evaluate", "simulator:1", "--part", "all"), "part 'all' is none of train, val, test"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    run, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = run(*words, "-o", str(tmp_path / "out"))
    assert done.exit_code == 2 and said in " ".join(done.output.split()), done.output
