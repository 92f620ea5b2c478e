# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Real paired runs: processes, kills, and what they leave on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flow_rag_vla.evaluate.trials.journal import read_trials
from flow_rag_vla.evaluate.trials.plan import Plan, make_plan
from flow_rag_vla.evaluate.trials.protocol import TrialError, TrialResult
from flow_rag_vla.evaluate.trials.session import REPORT, SETUP, SUMMARY, TABLES, TRIALS, check_setup, run_plan
from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
from flow_rag_vla.evaluate.trials.variants import parse_all

EPISODES, SEED = 2, 200_001
COMMAND = (
    sys.executable, "-m", "flow_rag_vla.cli.main", "evaluate", "--task", "push", "--variant", "plain",
    "--memory", "off,retry", "--episodes", str(EPISODES), "--seed", str(SEED),
)  # fmt: skip


def the_plan() -> Plan:
    return make_plan([simulated_spec("push", "plain")], parse_all("off,retry"), episodes=EPISODES, first_seed=SEED)


def repeatable(folder: Path) -> dict[str, TrialResult]:
    return {item.trial.key: item.repeatable for item in read_trials(folder / TRIALS)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    seen: list[tuple[int, int]] = []
    summary = run_plan(
        the_plan(), folder, workers=1, about={"command": "test"},
        progress=lambda done, total, outcome: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(done, 2 * EPISODES) for done in range(2 * EPISODES + 1)]
    assert summary.groups[0].starts == EPISODES
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_that_is_written_reads_back(uninterrupted: Path) -> None:
    assert sorted(item.name for item in uninterrupted.iterdir()) == sorted([SETUP, TRIALS, SUMMARY, TABLES, REPORT])
    assert len(repeatable(uninterrupted)) == 2 * EPISODES
    content = json.loads((uninterrupted / SUMMARY).read_text())
    assert [item["variant"] for item in content["groups"][0]["variants"]] == ["off", "retry"]
    assert json.loads((uninterrupted / SETUP).read_text())["benches"][0]["key"].startswith("pybullet/push/plain/")
    assert "Paired trials" in (uninterrupted / REPORT).read_text()
    for line in (uninterrupted / TRIALS).read_text().splitlines():
        assert json.loads(line)["format"] == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_give_what_one_gives(uninterrupted: Path, tmp_path: Path) -> None:
    run_plan(the_plan(), tmp_path, workers=2)
    assert repeatable(tmp_path) == repeatable(uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_goes_on_where_it_was(uninterrupted: Path, tmp_path: Path) -> None:
    started = interrupted(tmp_path, signal.SIGKILL, workers=1)
    assert started.returncode == -signal.SIGKILL
    kept = repeatable(tmp_path)
    assert 0 < len(kept) < 2 * EPISODES
    with (tmp_path / TRIALS).open("ab") as stream:
        stream.write(b'{"format":1,"trial":{"bench":"pyb')
    refused = subprocess.run([*COMMAND, "--output", str(tmp_path)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stdout.replace("\n", " ")
    again = subprocess.run(
        [*COMMAND, "--output", str(tmp_path), "--workers", "1", "--resume"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert repeatable(tmp_path) == repeatable(uninterrupted)
    assert list(repeatable(tmp_path))[: len(kept)] == list(kept)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_keeps_what_was_done_and_leaves_no_process(uninterrupted: Path, tmp_path: Path) -> None:
    ended = interrupted(tmp_path, signal.SIGINT, workers=2)
    assert ended.returncode == 130
    kept = repeatable(tmp_path)
    assert kept
    assert kept.items() <= repeatable(uninterrupted).items()
    assert json.loads((tmp_path / SUMMARY).read_text())["groups"] is not None
    assert all_gone(ended.pid)


def all_gone(group: int, timeout: float = 30.0) -> bool:
    """Python's resource tracker ends by itself, a moment after the process that it watches: give it that moment."""
    end = time.monotonic() + timeout
    while children_of(group) and time.monotonic() < end:
        time.sleep(0.02)
    return not children_of(group)


def interrupted(folder: Path, number: signal.Signals, workers: int) -> subprocess.Popen[bytes]:
    """A run in a process group of its own that gets a signal once its first trial is kept."""
    process = subprocess.Popen(
        [*COMMAND, "--output", str(folder), "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # A suite that was started in the background inherits that Ctrl-C is ignored; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while process.poll() is None and not (folder / TRIALS).is_file():
            time.sleep(0.02)
        while process.poll() is None and b"\n" not in (folder / TRIALS).read_bytes():
            time.sleep(0.02)
        os.killpg(process.pid, number)
        process.wait(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process


def children_of(group: int) -> list[int]:
    """Processes of a group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_trials_of_another_setup_are_not_continued(tmp_path: Path) -> None:
    plan = the_plan()
    check_setup(tmp_path, plan, resume=False)
    with pytest.raises(TrialError, match="--resume"):
        check_setup(tmp_path, plan, resume=False)
    check_setup(tmp_path, plan, resume=True)
    content = json.loads((tmp_path / SETUP).read_text())
    content["benches"][0]["source"] = "none"
    (tmp_path / SETUP).write_text(json.dumps(content))
    with pytest.raises(TrialError, match="source of pybullet/push"):
        check_setup(tmp_path, plan, resume=True)
    (tmp_path / SETUP).write_text("{")
    with pytest.raises(TrialError, match="cannot be read"):
        check_setup(tmp_path, plan, resume=True)
    (tmp_path / SETUP).unlink()
    (tmp_path / TRIALS).write_text("")
    with pytest.raises(TrialError, match="no setup"):
        check_setup(tmp_path, plan, resume=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory", "guide"], "--cases"),
        (["--memory", "guess"], "known: off"),
        (["--preset", "all"], "known: ablation"),
        (["--collect", "3"], "--cases FOLDER"),
        (["--memory", "off", "--resume"], "--output"),
        (["--variant", "nowhere"], "unknown variant"),
        (["--task", "fly"], "unknown task"),
        (["--memory", "off", "--cases", "a", "--cases", "b"], "one for each"),
        (["--checkpoint", "a", "--checkpoint", "b"], "pooled in paired trials"),
    ],
)
def test_the_command_says_what_is_wrong_and_writes_nothing(tmp_path, monkeypatch, options, words: str) -> None:
    from typer.testing import CliRunner

    from flow_rag_vla.cli.main import app

    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(app, ["evaluate", *options], env={"COLUMNS": "300"})
    assert outcome.exit_code == 2
    assert words in " ".join(outcome.output.split())
    assert not list(tmp_path.rglob("trials.jsonl"))


def test_without_a_memory_the_command_prints_success_and_keeps_every_episode(tmp_path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from flow_rag_vla.cli.main import app

    monkeypatch.chdir(tmp_path)
    options = ["--task", "push", "--episodes", "2", "--seed", str(SEED), "--workers", "1", "--output", "all.json"]
    outcome = CliRunner().invoke(app, ["evaluate", *options], env={"COLUMNS": "200"})
    assert outcome.exit_code == 0, outcome.output
    episodes = json.loads((tmp_path / "all.json").read_text())
    assert [(item["task"], item["variant"], item["seed"]) for item in episodes] == [
        ("push", "plain", SEED), ("push", "plain", SEED + 1),
    ]  # fmt: skip
    done = sum(item["success"] for item in episodes)
    assert f"({done}/2)" in outcome.output
    assert [item.name for item in tmp_path.iterdir()] == ["all.json"]
